"""Kinds of personal data: how each looks, and the checksum that tells it from other text of that look.

Patterns are linear (no nested repetition) and allow nothing that JSON would escape, so that a value can be put back
into a JSON string as it is. Numbers whose checksum is weak, or that have none, need a word before them that says what
they are. Checksums are python-stdnum's; phone numbers are judged by phonenumbers, IP addresses by the standard library.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import phonenumbers
from stdnum import iban, luhn
from stdnum.be import nn as be_nn
from stdnum.br import cpf
from stdnum.ch import ssn as ch_ssn
from stdnum.de import idnr
from stdnum.dk import cpr
from stdnum.es import dni, nie
from stdnum.fi import hetu
from stdnum.fr import nir
from stdnum.gb import nhs
from stdnum.it import codicefiscale
from stdnum.nl import bsn
from stdnum.pl import pesel
from stdnum.se import personnummer
from stdnum.us import ssn


@dataclass(frozen=True, slots=True)
class Kind:
    """``pattern`` finds what may be one, ``valid`` decides. ``context``: what must stand in the `NEAR` characters
    before it."""

    name: str
    pattern: re.Pattern[str]
    valid: Callable[[str], bool]
    context: re.Pattern[str] | None = None


NEAR = 48


def _kind(name: str, pattern: str, valid: Callable[[str], bool], context: str = "") -> Kind:
    return Kind(name, re.compile(pattern), valid, re.compile(context, re.IGNORECASE) if context else None)


def _number(module: ModuleType) -> Callable[[str], bool]:
    return lambda text: bool(module.is_valid(text))


def _email(text: str) -> bool:
    local, _, domain = text.rpartition("@")
    return len(local) <= 64 and len(domain) <= 253 and ".." not in text and not local.startswith(".")


def _card(text: str) -> bool:
    digits = re.sub(r"[ -]", "", text)
    return 13 <= len(digits) <= 19 and digits[0] in "23456" and len(set(digits)) > 1 and bool(luhn.is_valid(digits))


def _ip(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_unspecified)


def _phone(text: str) -> bool:
    """International, or written the North American way."""
    try:
        number = phonenumbers.parse(re.sub(r"^00", "+", text), "US")
    except phonenumbers.NumberParseException:
        return False
    return phonenumbers.is_valid_number(number)


B = r"(?<![A-Za-z0-9])"
"""Nothing that could be a part of the same word comes before."""
E = r"(?![A-Za-z0-9])"

MAILBOX = r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9._%+-]{1,64}"

KINDS: tuple[Kind, ...] = (
    _kind(
        "email", r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}" + E, _email
    ),
    _kind("iban", B + r"[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?" + E, _number(iban)),
    _kind("card", B + r"\d(?:[ -]?\d){12,18}" + E, _card),
    _kind("ip address", r"(?<![A-Za-z0-9.:])(?:\d{1,3}\.){3}\d{1,3}(?![A-Za-z0-9:]|\.\d)", _ip),
    _kind("ip address", r"(?<![A-Za-z0-9.:])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?![A-Za-z0-9.:])", _ip),
    _kind("phone number", r"(?<![A-Za-z0-9+])(?:\+|00)\d(?:[ ()./-]{0,2}\d){6,14}" + E, _phone),
    _kind("phone number", B + r"\(?\d{3}\)?[ .-]\d{3}[ .-]\d{4}" + E, _phone),
    _kind("social security number", B + r"\d{3}-\d{2}-\d{4}" + E, _number(ssn)),
    _kind("social security number", B + r"756\.\d{4}\.\d{4}\.\d{2}" + E, _number(ch_ssn)),
    _kind("social security number", B + r"[12](?: ?\d){4} ?(?:\d{2}|2[AB])(?: ?\d){8}" + E, _number(nir)),
    _kind("tax number", B + r"[A-Z]{6}\d{2}[A-EHLMPRST]\d{2}[A-Z]\d{3}[A-Z]" + E, _number(codicefiscale)),
    _kind("tax number", B + r"\d{3}\.\d{3}\.\d{3}-\d{2}" + E, _number(cpf)),
    _kind("tax number", B + r"\d{2} ?\d{3} ?\d{3} ?\d{3}" + E, _number(idnr), r"steuer|\btin\b|\bidnr"),
    _kind("identity number", B + r"\d{8}-?[A-Z]" + E, _number(dni)),
    _kind("identity number", B + r"[XYZ]-?\d{7}-?[A-Z]" + E, _number(nie)),
    _kind("identity number", B + r"\d{6}[-+A]\d{3}[0-9A-Z]" + E, _number(hetu)),
    _kind("identity number", B + r"\d{11}" + E, _number(pesel)),
    _kind("identity number", B + r"\d{2}\.\d{2}\.\d{2}-\d{3}\.\d{2}" + E, _number(be_nn)),
    _kind("identity number", B + r"(?:\d{2})?\d{6}[-+]\d{4}" + E, _number(personnummer)),
    _kind("identity number", B + r"\d{6}-?\d{4}" + E, _number(cpr), r"\bcpr\b"),
    _kind("identity number", B + r"\d{9}" + E, _number(bsn), r"\bbsn\b|burgerservice"),
    _kind("health number", B + r"\d{3}[ -]?\d{3}[ -]?\d{4}" + E, _number(nhs), r"\bnhs\b"),
)
"""Earlier ones win where two find the same text."""
