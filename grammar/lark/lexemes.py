r"""Lexemes: how far a lexer has come inside a token, byte by byte.

Lark's lexers ask Python's `re` for the preferred match at a place, which a machine that reads one byte at a time cannot
know before the token is over. So a lexeme is what a backtracking matcher might still do, in its order of preference:

    threads  [ " . " ]          ways to match, the preferred one first; a finished one cuts off those after it
    waits                       lookaheads that a thread has passed and that are still undecided
    PAST                        a match that ended earlier, if its waits come true

Where a token ends, the preference becomes an obligation: had a thread before it gone on to match, the token would have
been another one. Such threads become the token's `Shadow`, which runs along with the text that follows until it has
died (all is well) or matched (the token was none). So ``1`` may end before ``.`` only if no ``1.5`` comes of it.

`start` and `step` hash-cons lexemes and shadows; both are automata over bytes, built as they are walked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from grammar.fuel import Fuel
from grammar.lark.programs import (
    AtEnd,
    Held,
    Look,
    LookBack,
    Match,
    Programs,
    Read,
    ReadControl,
    Split,
    behind_matches,
)
from grammar.utf8 import DONE, ByteNode, Spelling

IGNORED = "%ignore"
"""What a token is called that the parser does not see."""

_PAST = ByteNode(())

Spot = tuple[ByteNode, int]
"""A place in a program: (where in a character, pc)."""


class Wait(NamedTuple):
    """A lookahead that is not decided yet: some (``negated``: no) spot comes to `Held`."""

    negated: bool
    spots: frozenset[Spot]


Waits = frozenset[Wait]


class Thread(NamedTuple):
    """A way to match. ``window``: the last characters, as lookbehinds remember them."""

    node: ByteNode
    pc: int
    window: tuple[int, ...]
    waits: Waits


class Shadow(NamedTuple):
    """What the text after a token must fulfil: every wait comes true, no rival thread matches."""

    waits: Waits
    rivals: frozenset[Thread]

    def __or__(self, other: Shadow) -> Shadow:  # type: ignore[override]
        return Shadow(self.waits | other.waits, self.rivals | other.rivals)


NO_SHADOW = Shadow(frozenset(), frozenset())


class Scanner(NamedTuple):
    """Terminals that compete at a place, in the order in which they are tried.

    ``words``: strings that a terminal's token is taken for when it is exactly their text. ``ignored``: terminals whose
    tokens are dropped; they end as `IGNORED`. ``splits``: a token may also
    be any beginning of the preferred match that is itself a match; else it is the preferred match and nothing else.
    ``lazy``: a token ends as soon as it can.
    """

    terminals: tuple[str, ...]
    words: tuple[tuple[str, tuple[str, ...]], ...] = ()
    ignored: frozenset[str] = frozenset()
    splits: bool = False
    lazy: bool = False


class _Track(NamedTuple):
    scanner: Scanner
    threads: tuple[Thread, ...]
    words: frozenset[Spot]


Lexeme = int
"""A hash-consed tuple of tracks, one a scanner."""


@dataclass(frozen=True, slots=True)
class End:
    """A token may end here, as ``terminal``."""

    terminal: str
    shadow: Shadow


class Lexemes:
    """All lexemes of a grammar. ``starts``: the pc of each terminal's program."""

    def __init__(self, programs: Programs, starts: dict[str, int], spelling: Spelling, fuel: Fuel) -> None:
        self._code = programs.code
        self._terminal = programs.terminal
        self._memory = programs.memory
        self._starts = starts
        self._spelling = spelling
        self._fuel = fuel
        self._tracks: list[tuple[_Track, ...]] = []
        self._ids: dict[tuple[_Track, ...], Lexeme] = {}
        self._starting: dict[tuple[Scanner, ...], Lexeme] = {}
        self._edges: dict[Lexeme, list[tuple[int, int, Lexeme]]] = {}
        self._ends: dict[Lexeme, list[End]] = {}
        self._live: dict[Lexeme, frozenset[str]] = {}
        self._shadow_edges: dict[Shadow, list[tuple[int, int, Shadow | None]]] = {}
        self._reads: dict[tuple[ByteNode, int, tuple[int, ...]], list[tuple[int, int, ByteNode, int, int]]] = {}

    # -- lexemes -------------------------------------------------------------------------------------------------------

    def start(self, scanners: tuple[Scanner, ...]) -> Lexeme:
        """Before the first byte of a token of these scanners."""
        found = self._starting.get(scanners)
        if found is None:
            tracks: list[_Track] = []
            for scanner in scanners:
                threads: list[Thread] = []
                for terminal in scanner.terminals:
                    self._close(Thread(DONE, self._starts[terminal], (), frozenset()), threads)
                words = [(DONE, self._starts[word]) for _, words in scanner.words for word in words]
                tracks.append(_Track(scanner, tuple(threads), self._close_spots(words)))
            found = self._starting[scanners] = self._lexeme(tuple(tracks))
        return found

    def step(self, lexeme: Lexeme) -> list[tuple[int, int, Lexeme]]:
        """(lo, hi, next): the bytes that may go on inside the token, ascending and disjoint."""
        found = self._edges.get(lexeme)
        if found is None:
            tracks = self._tracks[lexeme]
            every = [thread for track in tracks for thread in track.threads]
            edges: list[tuple[int, int, Lexeme]] = []
            spots = [spot for track in tracks for spot in track.words]
            for lo, hi in self._cells(every, [], spots):
                following = [track for track in (self._step_track(track, lo) for track in tracks) if track is not None]
                if following:
                    _append(edges, lo, hi, self._lexeme(tuple(following)))
            found = self._edges[lexeme] = edges
        return found

    def ends(self, lexeme: Lexeme) -> list[End]:
        """The tokens that may end here, preferred ones first."""
        found = self._ends.get(lexeme)
        if found is None:
            found = self._ends[lexeme] = [end for track in self._tracks[lexeme] for end in self._ends_of(track)]
        return found

    def live(self, lexeme: Lexeme) -> frozenset[str]:
        """The terminals whose tokens may come of this."""
        found = self._live.get(lexeme)
        if found is not None:
            return found
        wanted = self._candidates(lexeme)
        seen, queue = {lexeme}, [lexeme]
        alive: set[str] = set()
        for here in queue:
            known = self._live.get(here)
            alive |= known if known is not None else {end.terminal for end in self.ends(here)}
            if alive >= wanted:
                break
            if known is None:
                for _, _, following in self.step(here):
                    if following not in seen:
                        seen.add(following)
                        queue.append(following)
        found = self._live[lexeme] = frozenset(alive)
        return found

    def _candidates(self, lexeme: Lexeme) -> set[str]:
        wanted: set[str] = set()
        for track in self._tracks[lexeme]:
            names = {self._terminal[thread.pc] for thread in track.threads if thread.node is not _PAST}
            wanted |= {IGNORED if name in track.scanner.ignored else name for name in names}
            wanted |= {self._terminal[pc] for _, pc in track.words}
        return wanted

    def _lexeme(self, tracks: tuple[_Track, ...]) -> Lexeme:
        found = self._ids.get(tracks)
        if found is None:
            self._fuel.spend()
            found = self._ids[tracks] = len(self._tracks)
            self._tracks.append(tracks)
        return found

    def _step_track(self, track: _Track, byte: int) -> _Track | None:
        if track.scanner.lazy and self._ends_of(track):
            return None
        threads = self._step_threads(track.threads, byte)
        if all(thread.node is _PAST for thread in threads):
            return None
        return _Track(track.scanner, tuple(threads), self._step_spots(track.words, byte))

    def _ends_of(self, track: _Track) -> list[End]:
        ends: list[End] = []
        rivals: list[Thread] = []
        taken_for = dict(track.scanner.words)
        for thread in track.threads:
            instruction = self._code[thread.pc] if thread.node is DONE else None
            if isinstance(instruction, Match):
                finished = {
                    other.terminal
                    for node, pc in track.words
                    if node is DONE and isinstance(other := self._code[pc], Match)
                }
                terminal = IGNORED if instruction.terminal in track.scanner.ignored else instruction.terminal
                words = [word for word in taken_for.get(instruction.terminal, ()) if word in finished]
                shadow = NO_SHADOW if track.scanner.splits else Shadow(thread.waits, frozenset(rivals))
                ends.append(End(words[0] if words else terminal, shadow))
                thread = Thread(_PAST, thread.pc, (), thread.waits)
            rivals.append(thread)
        return ends

    # -- shadows -------------------------------------------------------------------------------------------------------

    def step_shadow(self, shadow: Shadow) -> list[tuple[int, int, Shadow | None]]:
        """(lo, hi, next) for every byte, ascending; None where the shadow forbids it."""
        found = self._shadow_edges.get(shadow)
        if found is None:
            found = []
            for lo, hi in self._cells(shadow.rivals, shadow.waits, [], everything=True):
                _append(found, lo, hi, self._step_shadow(shadow, lo))
            self._shadow_edges[shadow] = found
        return found

    def _step_shadow(self, shadow: Shadow, byte: int) -> Shadow | None:
        waits = self._step_waits(shadow.waits, byte)
        if waits is None:
            return None
        rivals: list[Thread] = []
        for thread in shadow.rivals:
            for after in self._step_threads((thread,), byte, ahead_only=True):
                if after.node is DONE and isinstance(self._code[after.pc], Match):
                    after = Thread(_PAST, after.pc, (), after.waits)
                if after.node is _PAST and not after.waits:
                    return None
                rivals.append(after)
        return Shadow(waits, frozenset(rivals))

    def reading(self, lexeme: Lexeme, shadow: Shadow) -> Iterator[tuple[int, int, Lexeme, Shadow]]:
        """(lo, hi, next lexeme, next shadow) for the bytes that both allow."""
        if shadow == NO_SHADOW:
            for lo, hi, following in self.step(lexeme):
                yield lo, hi, following, shadow
            return
        cast = self.step_shadow(shadow)
        for lo, hi, following in self.step(lexeme):
            for first, last, after in cast:
                if after is not None and first <= hi and last >= lo:
                    yield max(lo, first), min(hi, last), following, after

    def may_end_text(self, shadow: Shadow) -> bool:
        """Whether the shadow allows that the text ends here."""
        if not all(self._true_at_end(wait) for wait in shadow.waits):
            return False
        past = [thread for thread in shadow.rivals if thread.node is _PAST]
        return not any(all(self._true_at_end(wait) for wait in thread.waits) for thread in past)

    def _true_at_end(self, wait: Wait) -> bool:
        held = any(
            node is DONE and isinstance(at := self._code[pc], AtEnd) and isinstance(self._code[at.next], Held)
            for node, pc in wait.spots
        )
        return held != wait.negated

    # -- the virtual machine -------------------------------------------------------------------------------------------

    def _step_threads(self, threads: Sequence[Thread], byte: int, ahead_only: bool = False) -> list[Thread]:
        """The threads after a byte, in order. ``ahead_only``: a past match whose waits come true stays, as a match."""
        following: list[Thread] = []
        for thread in threads:
            waits = self._step_waits(thread.waits, byte)
            if waits is None:
                continue
            if thread.node is _PAST:
                if not waits and not ahead_only:
                    break
                following.append(Thread(_PAST, thread.pc, (), waits))
                continue
            for lo, hi, child, pc, seen in self._reads_of(thread.node, thread.pc):
                if lo <= byte <= hi:
                    window = thread.window
                    if thread.node is DONE and (memory := self._memory[self._terminal[pc]]):
                        window = (*window, seen)[-memory:]
                    if self._close(Thread(child, pc, window, waits), following):
                        return following
                    break
        return following

    def _reads_of(self, node: ByteNode, pc: int) -> list[tuple[int, int, ByteNode, int, int]]:
        """(lo, hi, node, pc, representative of the character): what a spot can read."""
        key = (node, pc, ())
        found = self._reads.get(key)
        if found is None:
            found = []
            if node is not DONE:
                found = [(lo, hi, child, pc, 0) for lo, hi, child in node.edges]
            elif isinstance(at := self._code[pc], ReadControl):
                found = [(lo, hi, child, at.next, 0) for lo, hi, child in at.root.edges]
            elif isinstance(at, Read):
                for members, seen in at.pieces:
                    found += [(lo, hi, child, at.next, seen) for lo, hi, child in self._spelling.root(members).edges]
            self._reads[key] = found
        return found

    def _close(self, thread: Thread, threads: list[Thread]) -> bool:
        """Append where ``thread`` can be without reading, in order of preference. True when a match without conditions
        cuts off all that comes after."""
        if thread.node is not DONE:
            if thread not in threads:
                threads.append(thread)
            return False
        window = thread.window
        stack = [(thread.pc, thread.waits)]
        seen: set[tuple[int, Waits]] = set()
        while stack:
            pc, waits = stack.pop()
            if (pc, waits) in seen:
                continue
            seen.add((pc, waits))
            match self._code[pc]:
                case Split(ways):
                    stack += [(way, waits) for way in reversed(ways)]
                case Look(negated, body, following):
                    spots = self._close_spots([(DONE, body)])
                    if _held(self._code, spots):
                        if not negated:
                            stack.append((following, waits))
                    elif spots:
                        stack.append((following, waits | {Wait(negated, spots)}))
                    elif negated:
                        stack.append((following, waits))
                case LookBack(negated, body, width, following):
                    if behind_matches(body, window[len(window) - width :]) != negated:
                        stack.append((following, waits))
                case _:
                    found = Thread(DONE, pc, window, waits)
                    if found not in threads:
                        threads.append(found)
                    if not waits and isinstance(match := self._code[pc], Match) and match.cuts:
                        return True
        return False

    def _close_spots(self, spots: Iterable[Spot]) -> frozenset[Spot]:
        closed: set[Spot] = set()
        stack = list(spots)
        while stack:
            spot = stack.pop()
            if spot in closed:
                continue
            if spot[0] is DONE and isinstance(split := self._code[spot[1]], Split):
                stack += [(DONE, way) for way in split.ways]
            else:
                closed.add(spot)
        return frozenset(closed)

    def _step_spots(self, spots: frozenset[Spot], byte: int) -> frozenset[Spot]:
        moved = [
            (child, pc)
            for spot in spots
            for lo, hi, child, pc, _ in self._reads_of(*spot)
            if lo <= byte <= hi
        ]  # fmt: skip
        return self._close_spots(moved)

    def _step_waits(self, waits: Waits, byte: int) -> Waits | None:
        """What is still undecided after a byte; None when a wait has come out false."""
        if not waits:
            return waits
        undecided: list[Wait] = []
        for wait in waits:
            spots = self._step_spots(wait.spots, byte)
            if _held(self._code, spots):
                if wait.negated:
                    return None
            elif spots:
                undecided.append(Wait(wait.negated, spots))
            elif not wait.negated:
                return None
        return frozenset(undecided)

    def _cells(
        self, threads: Iterable[Thread], waits: Iterable[Wait], spots: Iterable[Spot], everything: bool = False
    ) -> list[tuple[int, int]]:
        """Byte ranges within which nothing can be told apart: those that a thread can read, or ``everything``."""
        every = list(threads)
        reading = [reads for thread in every for reads in self._reads_of(thread.node, thread.pc)]
        points = {point for lo, hi, *_ in reading for point in (lo, hi + 1)}
        watching = [spot for thread in every for wait in thread.waits for spot in wait.spots]
        watching += [spot for wait in waits for spot in wait.spots]
        watching += spots
        points |= {point for spot in watching for lo, hi, *_ in self._reads_of(*spot) for point in (lo, hi + 1)}
        if everything:
            points |= {0, 256}
        ordered = sorted(points)
        cells = [(lo, stop - 1) for lo, stop in pairwise(ordered)]
        if everything:
            return cells
        return [cell for cell in cells if any(lo <= cell[0] <= hi for lo, hi, *_ in reading)]


def _held(code: Sequence[object], spots: frozenset[Spot]) -> bool:
    return any(node is DONE and isinstance(code[pc], Held) for node, pc in spots)


def _append(edges: list, lo: int, hi: int, target: object) -> None:  # type: ignore[type-arg]
    if edges and edges[-1][1] == lo - 1 and edges[-1][2] == target:
        edges[-1] = (edges[-1][0], hi, target)
    else:
        edges.append((lo, hi, target))
