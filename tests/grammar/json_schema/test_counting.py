"""`Counting` against a search that tries every way to write every item."""

from __future__ import annotations

from functools import cache

from hypothesis import given
from hypothesis import strategies as st

from grammar.json_schema.counting import Counting
from grammar.json_schema.shapes import ANY, NEVER, ArrayShape, Contains, Way

LONGEST = 12
"""More items than any of the shapes below asks for."""


@st.composite
def shapes(draw: st.DrawFn) -> ArrayShape:
    prefix = draw(st.integers(0, 2))
    some = st.integers(0, 2)
    contains = draw(
        st.lists(
            st.builds(
                lambda least, more, skip: Contains(ANY, least, None if more is None else least + more, skip),
                some, st.none() | some, st.integers(0, prefix),
            ),
            min_size=1, max_size=3,
        )
    )  # fmt: skip
    ways: list[Way] = []
    for _ in range(draw(st.integers(1, 4))):
        counted = draw(st.integers(0, 2 ** len(contains) - 1))
        first = max((asked.skip for i, asked in enumerate(contains) if counted >> i & 1), default=0)
        goals = [draw(st.sampled_from((ANY, ANY, NEVER))) for _ in range(prefix + 1)]
        ways.append(Way(counted, tuple(NEVER if i < first else goals[i] for i in range(prefix)), goals[prefix]))
    least = draw(st.integers(0, 4))
    most = draw(st.none() | st.integers(max(least, prefix), 6))
    return ArrayShape(
        (ANY,) * prefix, ANY, min_items=least, max_items=most, contains=tuple(contains), ways=tuple(ways)
    )  # fmt: skip


@given(shapes())
def test_an_array_is_feasible_where_some_way_to_write_its_items_completes_it(shape: ArrayShape) -> None:
    counting = Counting(shape, lambda goal: True)
    most = LONGEST if shape.max_items is None else shape.max_items

    def steps(items: int, tally: tuple[int, ...]) -> set[tuple[int, ...]]:
        found: set[tuple[int, ...]] = set()
        for way in shape.ways:
            goal = way.prefix[items] if items < len(way.prefix) else way.rest
            after = tuple(count + (way.counted >> i & 1) for i, count in enumerate(tally))
            within = all(a.most is None or count <= a.most for a, count in zip(shape.contains, after, strict=True))
            if goal != NEVER and within:
                found.add(after)
        return found

    @cache
    def completable(items: int, tally: tuple[int, ...]) -> bool:
        enough = all(count >= asked.least for asked, count in zip(shape.contains, tally, strict=True))
        if enough and items >= shape.min_items:
            return True
        return items < most and any(completable(items + 1, after) for after in steps(items, tally))

    start = counting.start
    assert counting.feasible(0, start) == completable(0, start)
    shortest = counting.shortest()
    assert (shortest is None) == (not completable(0, start))
    # All places that can be reached by what is offered are completable, and none that is completable is left out.
    places = {(0, start, start)} if completable(0, start) else set()
    for items in range(min(most, 5)):
        following: set[tuple[int, tuple[int, ...], tuple[int, ...]]] = set()
        for _, exact, tally in places:
            offered = {after for _, after in counting.following(items, tally)}
            wanted = {after for after in steps(items, exact) if completable(items + 1, after)}
            capped = {
                tuple(
                    min(n, a.least if a.most is None else a.most) for n, a in zip(after, shape.contains, strict=True)
                ): after
                for after in wanted
            }
            assert offered == set(capped)
            following |= {(items + 1, after, tally) for tally, after in capped.items()}
        places = following
