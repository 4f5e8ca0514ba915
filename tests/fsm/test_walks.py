"""Random walks over real schemas: whatever tokens were taken, the text can be finished, and is then valid.

A walk takes up to 200 random tokens, half of them among those that hold a quote (uniform choices would never leave the
first string), and is then closed byte by byte: by what closes, else by what opens nothing, at random; and where that
comes to no end (in a string that must hold some word, say) by `Matcher.completion`. What a walk ends in is validated by
jsonschema with format checking.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from jsonschema.validators import validator_for

from fsm.program import Matcher, Program
from grammar.constraint import JsonSchema
from grammar.errors import ConstraintError
from tests.fsm.real_schemas import cases, needs_schemas, vocabulary

pytestmark = needs_schemas

TOKENS = 200
CHANCE, CLOSING = 400, 5_000
"""Bytes after which `Matcher.completion` is asked, and all of them: some schemas ask for long texts."""
EAGER = [frozenset(b'"}]'), frozenset(range(256)) - frozenset(b"[{,"), frozenset(b"[{"), frozenset(range(256))]
"""What closing takes first, a class after another."""

Validate = Callable[[Any], bool]


def _in_python(schema: Any) -> Any:
    """A schema whose patterns mean to Python's `re`, which jsonschema asks, what they mean in ECMA-262: there U+FEFF is
    a space."""
    if isinstance(schema, list):
        return [_in_python(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _in_python(value) for key, value in schema.items()}
    if isinstance(schema.get("pattern"), str):
        found["pattern"] = _with_spaces(schema["pattern"])
    return found


def _with_spaces(pattern: str) -> str:
    out, inside = "", False
    for piece in re.findall(r"\\.|.", pattern, re.DOTALL):
        inside = (inside or piece == "[") and piece != "]"
        spaces = r"\s\ufeff" if inside else r"[\s\ufeff]"
        out += spaces if piece == r"\s" else piece
    return out


def validator(schema: Any) -> Validate:
    """jsonschema's verdict on a decoded value; both with exact numbers."""
    exact = json.loads(json.dumps(_in_python(schema)), parse_float=Decimal)
    kind = validator_for(exact, default=validator_for({}))
    return kind(exact, format_checker=kind.FORMAT_CHECKER).is_valid


def walk(program: Program, quoting: np.ndarray[Any, np.dtype[np.bool_]], rng: random.Random) -> bytes | None:
    """The text of one walk; None where no way to the end was found. AssertionError in a dead end."""
    table, matcher, text = program.table, program.matcher(), bytearray()

    def take(token: int) -> None:
        assert matcher.advance(token), "the mask allows what the step refuses"
        text.extend(table.bytes_of(token) or b"")

    for _ in range(rng.randint(0, TOKENS)):
        allowed = matcher.allowed()
        assert len(allowed), f"a dead end after {bytes(text)!r}"
        allowed = allowed[~table.special[allowed]]
        if not len(allowed):
            break
        quotes = allowed[quoting[allowed]]
        take(int(rng.choice(quotes if len(quotes) and rng.random() < 0.5 else allowed)))
    for i in range(CLOSING):
        if i == CHANCE:
            for token in matcher.completion() or ():
                take(token)
        if matcher.accepting:
            return bytes(text)
        take(_closer(matcher, rng))
    return None


def _closer(matcher: Matcher, rng: random.Random) -> int:
    """A byte that leads on to the end; the ids of bytes are their values."""
    allowed = matcher.allowed()
    allowed = allowed[allowed < 256].tolist()
    assert allowed, "a dead end"
    return rng.choice(next(found for eager in EAGER if (found := [byte for byte in allowed if byte in eager])))


def walks(chosen: list[dict[str, Any]], each: int) -> Counter[str]:
    """Take ``each`` walks of some schemas. Returns how they went."""
    recogniser, _ = vocabulary()
    quoting = np.array([b'"' in (recogniser.table.bytes_of(i) or b"") for i in range(recogniser.table.vocab_size)])
    outcomes: Counter[str] = Counter()
    for case in chosen:
        rng = random.Random(case["id"])
        try:
            program = recogniser.compile(JsonSchema(case["schema"]))
        except ConstraintError:
            outcomes["refused"] += 1
            continue
        valid = validator(case["schema"])
        for _ in range(each):
            text = walk(program, quoting, rng)
            if text is None:
                outcomes["open"] += 1
                continue
            try:
                assert valid(json.loads(text, parse_float=Decimal)), f"{case['id']}: {text!r} is invalid"
            except RecursionError:
                outcomes["no oracle"] += 1
            else:
                outcomes["valid"] += 1
        recogniser.forget(program)
    return outcomes


def test_walks_over_real_schemas_end_and_are_valid() -> None:
    outcomes = walks(random.Random(3).sample(cases(), 40), 3)
    assert outcomes["valid"] > 100


@pytest.mark.slow
def test_twenty_thousand_walks_end_and_are_valid() -> None:
    outcomes = walks(cases(), 14)
    assert outcomes["valid"] > 20_000
    assert outcomes["open"] < 50  # neither chance nor a search with bounded fuel has closed them
