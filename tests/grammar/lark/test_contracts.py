"""docs/lark.md's table of what is read, row by row: what it says of each semantics is what a grammar gets."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from grammar.constraint import Lark
from grammar.errors import ConstraintError
from grammar.lark.compile import compile_lark

DOCUMENT = Path(__file__).parents[3] / "docs" / "lark.md"

PROBES = {
    "Rules,": ['?start: _a~2 ["b"] -> c\n!_a: ("x" "y"?)+ "z"~1..2'],
    "Left and": ['start: start "a" | "b" e\ne: "c" e |'],
    "Ambiguity": ['start: start "+" start | "a"'],
    "Templates,": ['%import common.DIGIT\n%extend DIGIT: "a"\nstart: x{DIGIT}\nx{y}: y y\n%ignore " "'],
    "`%import` of Lark's": ["%import common.INT\n%import unicode.WS\n%import python.NAME\nstart: INT WS NAME"],
    "`%import` of grammars": ["%import units.LENGTH\nstart: LENGTH"],
    "`%import` of anything": ["%import .other.A\nstart: A", "%import other.A\nstart: A"],
    "Terminals:": ['start: A | B\nA.2: "a"i "b".."c"\nB: /x.y/s'],
    "Lookaheads": ["start: A /.+/\nA: /a(?!b)/"],
    "Lookbehinds": ["start: A\nA: /[ab]+(?<!b)/"],
    "`%declare` of an": ['start: ("a" _NL [_INDENT start _DEDENT])+\n_NL: /(\\n *)+/\n%declare _INDENT _DEDENT'],
    "`%declare` of others": ["start: A\n%declare A"],
    "`%json`,": [
        "start: %json {}",
        'start: %regex {"substring_chars": "ab"}',
        "start: a\na[lazy]: /a*b/",
        'start: a\na[suffix="b"]: /a*/',
        "start: <|tool|>",
        "start: /a*/",
        'start: A\nA: ~"b" & /[ab]/',
    ],
}
SEMANTICS: tuple[Literal["dynamic_complete", "contextual"], ...] = ("dynamic_complete", "contextual")


def rows() -> list[list[str]]:
    table = DOCUMENT.read_text().split("## What is read")[1].split("##")[0]
    lines = [line for line in table.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def promised(grammar: str, semantics: Literal["dynamic_complete", "contextual"]) -> str:
    try:
        constraint = Lark(grammar, semantics=semantics, imports={"units": "LENGTH: /[0-9]+m/"})
        _, reasons = compile_lark(constraint, [True] * 256, 100_000, {"<|tool|>": 300})
    except ConstraintError:
        return "refused"
    return "a sound subset" if reasons else "exact"


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0].split()[0])
def test_a_row(row: list[str]) -> None:
    (probes,) = (probes for name, probes in PROBES.items() if row[0].startswith(name))
    for semantics, said in zip(SEMANTICS, row[1:3], strict=True):
        for probe in probes:
            found = promised(probe, semantics)
            assert said.startswith(found) or (found == "refused" and "or refused" in said), (probe, semantics)


def test_every_row_is_there() -> None:
    assert len(rows()) == len(PROBES)
