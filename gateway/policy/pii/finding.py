"""Personal data in a text: where it begins and ends, and of which kind it is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from gateway.policy.pii.kinds import KINDS, NEAR, Kind


@dataclass(frozen=True, slots=True)
class Found:
    """``text[begin:end]`` is of ``kind``."""

    begin: int
    end: int
    kind: Kind


class Finder(Protocol):
    """Who looks. Called in threads."""

    @property
    def max_characters(self) -> int:
        """Of all texts of a request that are looked through."""
        ...

    def find(self, text: str) -> list[Found]:
        """What there is, from left to right, without overlaps."""
        ...


class BuiltIn:
    """By the forms and checksums of `gateway.policy.pii.kinds`."""

    max_characters = 1_000_000
    """Which takes half a second."""

    def find(self, text: str) -> list[Found]:
        return apart(every_kind(text), len(text))


def every_kind(text: str) -> list[Found]:
    """Of each kind of `KINDS`, in their order; they may overlap."""
    return [found for kind in KINDS for found in _of_kind(kind, text)]


def apart(every: Iterable[Found], length: int) -> list[Found]:
    """From left to right, without overlaps: the longer of two wins, and then the one that is given first."""
    chosen: list[Found] = []
    taken = bytearray(length)
    for found in sorted(every, key=lambda found: found.begin - found.end):
        if not any(taken[found.begin : found.end]):
            taken[found.begin : found.end] = b"\1" * (found.end - found.begin)
            chosen.append(found)
    return sorted(chosen, key=lambda found: found.begin)


def _of_kind(kind: Kind, text: str) -> list[Found]:
    found: list[Found] = []
    for match in kind.pattern.finditer(text):
        begin, end = match.span()
        told = kind.context is None or kind.context.search(text, max(0, begin - NEAR), begin)
        if told and kind.valid(match[0]):
            found.append(Found(begin, end, kind))
    return found
