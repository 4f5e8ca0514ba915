"""Windows are the calendar's, limits of one window add up to the strictest, and every caller has his own meters."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ledger.limiting import MICROSECONDS, UNLIMITED, Amounts, LimitBook, window
from schemas.limits import Limit, Per, ScopedLimit
from schemas.money import NANO

MOMENTS = st.integers(0, 4_000_000_000)


@given(MOMENTS, st.sampled_from(["minute", "day", "month"]))
def test_a_window_is_the_same_until_its_end_and_another_from_then_on(now: int, per: Per) -> None:
    name, end = window(per, now)
    assert end is not None
    ends = end // MICROSECONDS
    assert now < ends
    assert window(per, ends - 1) == (name, end)
    assert window(per, ends)[0] != name


@given(MOMENTS)
def test_windows_begin_where_the_calendar_says(now: int) -> None:
    ends = {per: window(per, now)[1] for per in ("minute", "day", "month")}
    minute, day, month = (datetime.fromtimestamp((end or 0) / MICROSECONDS, UTC) for end in ends.values())
    assert minute.second == 0
    assert (day.hour, day.minute, day.second) == (0, 0, 0)
    assert (month.day, month.hour, month.minute, month.second) == (1, 0, 0, 0)
    assert window("total", now) == ("", None)


def test_a_caller_is_charged_under_key_tenant_and_server() -> None:
    book = LimitBook(
        [
            ScopedLimit(key="ci", per="minute", requests=60),
            ScopedLimit(key="ci", per="minute", requests=70, tokens=5),
            ScopedLimit(tenant="acme", per="total", usd="1.5"),
            ScopedLimit(per="day", tokens=9),
            ScopedLimit(key="app", per="day", tokens=1),
        ],
        {"ci": [Limit(per="minute", tokens=3)]}.get,  # type: ignore[arg-type]
    )
    ceilings = {meter.id: meter.ceiling for meter in book.meters("acme", "ci", 0)}
    assert ceilings == {
        "all::day:1970-01-01": Amounts(UNLIMITED, 9, UNLIMITED),
        "key:ci:minute:0": Amounts(60, 3, UNLIMITED),
        "tenant:acme:total:": Amounts(UNLIMITED, UNLIMITED, 3 * NANO // 2),
    }


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz")), min_size=2, max_size=6))
def test_meters_are_charged_in_one_order_by_everybody(callers: list[tuple[str, str]]) -> None:
    """Two transactions that charge the same meters in different orders would wait for each other."""
    limits = [ScopedLimit(key=key, per="day", tokens=1) for _, key in callers]
    limits += [ScopedLimit(tenant=tenant, per="month", tokens=1) for tenant, _ in callers]
    book = LimitBook([*limits, ScopedLimit(per="total", requests=1), ScopedLimit(per="minute", requests=1)])
    for tenant, key in callers:
        ids = [meter.id for meter in book.meters(tenant, key, 0)]
        assert ids == sorted(ids)


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"per": "day"}, "a limit is of"), ({"per": "day", "tokens": 1, "key": "a", "tenant": "b"}, "of a `tenant`")],
)
def test_limits_that_say_nothing_or_two_things(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ScopedLimit(**fields)  # type: ignore[arg-type]
