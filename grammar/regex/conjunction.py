r"""Intersection, complement and lookarounds: an alternating automaton, explored and trimmed.

A state is a conjunction about the text that remains: it matches every *goal* and no *denial*, where a goal is a state
of `grammar.regex.terms` and a denial a set of conjunctions none of which may hold. Passing a lookahead adds a goal or
a denial; passing a lookbehind consults a DFA that has read the text so far, which is part of the state as long as a
lookbehind may still come.

    a(?=b)[ab]*    reading a:  goals {[ab]*, b.*}      reading b:  goals {[ab]*}  (.* is dropped: it always holds)

Conjunctions can contradict each other, so whether a text fulfils one is searched for under fuel, when an edge first
leads to it; edges to those that no text fulfils are cut off. A search ends where a text may end, at a conjunction of
one plain goal, which is productive by itself, and at whatever an earlier search has found; what it has read stays read.
So the product of all conditions is built where texts go, and whole only where nothing fulfils it or lengths are asked
for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import reduce

from grammar.charset import CharSet, refine
from grammar.errors import UnsatisfiableConstraint
from grammar.fuel import Fuel
from grammar.regex import lengths
from grammar.regex.syntax import Ahead, Alt, Behind, Node, Repeat, Seq
from grammar.regex.terms import NIL, TOP, Assertion, Terms

_TRUE = 0
"""The conjunction of nothing."""


@dataclass
class _Move:
    """What reading a character does: for each set of characters the next conjunction; and whether the text may end
    before."""

    edges: list[tuple[CharSet, int]] = field(default_factory=list)
    accepts: bool = False


Context = tuple[tuple[int, ...] | None, ...]
"""For each lookbehind: the states of its DFA after the text so far, or None when it can no longer be asked for."""


class Conjunction:
    """The automaton of texts that match all ``goals`` and none of ``denied`` (states of ``terms``).

    Raises UnsatisfiableConstraint when there are none, ConstraintTooLarge when a search takes too much fuel.
    """

    def __init__(self, terms: Terms, goals: Sequence[int], denied: Sequence[int], fuel: Fuel) -> None:
        self._terms = terms
        self._fuel = fuel
        self._conjunctions: list[tuple[tuple[int, ...], tuple[int, ...]]] = [((), ())]
        self._conjunction_ids: dict[tuple[tuple[int, ...], tuple[int, ...]], int] = {((), ()): _TRUE}
        self._of_goal: dict[int, int] = {}
        self._denials: list[tuple[int, ...]] = []
        self._denial_ids: dict[tuple[int, ...], int] = {}
        self._lookbehinds: list[Node] = []
        self._context_free = terms.all_plain
        """No condition has a lookbehind."""
        self._consulted_by_node: dict[Node, int] = {}
        self._consulted_by_term: dict[int, int] = {NIL: 0, TOP: 0}
        self._moves: dict[tuple[int, Context], _Move] = {}
        self._steps: dict[tuple[int, ...], list[tuple[CharSet, tuple[int, ...]]]] = {}
        self._states: list[tuple[int, Context]] = []
        self._ids: dict[tuple[int, Context], int] = {}
        self._read: dict[int, list[tuple[CharSet, int]]] = {}
        """What reading a character leads to, fulfilled or not."""
        self._edges: dict[int, list[tuple[CharSet, int]]] = {}
        self._sources: dict[int, list[int]] = {}
        """The states that are known to lead to another."""
        self._fulfilled: dict[int, bool] = {}
        self._lengths: dict[int, dict[int, int]] = {}

        first = self._conjunction(goals, [self._denial([self._goal(state)]) for state in denied])
        asked = self._consulted(first)
        self._context_free = not self._lookbehinds
        context: Context = tuple((terms.state(body, NIL),) for body in self._lookbehinds)
        self.start = self._state(first, context, asked)
        if not self._is_fulfilled(self.start):
            raise UnsatisfiableConstraint("no text matches: the conditions on it contradict each other")

    def edges(self, state: int) -> Sequence[tuple[CharSet, int]]:
        found = self._edges.get(state)
        if found is None:
            found = self._edges[state] = [edge for edge in self._successors(state) if self._is_fulfilled(edge[1])]
        return found

    def widest(self, states: Sequence[int]) -> Sequence[int]:
        return states

    def accepting(self, state: int) -> bool:
        return self._move(*self._states[state]).accepts

    def universal(self, state: int) -> bool:
        return self._states[state][0] == _TRUE

    def lengths(self, state: int, cap: int) -> int:
        known = self._lengths.get(cap)
        if known is None:
            known = self._lengths[cap] = self._measure(cap)
        if state not in known:
            goals, _ = self._conjunctions[self._states[state][0]]
            known[state] = self._terms.lengths(goals[0] if goals else TOP, cap)
        return known[state]

    # Conjunctions and denials, hash-consed.

    def _conjunction(self, goals: Sequence[int], denials: Sequence[int]) -> int:
        asked = {*goals}
        asked.discard(TOP)
        key = (tuple(sorted(asked)), tuple(sorted({*denials})) if denials else ())
        found = self._conjunction_ids.get(key)
        if found is None:
            self._fuel.spend()
            found = self._conjunction_ids[key] = len(self._conjunctions)
            self._conjunctions.append(key)
        return found

    def _goal(self, goal: int) -> int:
        """The conjunction of one goal."""
        found = self._of_goal.get(goal)
        if found is None:
            found = self._of_goal[goal] = self._conjunction((goal,), ())
        return found

    def _denial(self, members: Iterable[int]) -> int:
        key = tuple(sorted(set(members)))
        found = self._denial_ids.get(key)
        if found is None:
            found = self._denial_ids[key] = len(self._denials)
            self._denials.append(key)
        return found

    def _both(self, one: int, two: int) -> int:
        if one == _TRUE or two == _TRUE:
            return one | two
        a, b = self._conjunctions[one], self._conjunctions[two]
        return self._conjunction(a[0] + b[0], a[1] + b[1])

    # Which lookbehinds a conjunction may still consult: bit k for lookbehind k.

    def _consulted(self, conjunction: int) -> int:
        if self._context_free:
            return 0
        goals, denials = self._conjunctions[conjunction]
        mask = 0
        for goal in goals:
            mask |= self._consulted_in_term(goal)
        for denial in denials:
            for member in self._denials[denial]:
                mask |= self._consulted(member)
        return mask

    def _consulted_in_term(self, term: int) -> int:
        chain: list[int] = []
        while term not in self._consulted_by_term:
            chain.append(term)
            term = self._terms.cell(term)[1]
        mask = self._consulted_by_term[term]
        for link in reversed(chain):
            mask |= self._consulted_in_node(self._terms.cell(link)[0])
            self._consulted_by_term[link] = mask
        return mask

    def _consulted_in_node(self, node: Node) -> int:
        found = self._consulted_by_node.get(node)
        if found is not None:
            return found
        mask = 0
        match node:
            case Seq(parts) | Alt(parts):
                for part in parts:
                    mask |= self._consulted_in_node(part)
            case Repeat(body) | Ahead(body):
                mask = self._consulted_in_node(body)
            case Behind(body):
                if body not in self._lookbehinds:
                    self._lookbehinds.append(body)
                mask = 1 << self._lookbehinds.index(body)
            case _:
                pass
        self._consulted_by_node[node] = mask
        return mask

    # Reading a character.

    def _move(self, conjunction: int, context: Context) -> _Move:
        found = self._moves.get((conjunction, context))
        if found is None:
            goals, denials = self._conjunctions[conjunction]
            moves = [self._goal_move(goal, context) for goal in goals]
            moves += [self._denial_move(denial, context) for denial in denials]
            found = reduce(self._meet, moves) if moves else _Move([(self._terms.alphabet, _TRUE)], True)
            self._moves[conjunction, context] = found
        return found

    def _meet(self, one: _Move, two: _Move) -> _Move:
        self._fuel.spend(len(one.edges) * len(two.edges) >> 2)
        edges = [
            (members, self._both(left, right))
            for first, left in one.edges
            for second, right in two.edges
            if (members := first & second)
        ]
        return _Move(edges, one.accepts and two.accepts)

    def _goal_move(self, goal: int, context: Context) -> _Move:
        paths, ends = self._terms.paths(goal)
        move = _Move()
        for path in paths:
            if not path.assertions:
                move.edges.append((path.members, self._goal(path.next)))
                continue
            beside = self._obligations(path.assertions, context)
            if beside is None:
                continue
            step = _Move([(path.members, self._goal(path.next))])
            if beside != _TRUE:
                step = self._meet(step, self._move(beside, context))
            move.edges += step.edges
        for assertions in ends:
            beside = self._obligations(assertions, context)
            move.accepts |= beside is not None and self._move(beside, context).accepts
        return move

    def _obligations(self, assertions: Iterable[Assertion], context: Context) -> int | None:
        """The conjunction that lookaheads demand of what remains, or None if a lookbehind fails."""
        goals: list[int] = []
        denials: list[int] = []
        for assertion in assertions:
            match assertion:
                case Behind(body, negated):
                    states = context[self._lookbehinds.index(body)]
                    assert states is not None, "a lookbehind is consulted that was forgotten"
                    if any(self._terms.paths(state)[1] for state in states) == negated:
                        return None
                case Ahead(body, negated):
                    goal = self._terms.state(body, NIL)
                    if negated:
                        denials.append(self._denial([self._goal(goal)]))
                    else:
                        goals.append(goal)
        return self._conjunction(goals, denials)

    def _denial_move(self, denial: int, context: Context) -> _Move:
        """Deterministic: in each cell of characters, the conjunctions that must not hold afterwards."""
        moves = [self._move(member, context) for member in self._denials[denial]]
        edges = [edge for move in moves for edge in move.edges]
        result = _Move(accepts=not any(move.accepts for move in moves))
        for cell, holding in refine(tuple(members for members, _ in edges)):
            targets = {edges[i][1] for i in holding}
            members = cell & self._terms.alphabet
            if members and _TRUE not in targets:
                after = self._conjunction([], [self._denial(targets)]) if targets else _TRUE
                result.edges.append((members, after))
        return result

    # States: a conjunction and what the lookbehinds have seen.

    def _state(self, conjunction: int, context: Context, asked: int) -> int:
        key = (conjunction, tuple(seen if asked >> k & 1 else None for k, seen in enumerate(context)))
        found = self._ids.get(key)
        if found is None:
            self._fuel.spend()
            found = self._ids[key] = len(self._states)
            self._states.append(key)
        return found

    def _successors(self, state: int) -> list[tuple[CharSet, int]]:
        found = self._read.get(state)
        if found is None:
            found = self._read[state] = self._reading(state)
            for _, target in found:
                self._sources.setdefault(target, []).append(state)
        return found

    def _reading(self, state: int) -> list[tuple[CharSet, int]]:
        conjunction, context = self._states[state]
        by_target: dict[int, CharSet] = {}
        for members, after in self._move(conjunction, context).edges:
            asked = self._consulted(after)
            cells: list[tuple[CharSet, Context]] = [(members, ())]
            for k, seen in enumerate(context):
                if seen is None or not asked >> k & 1:
                    cells = [(cell, (*rest, None)) for cell, rest in cells]
                else:
                    cells = [
                        (both, (*rest, target))
                        for cell, rest in cells
                        for step, target in self._step(seen)
                        if (both := cell & step)
                    ]
            for cell, after_context in cells:
                target = self._state(after, after_context, asked)
                by_target[target] = by_target[target] | cell if target in by_target else cell
        self._fuel.spend(len(by_target) // 16)
        return [(members, target) for target, members in by_target.items()]

    def _step(self, states: tuple[int, ...]) -> list[tuple[CharSet, tuple[int, ...]]]:
        """One step of a lookbehind's DFA."""
        found = self._steps.get(states)
        if found is None:
            paths = [path for state in states for path in self._terms.paths(state)[0]]
            found = self._steps[states] = [
                (cell, tuple(sorted({paths[i].next for i in holding})))
                for cell, holding in refine(tuple(path.members for path in paths))
            ]
        return found

    def _lazy(self, state: int) -> bool:
        """Whether the state is productive by itself: at most one goal, without assertions."""
        goals, denials = self._conjunctions[self._states[state][0]]
        return not denials and len(goals) <= 1 and all(map(self._terms.plain, goals))

    def _is_fulfilled(self, state: int) -> bool:
        """Whether some text fulfils a state."""
        if state not in self._fulfilled:
            self._search(state)
        return self._fulfilled[state]

    def _search(self, start: int) -> None:
        """Look for a text, depth first. Who leads to a fulfilled state is known to be fulfilled from when it is read,
        so that states without a verdict are walked again only on the way to others that have not been read."""
        visited = {start}
        pending = [start]
        while pending:
            state = pending.pop()
            if self._lazy(state) or self.accepting(state):
                return self._mark_fulfilled(state)
            self._fuel.spend()
            for _, target in self._successors(state):
                verdict = self._fulfilled.get(target)
                if verdict or self._lazy(target):
                    return self._mark_fulfilled(state)
                if verdict is None and target not in visited:
                    visited.add(target)
                    pending.append(target)
        self._fulfilled.update(dict.fromkeys(visited, False))

    def _mark_fulfilled(self, state: int) -> None:
        """A state, and all that is known to lead to it."""
        pending = [state]
        self._fulfilled[state] = True
        while pending:
            for source in self._sources.get(pending.pop(), ()):
                if source not in self._fulfilled:
                    self._fulfilled[source] = True
                    pending.append(source)

    def _explore(self) -> None:
        """Read all states up to the lazy ones."""
        pending = [self.start]
        visited = {self.start}
        while pending:
            state = pending.pop()
            if self._lazy(state):
                continue
            for _, target in self._successors(state):
                if target not in visited:
                    visited.add(target)
                    pending.append(target)

    def _measure(self, cap: int) -> dict[int, int]:
        """Lengths of all states: the least fixpoint over their edges."""
        self._explore()
        known: dict[int, int] = {}
        pending: list[int] = []
        for state, edges in self._read.items():
            if self._lazy(state):
                continue
            known[state] = int(self.accepting(state))
            pending.append(state)
            for _, target in edges:
                if self._lazy(target):
                    goals, _ = self._conjunctions[self._states[target][0]]
                    known[target] = self._terms.lengths(goals[0] if goals else TOP, cap)
                    pending.append(target)
        steps = 0
        while pending:
            target = pending.pop()
            steps += 1
            if steps % 16 == 0:
                self._fuel.spend(1 + (cap >> 15))
            longer = lengths.saturate(known[target] << 1, cap)
            for source in self._sources.get(target, ()):
                if longer & ~known[source]:
                    known[source] |= longer
                    pending.append(source)
        return known
