"""The official JSON Schema Test Suite by tokens: is the compact text of an instance a sentence exactly if it is valid?

Each text is cut at random over a byte-complete vocabulary, and canonically by the embedded model's tokenizer where that
is at hand; each token must be allowed by the mask before it, and the end after the last.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Literal

import pytest

from engine.model.files import open_model
from fsm.tokens import TokenTable
from grammar.constraint import Contract, JsonSchema
from grammar.errors import ConstraintTooLarge, UnsatisfiableConstraint, UnsupportedConstraint
from grammar.json_schema.formats import FORMATS
from tests.engine.decoding import MODEL, needs_model
from tests.fsm.recognition import Recogniser, Splitter, byte_complete, compact

DATA = Path(__file__).parents[2].parent / "shared" / "data"
SUITE = DATA / "json_schema_test_suite.jsonl.gz"
REMOTES = DATA / "json_schema_test_suite_remotes.json.gz"
SCHEMAS = {
    "draft4": "http://json-schema.org/draft-04/schema#",
    "draft6": "http://json-schema.org/draft-06/schema#",
    "draft7": "http://json-schema.org/draft-07/schema#",
    "draft2019-09": "https://json-schema.org/draft/2019-09/schema",
    "draft2020-12": "https://json-schema.org/draft/2020-12/schema",
}
MISSING: dict[tuple[str, str], str] = {}
"""(file, group) → contract, place and reason, for the required groups of which some valid instance cannot be
written."""
NOT_CHOSEN = (
    "optional/bignum",  # `program.limits` caps the digits of a number
    "optional/float-overflow",
    "optional/content",  # an annotation, as later drafts say
    "optional/dependencies-compatibility",  # the drafts that dropped the keyword read it as an annotation
)
"""Options of the specifications that are not taken."""
NARROWED_FORMATS = frozenset("date-time email hostname idn-email idn-hostname regex time uri-template".split())
"""Formats of which the suite has valid texts that are not written; `grammar/json_schema/formats.py` says which."""

pytestmark = pytest.mark.skipif(not SUITE.exists(), reason=f"the JSON Schema Test Suite is not at {SUITE}")


@cache
def groups() -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.open(SUITE, "rt", encoding="utf-8")]


@cache
def remotes() -> dict[str, Any]:
    return json.loads(gzip.open(REMOTES, "rt", encoding="utf-8").read())


Cut = Callable[[str], list[int]]


@cache
def random_pieces() -> tuple[Recogniser, Cut]:
    rng = random.Random(5)
    table = byte_complete([compact(test["data"]) for group in groups() for test in group["tests"]], 2000, rng)
    return Recogniser(table), Splitter(table, rng)


@cache
def embedded_model() -> tuple[Recogniser, Cut]:
    tokenizer = open_model(str(MODEL)).tokenizer()
    return Recogniser(TokenTable.from_bytes(tokenizer.vocabulary, tokenizer.eos_ids)), tokenizer.encode


def judge(vocabulary: tuple[Recogniser, Cut], group: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What is not as the suite has it: ("wrong", what), or ("missing", contract and place)."""
    recogniser, cut = vocabulary
    schema = group["schema"]
    if isinstance(schema, dict) and "$schema" not in schema:
        schema = {"$schema": SCHEMAS[group["draft"]], **schema}
    formats: Literal["assert", "annotate"] = "assert" if group["file"].startswith("optional/format") else "annotate"
    constraint = JsonSchema(
        schema, property_order="any", whitespace="compact", number="free", formats=formats, registry=remotes()
    )
    tests = [test for test in group["tests"] if _spellable(recogniser.table, test["data"])]
    try:
        program = recogniser.compile(constraint)
    except UnsatisfiableConstraint as error:
        yield from (("wrong", f"{test['description']}: {error}") for test in tests if test["valid"])
        return
    except (UnsupportedConstraint, ConstraintTooLarge) as error:
        yield "missing", f"REFUSED {error.pointer}"
        return
    for test in tests:
        accepted = recogniser.accepts(program, cut(compact(test["data"])))
        if accepted and not test["valid"]:
            yield "wrong", f"{test['description']}: accepted"
        elif test["valid"] and not accepted and program.contract is Contract.SOUND_SUBSET:
            yield "missing", f"SOUND_SUBSET {program.reasons[0]}"
        elif test["valid"] and not accepted:
            yield "wrong", f"{test['description']}: rejected"
    recogniser.forget(program)


def compare(vocabulary: tuple[Recogniser, Cut], chosen: list[dict[str, Any]]) -> set[tuple[str, str]]:
    """Hold verdicts against the suite's. Returns the (file, group) of which something is missing, as listed."""
    wrong: list[str] = []
    missing: set[tuple[str, str]] = set()
    for group in chosen:
        which = (group["file"], group["group"])
        for kind, what in judge(vocabulary, group):
            if kind == "missing" and what == expected(group):
                missing.add(which)
            else:
                wrong.append(f"{group['draft']} {group['file']}: {group['group']}: {what}")
    assert not wrong, "\n".join(wrong)
    return missing


def expected(group: dict[str, Any]) -> str | None:
    """What `judge` may say that is missing of a group."""
    name = group["schema"].get("format") if isinstance(group["schema"], dict) else None
    if name in NARROWED_FORMATS and group["file"].startswith("optional/format"):
        return f"SOUND_SUBSET /format: {name} is written without {FORMATS[name].narrowed}"
    return MISSING.get((group["file"], group["group"]))


def required() -> list[dict[str, Any]]:
    return [group for group in groups() if not group["optional"]]


def formats() -> list[dict[str, Any]]:
    return [group for group in groups() if group["file"].startswith("optional/format")]


def options() -> list[dict[str, Any]]:
    return [
        group
        for group in groups()
        if group["optional"] and not group["file"].startswith(("optional/format", *NOT_CHOSEN))
    ]


def part(chosen: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    return random.Random(7).sample(chosen, count)


def test_the_suite_is_whole() -> None:
    assert (len(required()), len(formats())) == (1404, 101)


def test_random_pieces() -> None:
    compare(random_pieces(), part(required(), 150) + options())
    compare(random_pieces(), part(formats(), 15))


@needs_model
def test_canonical_tokens() -> None:
    compare(embedded_model(), part(required(), 250))
    compare(embedded_model(), part(formats(), 15))


@pytest.mark.slow
def test_every_group_in_random_pieces() -> None:
    assert compare(random_pieces(), required()) == MISSING.keys(), "the list is as short as it can be"
    compare(random_pieces(), formats())


@pytest.mark.slow
@needs_model
def test_every_group_in_canonical_tokens() -> None:
    assert compare(embedded_model(), required()) == MISSING.keys(), "the list is as short as it can be"
    compare(embedded_model(), formats())


def _spellable(table: TokenTable, value: Any) -> bool:
    """Whether the vocabulary has all bytes of a value's text."""
    return all(table.spellable[byte] for byte in compact(value).encode())
