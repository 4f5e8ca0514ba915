"""The start of a value: its first byte tells JSON's types apart, and with them most alternatives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from grammar.json_schema.alternatives import open_arrays, open_objects
from grammar.json_schema.numerals import number_edges
from grammar.json_schema.shapes import (
    ArrayShape,
    BoolShape,
    NullShape,
    NumberEnum,
    NumberShape,
    ObjectShape,
    Shape,
    StringEnum,
    StringShape,
)  # fmt: skip
from grammar.json_schema.strings import string_edges
from grammar.tables import END_REJECT, GOTO, Edge

if TYPE_CHECKING:
    from grammar.json_schema.machine import Edges, JsonMachine


@dataclass(frozen=True, slots=True)
class Word:
    """Inside null, true or false: the bytes that are left, then the state ``then``."""

    rest: bytes
    then: int

    def edges(self, m: JsonMachine) -> Edges:
        return [word_edge(m, self.rest, self.then)], END_REJECT


def word_edge(m: JsonMachine, text: bytes, then: int) -> Edge:
    """The edge on the first byte of ``text``, whose last byte leads to ``then``."""
    target = then if len(text) == 1 else m.state(Word(text[1:], then))
    return text[0], text[0], GOTO, target, 0, 0, 0


@dataclass(frozen=True, slots=True)
class Value:
    """Before a value that must satisfy one of ``shapes``. ``ret``: the state after it; ``undecided``: it wants the
    verdict."""

    shapes: tuple[Shape, ...]
    undecided: bool
    ret: int

    def edges(self, m: JsonMachine) -> Edges:
        edges: list[Edge] = []
        words: dict[bytes, int] = {}
        strings: dict[StringShape | StringEnum, int] = {}
        numbers: dict[NumberShape | NumberEnum, int] = {}
        arrays: dict[ArrayShape, int] = {}
        objects: dict[ObjectShape, int] = {}
        for i, shape in enumerate(self.shapes):
            bit = 1 << i
            match shape:
                case NullShape():
                    words[b"null"] = words.get(b"null", 0) | bit
                case BoolShape():
                    for value in shape.values:
                        word = b"true" if value else b"false"
                        words[word] = words.get(word, 0) | bit
                case StringShape() | StringEnum():
                    strings[shape] = bit
                case NumberShape() | NumberEnum():
                    numbers[shape] = bit
                case ArrayShape():
                    arrays[shape] = bit
                case ObjectShape():
                    objects[shape] = bit
        for word, satisfied in words.items():
            then = m.resume(self.ret, m.verdict(satisfied)) if self.undecided else self.ret
            edges.append(word_edge(m, word, then))
        if strings:
            edges += string_edges(m, _asked(self, strings), self.ret)
        if numbers:
            edges += number_edges(m, _asked(self, numbers), self.ret)
        if arrays:
            edges.append(open_arrays(m, _asked(self, arrays), self.ret))
        if objects:
            edges.append(open_objects(m, _asked(self, objects), self.ret))
        return edges, END_REJECT


_S = TypeVar("_S")


def _asked(value: Value, shapes: dict[_S, int]) -> tuple[tuple[_S, int], ...]:
    """(shape, bit of its verdict), the bit 0 where nobody asks."""
    return tuple((shape, bit if value.undecided else 0) for shape, bit in shapes.items())
