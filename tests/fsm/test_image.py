"""Images: packed and brought back they are the same machine, and rows that were dropped are walked again."""

from __future__ import annotations

import numpy as np
import pytest

from fsm.program import Matcher, Program, compile_constraint
from fsm.runtime import Runtime
from fsm.tokens import TokenTable
from grammar.constraint import Constraint, JsonSchema, Lark

BYTES = TokenTable.from_bytes([*(bytes([b]) for b in range(256)), b'{"a', b'": ', b'", "', None], [259])
OBJECT = JsonSchema(
    {"properties": {"ab": {"type": "string"}, "n": {"enum": [1, 2]}}, "required": ["n"], "maxProperties": 4},
    property_order="any",
)
SUM = Lark('start: start "+" start | "(" start ")" | "a"')
TEXT = b'{"ab": "x", "zz": [1, {"q": "w"}], "n": 2'


def walk(program: Program, text: bytes) -> list[Matcher]:
    matcher = program.matcher()
    met = [matcher.fork()]
    for byte in text:
        assert matcher.advance(byte), byte
        met.append(matcher.fork())
    return met


@pytest.mark.parametrize(("constraint", "text"), [(OBJECT, TEXT), (SUM, b"a+a+(a)+")], ids=["json", "lark"])
def test_a_program_that_slept_is_the_same(constraint: Constraint, text: bytes) -> None:
    program = compile_constraint(constraint, BYTES)
    met = walk(program, text)
    masks = [matcher.mask() for matcher in met]
    runtime = program.runtime
    sleeping = runtime.sleep(program.number)
    assert sleeping.nbytes * 4 < program.image.nbytes
    number = runtime.wake(sleeping)
    walked = runtime.figures.cold
    for matcher, mask in zip(met, masks, strict=True):
        row, status = np.empty(1, np.int32), np.empty(1, np.uint8)
        runtime.rows(np.array([number], np.int32), np.array([matcher.state], np.int32), row, status)
        assert status[0] == 0
        assert np.array_equal(runtime.pool.mask(int(row[0])), mask)
    assert runtime.figures.cold == walked


def test_a_sleeping_program_knows_no_row_that_has_changed() -> None:
    runtime = Runtime(BYTES)
    program = compile_constraint(OBJECT, BYTES, runtime=runtime)
    met = walk(program, TEXT)
    masks = [matcher.mask() for matcher in met]
    sleeping = runtime.sleep(program.number)
    runtime.trim(0, [])
    # Other rows take the free numbers.
    other = compile_constraint(JsonSchema({"type": "integer", "maximum": 7}), BYTES, runtime=runtime)
    for matcher in walk(other, b"-12"):
        matcher.mask()
    number = runtime.wake(sleeping)
    row, status = np.empty(1, np.int32), np.empty(1, np.uint8)
    for matcher, mask in zip(met, masks, strict=True):
        runtime.rows(np.array([number], np.int32), np.array([matcher.state], np.int32), row, status)
        assert np.array_equal(runtime.pool.mask(int(row[0])), mask)


@pytest.mark.parametrize(("constraint", "text"), [(OBJECT, TEXT), (SUM, b"a+a+(a+a)+a")], ids=["json", "lark"])
def test_trimming_keeps_the_rows_in_use_and_walks_the_others_again(constraint: Constraint, text: bytes) -> None:
    program = compile_constraint(constraint, BYTES)
    met = walk(program, text)
    rows, masks = [matcher.row for matcher in met], [matcher.mask() for matcher in met]
    pool = program.runtime.pool
    program.runtime.trim(0, rows[:3])
    assert pool.row_nbytes().sum() == pool.row_nbytes()[sorted(set(rows[:3]))].sum()
    assert [matcher.row for matcher in met[:3]] == rows[:3]
    assert all(np.array_equal(matcher.mask(), mask) for matcher, mask in zip(met, masks, strict=True))
    program.runtime.trim(pool.nbytes(), [])
    assert [matcher.row for matcher in met[:3]] == rows[:3]
