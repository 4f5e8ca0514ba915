"""Counting items: how an array can meet its ``contains``, whatever its items still turn out to be.

The items so far are a *tally*: how many each of the shape's ``contains`` has counted, no further than matters. An item
is written in one of the shape's ways, and each way leads to a tally:

    (items, tally) ──way: goal of the item, what it is counted by──▶ (items + 1, tally')

`Counting` walks this graph once, backwards from where the array may end, and keeps the places from which it can: only
ways that lead to one of them are ever offered, so that the last items that there may be are those that there must be.
Where all items are alike and none can be too many, the number that must still come depends on the tally alone, and the
ways that count most lead there soonest: no graph is needed.

Two readings of one item never have to be kept: that which counts it for more of what must come, and for less of what
may not, can be completed wherever the other can (`best`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from math import prod
from operator import add, ge, le

from grammar.json_schema.shapes import NEVER, ArrayShape, Contains, Goal
from grammar.tables import ENDLESS

Tally = tuple[int, ...]
"""By each of the shape's ``contains``, how many items it has counted; no further than it must, or may."""


class Counting:
    """The places from which an array of ``shape`` can be completed. ``possible``: whether a goal has values."""

    def __init__(self, shape: ArrayShape, possible: Callable[[Goal], bool]) -> None:
        self.shape = shape
        self._possible = possible
        self.start: Tally = (0,) * len(shape.contains)
        self._prefix = max((len(way.prefix) for way in shape.ways), default=0)
        implied = max((asked.skip + asked.least for asked in shape.contains if asked.least), default=0)
        """So many items there are wherever enough are counted."""
        self._min_items = shape.min_items if shape.min_items > implied else 0
        self.horizon = max(self._prefix, self._min_items, shape.max_items or 0)
        """Numbers of items beyond are all alike."""
        self.places = (self.horizon + 1) * prod(_last(asked) + 1 for asked in shape.contains)
        """There are no more than so many."""
        self._enough = tuple(asked.least for asked in shape.contains)
        self._most = tuple(ENDLESS if asked.most is None else asked.most for asked in shape.contains)
        self._last = tuple(map(_last, shape.contains))
        self._alike = not self._prefix and all(asked.most is None and not asked.skip for asked in shape.contains)
        self._needed: dict[Tally, int] = {}

    def complete(self, items: int, tally: Tally) -> bool:
        """Whether the array may end here."""
        return items >= self._min_items and all(map(ge, tally, self._enough))

    def feasible(self, items: int, tally: Tally) -> bool:
        """Whether it may end here, or after more items."""
        if not self._alike:
            return (min(items, self.horizon), tally) in self._feasible
        more = max(self._more(tally), self._min_items - items)
        if more <= 0:
            return True
        enough = more < ENDLESS if self.shape.max_items is None else items + more <= self.shape.max_items
        return enough and bool(self._choices[0])

    def following(self, items: int, tally: Tally) -> Iterator[tuple[Goal, Tally]]:
        """What the next item may satisfy, and the tally that it leads to; from there the array can be completed."""
        for goal, after in self._steps(min(items, self.horizon), tally):
            if self.feasible(items + 1, after):
                yield goal, after

    def best(self, tallies: Iterable[Tally]) -> Tally:
        """Of the readings of one item, that which leaves most open."""
        sign = [1 if asked.most is None else -1 for asked in self.shape.contains]
        return max(tallies, key=lambda tally: tuple(s * count for s, count in zip(sign, tally, strict=True)))

    def shortest(self) -> list[Goal] | None:
        """The goals of the items of a shortest array, None if there is none."""
        if not self.feasible(0, self.start):
            return None
        came: dict[tuple[int, Tally], tuple[tuple[int, Tally], Goal] | None] = {(0, self.start): None}
        queue = deque(came)
        while queue:
            here = queue.popleft()
            if self.complete(*here):
                goals: list[Goal] = []
                step = came[here]
                while step is not None:
                    goals.append(step[1])
                    step = came[step[0]]
                return goals[::-1]
            for goal, after in self.following(*here):
                there = (min(here[0] + 1, self.horizon), after)
                if there not in came:
                    came[there] = (here, goal)
                    queue.append(there)
        raise AssertionError("a feasible array can be completed")

    def _steps(self, items: int, tally: Tally) -> Iterator[tuple[Goal, Tally]]:
        if self.shape.max_items is not None and items >= self.shape.max_items:
            return
        for goal, adds in self._choices[min(items, self._prefix)]:
            after = tuple(map(add, tally, adds))
            if all(map(le, after, self._most)):
                yield goal, tuple(map(min, after, self._last))

    @cached_property
    def _choices(self) -> list[list[tuple[Goal, Tally]]]:
        """By item of the prefix, and for the items after it: the goals that have values, and what each counts."""
        choices: list[list[tuple[Goal, Tally]]] = []
        for item in range(self._prefix + 1):
            goals = [way.prefix[item] if item < self._prefix else way.rest for way in self.shape.ways]
            counted = [tuple(way.counted >> i & 1 for i in range(len(self.start))) for way in self.shape.ways]
            possible = {goal for goal in goals if goal != NEVER and self._possible(goal)}
            choices.append([(goal, adds) for goal, adds in zip(goals, counted, strict=True) if goal in possible])
        return choices

    def _more(self, tally: Tally) -> int:
        """How many items must still come for what is to be counted, where all items are alike; `ENDLESS`: no number
        of items is enough."""
        known = self._needed.get(tally)
        if known is not None:
            return known
        more, reached, seen = 0, {tally}, {tally}
        while reached and not any(all(map(ge, counts, self._enough)) for counts in reached):
            after = {
                tuple(map(min, map(add, counts, adds), self._last)) for counts in reached for adds in self._strongest
            }
            reached = after - seen
            seen |= reached
            more += 1
        self._needed[tally] = more if reached else ENDLESS
        return self._needed[tally]

    @cached_property
    def _strongest(self) -> list[Tally]:
        """What the ways count that no other way counts too."""
        counted = {adds for _, adds in self._choices[0]}
        return [adds for adds in counted if not any(adds != other and all(map(le, adds, other)) for other in counted)]

    @cached_property
    def _feasible(self) -> set[tuple[int, Tally]]:
        before: dict[tuple[int, Tally], list[tuple[int, Tally]]] = {(0, self.start): []}
        stack = list(before)
        while stack:
            here = stack.pop()
            for _, after in self._steps(*here):
                there = (min(here[0] + 1, self.horizon), after)
                if there not in before:
                    before[there] = []
                    stack.append(there)
                before[there].append(here)
        stack = [place for place in before if self.complete(*place)]
        completable = set(stack)
        while stack:
            for place in before[stack.pop()]:
                if place not in completable:
                    completable.add(place)
                    stack.append(place)
        return completable


def _last(asked: Contains) -> int:
    """The count beyond which nothing changes, or nothing may be counted."""
    return asked.least if asked.most is None else asked.most
