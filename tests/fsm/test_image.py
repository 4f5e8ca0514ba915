"""Images: packed and brought back they are the same machine, and rows that were dropped are walked again."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fsm.packing import narrowed, widened
from fsm.program import Matcher, Program, compile_constraint
from fsm.runtime import Runtime
from fsm.steps import OK
from fsm.tokens import TokenTable
from grammar.constraint import Constraint, JsonSchema, Lark, Regex

BYTES = TokenTable.from_bytes([*(bytes([b]) for b in range(256)), b'{"a', b'": ', b'", "', None], [259])
OBJECT = JsonSchema(
    {"properties": {"ab": {"type": "string"}, "n": {"enum": [1, 2]}}, "required": ["n"], "maxProperties": 4},
    property_order="any",
)
UNIQUE = JsonSchema({"type": "array", "uniqueItems": True}, property_order="any")
TAIL = Regex(".*a.{20}")
SUM = Lark('start: start "+" start | "(" start ")" | "a"')
TEXT = b'{"ab": "x", "zz": [1, {"q": "w"}], "n": 2'


def walk(program: Program, text: bytes) -> list[Matcher]:
    matcher = program.matcher()
    met = [matcher.fork()]
    for byte in text:
        assert matcher.advance(byte), byte
        met.append(matcher.fork())
    return met


def masks_on_the_way(runtime: Runtime, number: int, text: bytes) -> list[np.ndarray]:
    """The masks before each byte of a text and after it, of a program whose states are all expanded."""
    one = np.array([number], np.int32)
    state, row, status = np.array([runtime.start(number)], np.int32), np.empty(1, np.int32), np.empty(1, np.uint8)
    found: list[np.ndarray] = []
    for byte in [*text, None]:
        runtime.rows(one, state, row, status)
        assert status[0] == OK
        found.append(runtime.pool.mask(int(row[0])))
        if byte is not None:
            after = state.copy()
            runtime.advance(one, state, np.array([byte], np.int32), after, status)
            assert status[0] == OK
            state = after
    return found


@pytest.mark.parametrize(
    ("constraint", "text", "smaller"),
    [(OBJECT, TEXT, 40), (UNIQUE, b'[{"a": 1}, "x", [2', 10), (TAIL, b"xxay", 20), (SUM, b"a+a+(a)+", 10)],
    ids=["json", "unique", "pattern", "lark"],
)
def test_a_program_that_slept_is_the_same(constraint: Constraint, text: bytes, smaller: int) -> None:
    program = compile_constraint(constraint, BYTES)
    masks = [matcher.mask() for matcher in walk(program, text)]
    runtime, lasting = program.runtime, program.image.loops.copy()
    sleeping = runtime.sleep(program.number)
    assert sleeping.nbytes * smaller < program.image.nbytes
    number = runtime.wake(sleeping)
    walked = runtime.figures.cold
    assert np.array_equal(masks_on_the_way(runtime, number, text), masks)
    assert runtime.figures.cold == walked
    kept = runtime.image(number).loops
    assert np.array_equal(kept, lasting[: len(kept)])
    assert not lasting[len(kept) :].any()


def test_a_program_can_sleep_again_and_again() -> None:
    program = compile_constraint(OBJECT, BYTES)
    masks = [matcher.mask() for matcher in walk(program, TEXT)]
    runtime, number, sizes = program.runtime, program.number, set[int]()
    for _ in range(4):
        sleeping = runtime.sleep(number)
        sizes.add(sleeping.nbytes)
        number = runtime.wake(sleeping)
        assert np.array_equal(masks_on_the_way(runtime, number, TEXT), masks)
    assert len(sizes) == 1


def test_a_sleeping_program_knows_no_row_that_has_changed() -> None:
    runtime = Runtime(BYTES)
    program = compile_constraint(OBJECT, BYTES, runtime=runtime)
    masks = [matcher.mask() for matcher in walk(program, TEXT)]
    sleeping = runtime.sleep(program.number)
    runtime.trim(0, [])
    # Other rows take the free numbers.
    other = compile_constraint(JsonSchema({"type": "integer", "maximum": 7}), BYTES, runtime=runtime)
    for matcher in walk(other, b"-12"):
        matcher.mask()
    assert np.array_equal(masks_on_the_way(runtime, runtime.wake(sleeping), TEXT), masks)


@given(arrays(np.int32, st.tuples(st.integers(0, 9), st.just(4))), st.sets(st.integers(0, 3)))
def test_tables_are_narrowed_without_loss(table: np.ndarray, climbing: set[int]) -> None:
    data = b"before" + narrowed(table, climbing)
    found, end = widened(data + b"after", 6, 4, climbing)
    assert np.array_equal(found, table)
    assert end == len(data)


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
