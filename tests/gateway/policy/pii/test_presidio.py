"""Presidio's recognisers behind the same interface, and what is said where they are not there."""

from __future__ import annotations

import sys
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config import ConfigError
from gateway.policy.pii.finding import BuiltIn, Finder
from gateway.policy.pii.placeholders import CannotHide, Mint
from gateway.policy.pii.presidio import finder_of, kind_of
from gateway.policy.pii.redaction import examine
from providers.base import Message
from schemas.config import PersonalData
from tests.gateway.policy.pii.test_finding import FALSE, TRUE
from tests.gateway.policy.pii.test_redaction import hidden, request

WALLET = "16Yeky6GMjeNkAiNcBY7ZhrLoMSgg1BoyZ"
LICENCE = "BB1388568"


@pytest.fixture(scope="module")
def finder() -> Finder:
    pytest.importorskip("presidio_analyzer", reason="Presidio is not installed")
    return finder_of(PersonalData(presidio=True))


def test_it_is_off_by_default() -> None:
    assert isinstance(finder_of(PersonalData()), BuiltIn)


def test_what_is_asked_for_and_not_installed_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "presidio_analyzer", None)
    with pytest.raises(ConfigError, match=r"`pii.presidio`.*sluice\[presidio\]"):
        finder_of(PersonalData(presidio=True))


@pytest.mark.parametrize(
    ("told", "named"),
    [
        (PersonalData(presidio=True, spacy_model="no_such_model"), "`pii.spacy_model`.*`no_such_model`"),
        (PersonalData(presidio=True, language="xyz"), "`pii.language`.*`xyz`"),
        (PersonalData(presidio=True, entities=("PERSON", "SHOE_SIZE")), "`pii.entities`.*no SHOE_SIZE"),
        (PersonalData(presidio=True, entities=("URL",)), "`pii.entities`.*no URL"),
    ],
)
def test_what_it_does_not_know_is_refused_by_name(finder: Finder, told: PersonalData, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        finder_of(told)


def test_it_finds_more(finder: Finder) -> None:
    text = f"Wallet {WALLET}, DEA licence {LICENCE}, mail jane.doe@corp.example."
    assert [(found.kind.name, text[found.begin : found.end]) for found in finder.find(text)] == [
        ("crypto", WALLET),
        ("medical license", LICENCE),
        ("email", "jane.doe@corp.example"),
    ]


@pytest.mark.parametrize(("kind", "text"), TRUE)
def test_it_finds_no_less(finder: Finder, kind: str, text: str) -> None:
    whole = f"see {text}, please"
    covered = {at for found in finder.find(whole) for at in range(found.begin, found.end)}
    assert set(range(4, 4 + len(text))) <= covered


@settings(max_examples=40, deadline=None)
@given(pieces=st.lists(st.sampled_from([WALLET, LICENCE, *FALSE, *(text for _, text in TRUE), " ", ", "]), max_size=8))
def test_what_is_found_lies_side_by_side(finder: Finder, pieces: list[str]) -> None:
    text, end = " ".join(pieces), 0
    for found in finder.find(text):
        assert end <= found.begin < found.end <= len(text)
        end = found.end


def test_what_it_finds_is_hidden(finder: Finder) -> None:
    redaction = examine(request(Message("user", f"Pay {WALLET} now")), "redact", finder)
    out = hidden(redaction).prompt
    assert isinstance(out, tuple) and WALLET not in out[0].content
    placeholder = out[0].content.removeprefix("Pay ").removesuffix(" now")
    assert redaction.originals[placeholder] == WALLET and len(placeholder) == len(WALLET)


@given(st.text(min_size=1, max_size=20), st.integers())
def test_a_placeholder_of_anything_has_its_form_or_there_is_none(original: str, seed: int) -> None:
    try:
        drawn = Mint([original], Random(seed)).placeholder(original, kind_of("PERSON"))
    except CannotHide:
        return
    assert drawn != original and len(drawn) == len(original)
    assert [c for c in drawn if not c.isalnum()] == [c for c in original if not c.isalnum()]


def test_longer_texts_than_it_looks_through_stay_here(finder: Finder) -> None:
    redaction = examine(request(Message("user", "x" * (finder.max_characters + 1))), "redact", finder)
    assert redaction.hidden is None and "not looked through" in redaction.reason
