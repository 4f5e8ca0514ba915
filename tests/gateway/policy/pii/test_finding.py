"""What is personal data, and what only looks like it."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.pii.finding import BuiltIn
from gateway.policy.pii.kinds import KINDS

find = BuiltIn().find

TRUE = [
    ("email", "jane.doe+news@mail.corp.example"),
    ("iban", "DE89 3704 0044 0532 0130 00"),
    ("iban", "GB82WEST12345698765432"),
    ("card", "4111 1111 1111 1111"),
    ("card", "5500-0000-0000-0004"),
    ("card", "378282246310005"),
    ("ip address", "203.0.113.7"),
    ("ip address", "2001:db8::8a2e:370:7334"),
    ("phone number", "+49 30 901820"),
    ("phone number", "0041 44 668 18 00"),
    ("phone number", "(212) 555-2368"),
    ("social security number", "536-90-4399"),
    ("social security number", "756.9217.0769.85"),
    ("social security number", "2 95 10 99 126 111 93"),
    ("tax number", "RCCMNL83S18D969H"),
    ("tax number", "390.533.447-05"),
    ("identity number", "54362315K"),
    ("identity number", "X-2482300W"),
    ("identity number", "131052-308T"),
    ("identity number", "44051401359"),
    ("identity number", "85.07.30-033.28"),
]
FALSE = [
    "4111 1111 1111 1112",
    "DE89 3704 0044 0532 0130 02",
    "999.1.1.1",
    "version 1.2.3.4.5",
    "127.0.0.1",
    "12:30:45",
    "+49 12",
    "536-90-0000",
    "44051401358",
    "user@host",
    "order 943476870 of 2026-11-22",
    "0000000000000000",
    "x = a@b; y = c",
]


@pytest.mark.parametrize(("kind", "text"), TRUE)
@pytest.mark.parametrize("around", ["{}", "see {}, please", '"{}"', "({})", "ä{}ö\n"])
def test_what_is_found(kind: str, text: str, around: str) -> None:
    whole = around.format(text)
    if around == "ä{}ö\n":
        whole = around.replace("{}", f" {text} ")
    (found,) = find(whole)
    assert (found.kind.name, whole[found.begin : found.end]) == (kind, text)


@pytest.mark.parametrize("text", FALSE)
def test_what_is_not(text: str) -> None:
    assert not find(text)


@pytest.mark.parametrize(
    ("text", "number"), [("BSN: 111222333", "111222333"), ("my NHS number is 401 023 2137", "401 023 2137")]
)
def test_weak_checksums_need_a_word_before_them(text: str, number: str) -> None:
    (found,) = find(text)
    assert text[found.begin : found.end] == number
    assert not find(f"order {number}")


@given(st.lists(st.sampled_from([text for _, text in TRUE] + FALSE + [" ", ", ", "\n", "ab"]), max_size=12))
def test_what_is_found_lies_side_by_side_and_is_valid(pieces: list[str]) -> None:
    text = "".join(pieces)
    end = 0
    for found in find(text):
        assert end <= found.begin < found.end
        assert found.kind.valid(text[found.begin : found.end])
        end = found.end


@pytest.mark.parametrize("piece", ["1", "1 ", "a@", "A1", "1.", ":a", "+1-", "a.b@c.", "12-"])
def test_patterns_are_linear(piece: str) -> None:
    """A text made to hurt costs no more than a few times as much as any other."""
    text = piece * (200_000 // len(piece))
    for kind in KINDS:
        began = time.process_time()
        assert sum(1 for _ in kind.pattern.finditer(text)) < len(text)
        assert time.process_time() - began < 3.0, kind.pattern.pattern
