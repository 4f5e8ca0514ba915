"""The way to the end: from any configuration, some text that completes the sentence, and the tokens that spell it.

An answer is cut when its tokens run out, and a cut answer is no JSON. Where a way to the end is known before each
token, a token that leaves no room for one can be turned down, and nothing is ever cut (`engine/closing.py`).

The search is Dijkstra's, one frame at a time: a value that is opened on the way is searched once for each (state,
registers) in which it can begin, whatever stands around it, and then counts as one edge of that length (Knuth, "A
generalization of Dijkstra's algorithm", 1977). A value inside itself is never on a shortest way, so recursive schemas
come to an end. Steps are those of the kernels; nothing of the machine's meaning is said again here.

    {"a": [ |        frame of the array    ]              1 byte
                     frame of the object   , "b": 0 }     where b is required, its value an edge of length 1

A search is a generator: it yields True where an expansion must come first, and False now and then, so that a step loop
can go on in between.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from fsm import layout as at
from fsm.image import MISSING, NOT_ALLOWED, Image
from fsm.layout import MAX_TOKEN_BYTES
from grammar.tables import CLOSE, END_ACCEPT, FEWKEY, NONE, XKEY

if TYPE_CHECKING:
    from fsm.runtime import Runtime

FUEL = 100_000
"""Bytes that one search may try."""

EXACT_FUEL = 3_000
"""Those of them that look for the shortest text of a value; the others take what comes nearest to the end."""

SLICE = 128
"""Bytes between two pauses: about a millisecond."""

DEEPEST = 100
"""Values inside values that a search opens."""

MANY = 10_000
"""Rests of texts, and texts of values, that are remembered."""

T = TypeVar("T")
Search = Generator[bool, None, T]
Way = tuple[int, ...]
_Key = tuple[int, ...]
_Node = tuple[int, bool]
"""(configuration, whether it has just opened a value)"""


class Closing:
    """Ways to the end of one program's configurations (state ids of the token FSM)."""

    def __init__(self, runtime: Runtime, program: int) -> None:
        self._runtime = runtime
        self._program = program
        self._values: dict[_Key, bytes | None] = {}
        self._rests: dict[int, _Rest] = {}
        self._rests_alike: dict[_Key, _Rest] = {}

    def way(self, state: int) -> Search[Way | None]:
        """Tokens that complete the sentence from ``state``, about as few as can be; None where none were found with the
        fuel there is. After the first of them the others are a way."""
        if state not in self._rests:
            found = yield from self._find(state, _Hunt(self._runtime, self._program, self._values))
            if not found:
                return None
        rest = self._rests[state]
        ids_of, way, start = self._runtime.table.ids_of, list[int](), rest.start
        while start < len(rest.text):
            way.append(ids_of[rest.text[start : rest.stops[start]]])
            start = rest.stops[start]
        return tuple(way)

    def _find(self, state: int, hunt: _Hunt) -> Search[bool]:
        """Find the rest of the text, frame by frame, up to where it is known. False where it cannot be found."""
        passed, text = [state], bytearray()
        while True:
            here = passed[-1]
            rest = b"" if (yield from hunt.complete(here)) else (yield from self._known(here, hunt))
            piece = rest if rest is not None else (yield from hunt.next_piece(here, self._known))
            if piece is None:
                return False
            for i in range(len(piece)):
                passed.append((yield from hunt.after(passed[-1], piece[i : i + 1])))
            text += piece
            if rest is not None:
                self._remember(bytes(text), passed, hunt)
                return True

    def _remember(self, text: bytes, passed: list[int], hunt: _Hunt) -> None:
        """``text`` completes the sentence; it leads through the configurations ``passed``."""
        if len(self._rests) > MANY:
            self._rests.clear()
            self._rests_alike.clear()
        table = self._runtime.table
        stops = _longest_tokens(text, table.ids_of, table.max_token_bytes)
        tokens = [0] * (len(text) + 1)
        for start in reversed(range(len(text))):
            tokens[start] = 1 + tokens[stops[start]]
        for start, here in enumerate(passed):
            rest = _Rest(text, start, stops, tokens[start])
            self._rests[here] = min(rest, self._rests.get(here, rest), key=_tokens)
            self._rests_alike[hunt.but_for_texts(here)[0]] = rest

    def _known(self, here: int, hunt: _Hunt) -> Search[bytes | None]:
        """The rest of a text where it is known, or where one that differs in texts alone shows it."""
        if (rest := self._rests.get(here)) is not None:
            return rest.text[rest.start :]
        if (rest := self._rests_alike.get(hunt.but_for_texts(here)[0])) is not None:
            text = rest.text[rest.start :]
            reached = yield from hunt.after(here, text)
            if reached != NOT_ALLOWED and (yield from hunt.complete(reached)):
                return text
        return None


class _Rest(NamedTuple):
    """``text[start:]``, in ``tokens`` tokens; ``stops`` says where the one that begins at a place ends."""

    text: bytes
    start: int
    stops: list[int]
    tokens: int


