"""Placeholders of the same format: a model that is asked for an e-mail address or a card number still sees one.

Digits become other digits and letters other letters, separators stay, and the result passes the same checksum. What is
left of the original is its length and its spacing, of an account its country, of a phone number its country and area.
Addresses are of names and networks that are reserved for examples (RFC 2606, RFC 2544, RFC 3849).
"""

from __future__ import annotations

import re
import string
from random import Random

from stdnum import iban, luhn

from gateway.policy.pii.kinds import Kind

ATTEMPTS = 20_000
"""Draws for a checksum to come out right. The rarest kind needs a few hundred on average."""


MAX_VALUES = 1000
"""Different values of one request that are hidden."""

SHORTEST = 4
"""Letters and digits of a placeholder: shorter ones would be met by chance in what a model says."""

_ESCAPED = re.compile(r'["\\\x00-\x1f]')


class CannotHide(Exception):
    """Why, as a clause without a value in it."""


class Mint:
    """Makes the placeholders of one request: one for each value, unlike each other and unlike any text of the request.

    ``texts``: what must not contain a placeholder. ``drawn`` from: anything that cannot be guessed.
    """

    def __init__(self, texts: list[str], drawn: Random) -> None:
        self._texts = texts
        self._drawn = drawn
        self.originals: dict[str, str] = {}
        self._placeholders: dict[str, str] = {}

    def placeholder(self, original: str, kind: Kind) -> str:
        """The same for the same ``original``. Raises `CannotHide`."""
        if original in self._placeholders:
            return self._placeholders[original]
        if _ESCAPED.search(original):
            raise CannotHide(f"a {kind.name} holds what JSON would escape")
        if sum(map(str.isalnum, original)) < SHORTEST:
            raise CannotHide(f"a {kind.name} is too short for a placeholder")
        if len(self._placeholders) == MAX_VALUES:
            raise CannotHide(f"there are more than {MAX_VALUES} personal data")
        for _ in range(ATTEMPTS):
            drawn = self._draw(original, kind)
            # Models like to write numbers without their separators.
            pairs = {drawn: original} if "@" in drawn else {_compact(drawn): _compact(original), drawn: original}
            if kind.pattern.fullmatch(drawn) and kind.valid(drawn) and all(map(self._is_new, pairs)):
                self._placeholders[original] = drawn
                self.originals.update(pairs)
                return drawn
        raise CannotHide(f"there is no placeholder for a {kind.name}")

    def _draw(self, original: str, kind: Kind) -> str:
        match kind.name:
            case "email":
                return "".join(self._drawn.choices(string.ascii_lowercase, k=12)) + "@example.org"
            case "ip address":
                octets = [self._drawn.randint(100, 255) for _ in range(2)]
                groups = [f"{self._drawn.randint(0x1000, 0xFFFF):x}" for _ in range(4)]
                return f"2001:db8:{':'.join(groups)}::1" if ":" in original else f"198.18.{octets[0]}.{octets[1]}"
            case "iban":
                return self._iban(original)
            case "card":
                digits = iter(self._card(sum(c.isdigit() for c in original)))
                return "".join(next(digits) if c.isdigit() else c for c in original)
            case "phone number":
                # The country and the area stay: few other beginnings are numbers at all.
                return self._shuffled(original, keep=5)
            case _:
                # The Swiss number begins with the country's.
                return self._shuffled(original, keep=3 if original.startswith("756.") else 0)

    def _shuffled(self, original: str, keep: int) -> str:
        drawn: list[str] = []
        for character in original:
            if character.isdigit():
                drawn.append(character if keep > 0 else self._drawn.choice(string.digits))
                keep -= 1
            elif character.isupper():
                drawn.append(self._drawn.choice(string.ascii_uppercase))
            elif character.isalpha():
                drawn.append(self._drawn.choice(string.ascii_lowercase))
            else:
                drawn.append(character)
        return "".join(drawn)

    def _iban(self, original: str) -> str:
        country, compact = original[:2], re.sub(" ", "", original)
        account = self._shuffled(compact[4:], keep=0)
        whole = iter(country + iban.calc_check_digits(f"{country}00{account}") + account)
        return "".join(c if c == " " else next(whole) for c in original)

    def _card(self, length: int) -> str:
        digits = "4" + "".join(self._drawn.choices(string.digits, k=length - 2))
        return digits + luhn.calc_check_digit(digits)

    def _is_new(self, drawn: str) -> bool:
        """Neither holds the other: then a text with placeholders can be read in one way only."""
        others = self.originals
        if any(drawn in other or other in drawn for other in others):
            return False
        return not any(drawn in text for text in self._texts)


def _compact(number: str) -> str:
    return number if number.count(".") == 3 or ":" in number else re.sub(r"[ ()./-]", "", number)
