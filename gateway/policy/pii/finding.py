"""Personal data in a text: where it begins and ends, and of which kind it is."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.policy.pii.kinds import KINDS, NEAR, Kind


@dataclass(frozen=True, slots=True)
class Found:
    """``text[begin:end]`` is of ``kind``."""

    begin: int
    end: int
    kind: Kind


def find(text: str) -> list[Found]:
    """What there is, from left to right, without overlaps: the longer of two wins, and then the kind listed first."""
    every = [found for kind in KINDS for found in _of_kind(kind, text)]
    every.sort(key=lambda found: found.begin - found.end)
    chosen: list[Found] = []
    taken = bytearray(len(text))
    for found in every:
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