def _tokens(rest: _Rest) -> int:
    return rest.tokens


def _longest_tokens(text: bytes, ids_of: dict[bytes, int], longest: int) -> list[int]:
    """Where the longest token that begins at each place ends. All bytes must be tokens."""
    size = len(text)
    return [next(stop for stop in range(min(i + longest, size), i, -1) if text[i:stop] in ids_of) for i in range(size)]


_Known = Callable[[int, "_Hunt"], Search[bytes | None]]


class _Hunt:
    """One search. ``values``: texts of whole values, shared by all searches of a program."""

    def __init__(self, runtime: Runtime, program: int, values: dict[_Key, bytes | None]) -> None:
        self._runtime = runtime
        self._program = program
        self._values = values
        self._open: set[_Key] = set()
        self._met_open = False
        self._fuel = FUEL

    @property
    def _image(self) -> Image:
        return self._runtime.image(self._program)

    @property
    def _parses(self) -> bool:
        """Heads of a grammar share their stacks: they are searched as a whole, not frame by frame."""
        return bool(self._image.heap[at.PARSER])

    # -- steps ---------------------------------------------------------------------------------------------------------

    def complete(self, here: int) -> Search[bool]:
        while (complete := self._runtime.complete(self._program, here)) is None:
            yield True
        return complete

    def after(self, here: int, text: bytes) -> Search[int]:
        """The configuration after ``text``, or NOT_ALLOWED."""
        for i in range(0, len(text), MAX_TOKEN_BYTES):
            piece = text[i : i + MAX_TOKEN_BYTES]
            while (following := self._runtime.after_text(self._program, here, piece)) == MISSING:
                yield True
            if following == NOT_ALLOWED:
                return NOT_ALLOWED
            here = following
        return here

    def _allowed(self, here: int) -> Search[NDArray[np.bool_]]:
        while (allowed := self._runtime.allowed_bytes(self._program, here)) is None:
            yield True
        return allowed

    # -- search --------------------------------------------------------------------------------------------------------

    def next_piece(self, here: int, known: _Known) -> Search[bytes | None]:
        """Text that leads to where the rest is known, or out of the innermost frame, or of the one around that
        where the innermost value may end as it stands."""
        height = self._height(here)
        may_end = not self._parses and (yield from self._may_end(here))
        return (yield from self._shortest(here, height - 1 if may_end else height, known))

    def _value(self, begin: int) -> Search[bytes | None]:
        """Text from ``begin`` to where the innermost value ends, or may end."""
        key = self._frame_key(begin)
        if key in self._values:
            return self._values[key]
        if key in self._open or len(self._open) == DEEPEST:
            self._met_open = True
            return None
        outer, self._met_open = self._met_open, False
        self._open.add(key)
        found = yield from self._shortest(begin, self._height(begin))
        self._open.discard(key)
        if found is not None or not (self._met_open or self._fuel < 0):
            if len(self._values) > MANY:
                self._values.clear()
            self._values[key] = found
        self._met_open = outer or (self._met_open and found is None)
        return found

    def _shortest(self, begin: int, height: int, known: _Known | None = None) -> Search[bytes | None]:
        """A short text from ``begin`` to below ``height``, or to where the frame of that height may end, or to where
        the rest is ``known``."""
        fuel = self._fuel
        self._fuel = min(EXACT_FUEL, fuel)
        found = yield from self._search(begin, height, 0, known)
        spent = min(EXACT_FUEL, fuel) - self._fuel
        out, self._fuel = self._fuel < 0, fuel - spent
        if found is None and out and self._fuel > 0:
            found = yield from self._search(begin, height, 64, known)
        return found

    def _search(self, begin: int, height: int, weight: int, known: _Known | None) -> Search[bytes | None]:
        """``weight``: bytes that each thing still owed (an item, a required key) counts for; 0 finds the shortest."""
        cost: dict[_Node, int] = {(begin, False): 0}
        came: dict[_Node, tuple[_Node, bytes]] = {}
        queue: list[tuple[int, int, int, _Node]] = [(0, 0, 0, (begin, False))]
        met: dict[_Key, int] = {}
        required = NONE
        while queue:
            _, so_far, _, node = heapq.heappop(queue)
            if so_far > cost[node]:
                continue
            here, opens = node
            if not opens and (yield from self._is_goal(here, height)):
                return _path(came, node)
            if known and not opens and here != begin and (yield from known(here, self)) is not None:
                return _path(came, node)
            alike, seen = self.but_for_texts(here)
            met[alike] = met.get(alike, 0) + 1
            if met[alike] > seen + 2:
                continue
            if self._fuel < 0:
                return None
            if weight and required == NONE and not self._parses and self._height(here) == height:
                required = self._required(here)
            moves = self._through(here) if opens else self._moves(here, height, seen)
            for text, following in (yield from moves):
                longer = so_far + len(text)
                if longer < cost.get(following, longer + 1):
                    cost[following] = longer
                    came[following] = node, text
                    owed = weight and weight * self._owed(following[0], height, required)
                    heapq.heappush(queue, (longer + owed, longer, len(came), following))
        return None

    def _through(self, begin: int) -> Search[list[tuple[bytes, _Node]]]:
        """A value that is opened, whole."""
        value = yield from self._value(begin)
        if value is None:
            return []
        after = yield from self.after(begin, value)
        return [] if after < 0 else [(value, (after, False))]

    def _moves(self, here: int, height: int, seen: int) -> Search[list[tuple[bytes, _Node]]]:
        moves: list[tuple[bytes, _Node]] = []
        ended = self._height(here) > height
        for byte in (yield from self._bytes(here, seen)):
            self._fuel -= 1
            if self._fuel % SLICE == 0:
                yield False
            after = yield from self.after(here, bytes([byte]))
            opens = self._height(after) > height
            if after >= 0 and not (ended and opens):  # what may end need not go on
                moves.append((bytes([byte]), (after, opens)))
        return moves

    def _bytes(self, here: int, seen: int) -> Search[list[int]]:
        """One byte for each edge that can be taken; more where the byte becomes part of a text that must differ from
        those that were ``seen``."""
        allowed = yield from self._allowed(here)
        if self._parses:
            return [byte for byte in self._image.byte_classes() if 0 <= byte < 256 and allowed[byte]]
        image, chosen = self._image, list[int]()
        recording = image.field(here, 3) != at.NIL
        for lo, hi, op, *_ in image.edges(image.field(here, 1)).tolist():
            of_edge = (lo + np.flatnonzero(allowed[lo : hi + 1])).tolist() if lo >= 0 else []
            chosen += of_edge[: seen + 2 if recording or op in (XKEY, FEWKEY) else 1]
        return chosen

    # -- configurations ------------------------------------------------------------------------------------------------

    def _is_goal(self, here: int, height: int) -> Search[bool]:
        if self._parses:
            return (yield from self.complete(here))
        found = self._height(here)
        if found == height:
            return (yield from self._may_end(here))
        return found < height or (height <= 1 and (yield from self.complete(here)))

    def _height(self, here: int) -> int:
        if self._parses or here < 0:
            return 0
        image = self._image
        return image.field(image.field(here, 2), at.HEIGHT)

    def _may_end(self, here: int) -> Search[bool]:
        """Whether the innermost value is complete as it stands: a number, or the whole text."""
        yield from self._allowed(here)  # its state is expanded then
        image = self._image
        end = image.end(image.field(here, 1))
        return end == END_ACCEPT or (end >= 0 and image.field(image.field(here, 2), at.LO) == 0)

    def but_for_texts(self, here: int) -> tuple[_Key, int]:
        """What two configurations share that differ in texts alone (keys, unique items), and how many of those were
        seen: one more are enough to find another."""
        if self._parses:
            return (here,), 0
        image = self._image
        frame = image.field(here, 2)
        fields = (image.field(frame, i) for i in (at.HEIGHT, at.RET, at.HI, at.LO, at.EXT, at.PARENT))
        seen = self._seen(frame)
        if image.field(here, 3) != at.NIL:
            while (frame := image.field(frame, at.PARENT)) > at.NIL:
                seen += self._seen(frame)
        return (image.field(here, 1), *fields), seen

    def _seen(self, frame: int) -> int:
        image, seen = self._image, 0
        rest = image.field(frame, at.SEEN_KEYS)
        while rest != at.NIL:
            seen, rest = seen + 1, image.field(rest, 2)
        return seen

    def _frame_key(self, here: int) -> _Key:
        """What decides which texts a value may have."""
        image = self._image
        if image.field(here, 3) != at.NIL:
            return (here,)
        frame = image.field(here, 2)
        return (image.field(here, 1), *(image.field(frame, i) for i in range(at.RET, at.PARENT)))

    def _required(self, here: int) -> int:
        """The set of keys without which the object cannot end, where its bracket could come now; else NONE."""
        for _, _, op, _, _, keys, *_ in self._image.edges(self._image.field(here, 1)).tolist():
            if op == CLOSE:
                return keys
        return NONE

    def _owed(self, here: int, height: int, required: int) -> int:
        """How many items and required keys the frame of that height still wants."""
        image = self._image
        frame = image.field(here, 2)
        while image.field(frame, at.HEIGHT) > height:
            frame = image.field(frame, at.PARENT)
        if self._parses or image.field(frame, at.HEIGHT) < height:
            return 0
        owed, coming = image.field(frame, at.LO), image.field(frame, at.EXT)
        if required == NONE or coming == NONE:
            return owed
        return owed + int(np.bitwise_count(image.keys(required) & image.keys(coming)).sum())


def _path(came: dict[_Node, tuple[_Node, bytes]], node: _Node) -> bytes:
    pieces: list[bytes] = []
    while node in came:
        node, text = came[node]
        pieces.append(text)
    return b"".join(reversed(pieces))
