"""Regular languages closed under intersection and complement, by derivatives (Brzozowski, JACM 1964; Owens, Reppy and
Turon, "Regular-expression derivatives re-examined", JFP 2009).

A term says which texts match; its derivative by a character, which rests match behind that character. There is no
assertion here, so `&` and `~` may stand anywhere in a term, below a repetition or between two other parts:

    a&b   ──c──▶  (a by c) & (b by c)             ~a   ──c──▶  ~(a by c)

Terms are hash-consed numbers, in a normal form in which a language has finitely many derivatives, and these are the
states of an automaton. It is explored as a whole, and what no text can be completed from is cut off.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from grammar.charset import CharSet, refine
from grammar.errors import UnsatisfiableConstraint
from grammar.fuel import Fuel

Term = int
NOTHING: Term = 0
"""No text."""
EMPTY: Term = 1
"""The empty text."""
ANYTHING: Term = 2
"""Every text."""

_LEAF, _CHARS, _SEQ, _ALT, _BOTH, _NOT, _REPEAT = range(7)


@dataclass(frozen=True)
class Automaton:
    """A deterministic automaton over code points; every state has a completion, the start is state 0. ``edges``: for
    each state disjoint sets of characters, and where they lead."""

    edges: list[list[tuple[CharSet, int]]]
    accepting: list[bool]


class Derivatives:
    """Terms over the characters of ``alphabet``. ConstraintTooLarge when the fuel for making them is spent."""

    def __init__(self, alphabet: CharSet, fuel: Fuel) -> None:
        self._alphabet = alphabet
        self._fuel = fuel
        self._terms: list[tuple[int, tuple[int, ...], CharSet | None]] = []
        self._ids: dict[tuple[int, tuple[int, ...], CharSet | None], Term] = {}
        self._nullable: list[bool] = []
        self._first: list[frozenset[CharSet]] = []
        self._after: dict[tuple[Term, int], Term] = {}
        for term, nullable in ((NOTHING, False), (EMPTY, True), (ANYTHING, True)):
            self._term(_LEAF, (term,), None, nullable, frozenset())

    # -- terms ---------------------------------------------------------------------------------------------------------

    def chars(self, members: CharSet) -> Term:
        """One of some characters."""
        within = members & self._alphabet
        return self._term(_CHARS, (), within, False, frozenset((within,))) if within else NOTHING

    def seq(self, parts: Iterable[Term]) -> Term:
        """One after the other."""
        whole = EMPTY
        for part in reversed(list(parts)):
            whole = self._then(part, whole)
        return whole

    def alt(self, options: Iterable[Term]) -> Term:
        """One of them."""
        return self._merged(_ALT, options, NOTHING, ANYTHING)

    def both(self, conditions: Iterable[Term]) -> Term:
        """What all of them match."""
        return self._merged(_BOTH, conditions, ANYTHING, NOTHING)

    def negation(self, term: Term) -> Term:
        """What a term does not match."""
        if term in (NOTHING, ANYTHING):
            return ANYTHING if term == NOTHING else NOTHING
        kind, parts, _ = self._terms[term]
        if kind == _NOT:
            return parts[0]
        return self._term(_NOT, (term,), None, not self._nullable[term], self._first[term])

    def repeat(self, body: Term, least: int, most: int | None) -> Term:
        """``body`` least to most times; None: no limit."""
        if most == 0 or body == EMPTY or (body == NOTHING and least == 0):
            return EMPTY
        if body == NOTHING or (least == 1 and most == 1):
            return body
        if self._nullable[body]:
            least = 0
        limit = -1 if most is None else most
        return self._term(_REPEAT, (body, least, limit), None, least == 0, self._first[body])

    def _then(self, one: Term, other: Term) -> Term:
        if one == NOTHING or other == NOTHING:
            return NOTHING
        if one == EMPTY or other == EMPTY:
            return one if other == EMPTY else other
        chain: list[Term] = []
        while self._terms[one][0] == _SEQ:
            part, one = self._terms[one][1]
            chain.append(part)
        for part in (one, *reversed(chain)):
            first = self._first[part] | self._first[other] if self._nullable[part] else self._first[part]
            other = self._term(_SEQ, (part, other), None, self._nullable[part] and self._nullable[other], first)
        return other

    def _merged(self, kind: int, terms: Iterable[Term], neutral: Term, absorbing: Term) -> Term:
        flat: set[Term] = set()
        for term in terms:
            flat.update(self._terms[term][1] if self._terms[term][0] == kind else (term,))
        flat.discard(neutral)
        if absorbing in flat:
            return absorbing
        if len(flat) < 2:
            return flat.pop() if flat else neutral
        parts = tuple(sorted(flat))
        nullable = (any if kind == _ALT else all)(self._nullable[part] for part in parts)
        self._fuel.spend(len(parts) // 16)
        return self._term(kind, parts, None, nullable, frozenset[CharSet]().union(*(self._first[p] for p in parts)))

    def _term(
        self, kind: int, parts: tuple[int, ...], members: CharSet | None, nullable: bool, first: frozenset[CharSet]
    ) -> Term:
        """``first``: the sets of characters that the derivative is made by."""
        key = (kind, parts, members)
        found = self._ids.get(key)
        if found is None:
            self._fuel.spend()
            found = self._ids[key] = len(self._terms)
            self._terms.append(key)
            self._nullable.append(nullable)
            self._first.append(first)
        return found

    # -- the automaton -------------------------------------------------------------------------------------------------

    def automaton(self, term: Term) -> Automaton:
        """UnsatisfiableConstraint when nothing matches."""
        reached = {term: 0}
        edges: list[list[tuple[CharSet, Term]]] = []
        queue = [term]
        for here in queue:
            ways: dict[Term, CharSet] = {}
            for cell in self._cells(here):
                after = self._by(here, cell.bounds[0])
                ways[after] = ways[after] | cell if after in ways else cell
                if after not in reached:
                    reached[after] = len(queue)
                    queue.append(after)
            edges.append([(members, after) for after, members in ways.items()])
        productive = self._productive(queue, edges)
        if term not in productive:
            raise UnsatisfiableConstraint("no text that can be written matches it")
        kept = {here: number for number, here in enumerate(here for here in queue if here in productive)}
        return Automaton(
            [[(by, kept[to]) for by, to in edges[reached[here]] if to in kept] for here in kept],
            [self._nullable[here] for here in kept],
        )

    def _productive(self, terms: list[Term], edges: list[list[tuple[CharSet, Term]]]) -> set[Term]:
        """The terms that some text completes."""
        before: dict[Term, list[Term]] = {}
        for here, ways in zip(terms, edges, strict=True):
            for _, after in ways:
                before.setdefault(after, []).append(here)
        queue = [here for here in terms if self._nullable[here]]
        found = set(queue)
        for after in queue:
            for here in before.get(after, ()):
                if here not in found:
                    found.add(here)
                    queue.append(here)
        return found

    def _cells(self, term: Term) -> Iterator[CharSet]:
        """Sets of characters within which the derivative is the same, of all the alphabet."""
        rest = self._alphabet
        for cell, _ in refine(tuple(sorted(self._first[term], key=lambda members: members.bounds))):
            self._fuel.spend()
            rest -= cell
            yield cell
        if rest:
            yield rest

    def _by(self, term: Term, char: int) -> Term:
        """The derivative by a character."""
        found = self._after.get((term, char))
        if found is None:
            found = self._after[term, char] = self._derived(term, char)
        return found

    def _derived(self, term: Term, char: int) -> Term:
        self._fuel.spend()
        kind, parts, members = self._terms[term]
        if kind == _LEAF:
            return ANYTHING if term == ANYTHING else NOTHING
        if members is not None:
            return EMPTY if char in members else NOTHING
        if kind == _SEQ:
            return self._derived_seq(term, char)
        if kind == _ALT:
            return self.alt([self._by(part, char) for part in parts])
        if kind == _BOTH:
            return self.both([self._by(part, char) for part in parts])
        if kind == _NOT:
            return self.negation(self._by(parts[0], char))
        body, least, most = parts
        left = self.repeat(body, max(least - 1, 0), None if most < 0 else most - 1)
        return self._then(self._by(body, char), left)

    def _derived_seq(self, term: Term, char: int) -> Term:
        """Down the chain as far as its parts may be empty: a loop, for chains are long and calls are not."""
        found: list[Term] = []
        while self._terms[term][0] == _SEQ:
            one, other = self._terms[term][1]
            found.append(self._then(self._by(one, char), other))
            if not self._nullable[one]:
                return self.alt(found)
            term = other
        return self.alt([*found, self._by(term, char)])
