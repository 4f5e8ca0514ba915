"""Figures are on disk as soon as they are known, and what fails costs its own line only."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.figures import Figures, Target


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_case_that_fails_costs_its_own_line(tmp_path: Path) -> None:
    path = tmp_path / "figures.jsonl"
    figures = Figures(str(path), 60)

    def measure(case: int) -> None:
        assert len(lines(path)) == case, "the lines before are written already"
        if case == 1:
            raise ValueError("broken")
        figures.write({"case": case})

    def cases() -> Iterator[int]:
        yield from range(3)
        raise MemoryError("no more")

    figures.each({"model": "m"}, cases, measure)
    assert lines(path) == [
        {"case": 0},
        {"model": "m", "case": "1", "error": "ValueError: broken"},
        {"case": 2},
        {"model": "m", "error": "MemoryError: no more"},
    ]
    assert figures.failed == 2


def test_no_case_begins_when_the_time_is_over(tmp_path: Path) -> None:
    path = tmp_path / "figures.jsonl"
    figures = Figures(str(path), -1)
    figures.each({"model": "m"}, lambda: iter(range(3)), lambda case: pytest.fail("begun"))
    assert lines(path) == [{"model": "m", "left_out": "the time is over"}]


@pytest.mark.parametrize(
    ("target", "value", "met"),
    [(Target("share", least=0.8), 0.8, True), (Target("share", least=0.8), 0.79, False),
     (Target("share", most=1.3), 1.2, True), (Target("share", most=1.3), 1.31, False)],
)  # fmt: skip
def test_a_target_stands_beside_its_figure(target: Target, value: float, met: bool, tmp_path: Path) -> None:
    path = tmp_path / "figures.jsonl"
    Figures(str(path), 60).write({"share": value}, target)
    (line,) = lines(path)
    bound = {"at_least": 0.8} if target.most is None else {"at_most": 1.3}
    assert line["target"] == {"figure": "share", "value": value, **bound, "met": met}
