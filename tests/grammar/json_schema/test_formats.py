"""Formats against jsonschema's checkers: texts sampled from their automata, and the suite's optional groups."""

from __future__ import annotations

import gzip
import json
import random
import re
from datetime import date

import pytest
from jsonschema import Draft202012Validator

from grammar.json_schema.formats import FORMATS, NARROWED
from grammar.json_schema.normal import Normal
from grammar.json_schema.shapes import StringShape
from grammar.json_schema.strings import Strings
from grammar.json_schema.values import accepts
from grammar.regex.dfa import LazyDfa
from tests.grammar.json_schema.test_suite import SCHEMAS, SUITE

CHECKER = Draft202012Validator.FORMAT_CHECKER


def dfa(name: str) -> LazyDfa:
    form = FORMATS[name]
    return Strings([True] * 256, 100_000).patterned(StringShape(0, form.max_length, (form.pattern,)))


def sample(automaton: LazyDfa, rng: random.Random) -> str | None:
    """A random text, None where none ended in time."""
    text, state = bytearray(), automaton.start
    while len(text) < 300:
        edges = automaton.edges(state)
        if automaton.accepting(state) and (not edges or rng.random() < (0.15 if len(text) < 30 else 0.7)):
            return json.loads(b'"' + text + b'"')
        lo, hi, state = rng.choice(edges)
        text.append(rng.randint(lo, hi))
    return None


@pytest.mark.parametrize("name", FORMATS)
def test_no_text_of_a_format_is_rejected_by_jsonschema(name: str) -> None:
    automaton, rng = dfa(name), random.Random(name)
    texts = {text for _ in range(300) if (text := sample(automaton, rng)) is not None}
    if name == "relative-json-pointer":  # the checker takes the 01 of 101 for a leading zero
        texts = {text for text in texts if not re.match("[0-9]*0[0-9]", text)}
    if not CHECKER.conforms("a:\U00010400", "iri"):  # one of the checker's engines knows no ucschar above U+FFFF
        texts = {text for text in texts if not name.startswith("iri") or max(text, default="") < "\U00010000"}
    assert len(texts) > 50
    assert not [text for text in texts if not CHECKER.conforms(text, name)]


def test_dates_are_those_of_the_calendar() -> None:
    automaton = dfa("date")
    for year in (1, 4, 100, 400, 1900, 1999, 2000, 2023, 2024, 2100, 9999):
        for month in range(14):
            for day in range(33):
                text = f"{year:04}-{month:02}-{day:02}"
                try:
                    expected = date.fromisoformat(text).isoformat() == text
                except ValueError:
                    expected = False
                assert automaton.accepts(text.encode()) == expected, text


def test_a_narrowed_format_is_named_with_its_place() -> None:
    strings = Strings([True] * 256, 100_000)
    schema = {
        "properties": {"at": {"type": "string", "format": "date-time"}, "id": {"type": "string", "format": "uuid"}}
    }
    form = Normal(schema, string_productive=strings.productive, matches=strings.matches)
    assert form.reasons == ("/properties/at/format: date-time is written without leap seconds and the year 0000",)
    assert Normal(schema, formats="annotate").reasons == ()


@pytest.mark.skipif(not SUITE.exists(), reason=f"the JSON Schema Test Suite is not at {SUITE}")
def test_the_suites_formats() -> None:
    """Invalid texts are refused, all of them; valid ones are taken unless the format says that it is narrowed."""
    wrong: list[str] = []
    verdicts = 0
    for line in gzip.open(SUITE, "rt", encoding="utf-8"):
        group = json.loads(line)
        if not group["file"].startswith("optional/format/"):
            continue
        strings = Strings([True] * 256, 100_000)
        schema = {"$schema": SCHEMAS[group["draft"]], **group["schema"]}
        form = Normal(schema, string_productive=strings.productive, matches=strings.matches)
        for test in group["tests"]:
            verdict = accepts(form, form.root, test["data"])
            if verdict != test["valid"] and (verdict or not form.reasons):
                wrong.append(f"{group['draft']} {group['file']}: {test['description']}")
            verdicts += 1
    assert not wrong, "\n".join(wrong)
    assert verdicts > 2000


def test_what_is_narrowed_is_known_by_its_pattern() -> None:
    assert {name for name, form in FORMATS.items() if form.pattern in NARROWED} == {
        name for name, form in FORMATS.items() if form.narrowed
    }
