"""What a shape leaves out: the complement, a type at a time (the not-elimination of Attouche et al., PVLDB 2022).

strings     shorter, longer, a pattern that is not found, an excluded one that is
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from grammar.errors import UnsupportedConstraint
from grammar.json_schema.formats import NARROWED
from grammar.json_schema.shapes import KeyClass, StringEnum, StringShape


_SYNTAX = re.compile(r"[\\^$.*+?()[\]{}|/]")


def literals(texts: Sequence[str]) -> str:
    """An ECMA-262 pattern that matches just these texts."""
    return "^(?:" + "|".join(_SYNTAX.sub(r"\\\g<0>", text) for text in texts) + ")$"


def outside(shape: KeyClass) -> list[StringShape]:
    """Disjoint classes of all strings that do not satisfy a string shape. UnsupportedConstraint for a narrowed format,
    whose complement would have to leave out what the format's does."""
    if isinstance(shape, StringEnum):
        return [StringShape(excluded=(literals(shape.values),))]
    low, high = shape.min_length, shape.max_length
    cells: list[StringShape] = []
    if low > 0:
        cells.append(StringShape(0, low - 1))
    if high is not None:
        cells.append(StringShape(high + 1))
    for i, pattern in enumerate(shape.patterns):
        if pattern in NARROWED:
            raise UnsupportedConstraint("a format that is written only in part cannot be negated")
        cells.append(StringShape(low, high, shape.patterns[:i], (pattern,)))
    for i, pattern in enumerate(shape.excluded):
        cells.append(StringShape(low, high, (*shape.patterns, pattern), shape.excluded[:i]))
    return cells
