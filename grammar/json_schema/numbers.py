"""Number shapes as a deterministic automaton over the bytes of JSON numbers.

    text       -?(0|[1-9][0-9]*)(\\.[0-9]+)?      and, where no shape has a bound,     [0-9](\\.[0-9]+)?e[+-]?[0-9]{1,3}
    state      a text that stands for all texts with the same future

A state is literally the beginning of a number, so everything about it is exact arithmetic: a byte may come if some
number that begins so, within the caps, is a value of some shape, spelled as the option says. Texts with the same
*signature* have the same future, and the first of them met is the state of all: how many digits may still come, how
the digits so far compare with those of each bound (less, equal, greater), their remainder by a divisor, and the text
itself while it may still become a value of an enumeration. An unbounded integer has one state a digit count; a bound
adds few.

Caps: an integer part has at most 19 digits, and a number with a fraction at most 15 in all (a leading 0 not counted):
two such numbers differ as doubles whenever they differ, so that a reader of doubles sees it on the same side of a
bound as we do. Where no value of a shape is within a cap, the cap is raised to the shape's simplest value. Enumerated
numbers have one spelling each and no caps.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from math import ceil, floor, gcd
from threading import Lock
from typing import Literal

from grammar.errors import UnsatisfiableConstraint
from grammar.json_schema.conjunction import FEW_MULTIPLES, common_multiple
from grammar.json_schema.shapes import NumberEnum, NumberShape
from grammar.json_schema.values import number_satisfies

INTEGER_DIGITS = 19
SIGNIFICANT_DIGITS = 15
MAX_EXPONENT = 307
"""With one digit before the point, below the largest double."""
LIMITS = {"integer_digits": INTEGER_DIGITS, "significant_digits": SIGNIFICANT_DIGITS, "exponent": MAX_EXPONENT}
PLAIN_EXPONENTS = range(-6, 21)
"""Decimal exponents of enumerated numbers that are spelled without one, as ECMA-262 does (Number::toString)."""
DOUBLE_DIGITS = 17

DIGITS = "0123456789"

Spelling = Literal["canonical", "free"]
ByteRange = tuple[int, int, str]


def simplest(shape: NumberShape | NumberEnum) -> Fraction:
    """A value of a shape that has one, with few digits: 0, else near the bound that is nearest to 0."""
    if isinstance(shape, NumberEnum):
        return shape.values[0]
    zero = Fraction(0)
    if number_satisfies(shape, zero):
        return zero
    if shape.lo is not None and shape.lo >= 0:
        sides = [(1, shape.lo, shape.lo_open)]
    elif shape.hi is not None and shape.hi <= 0:
        sides = [(-1, -shape.hi, shape.hi_open)]
    else:
        sides = [(1, zero, True), (-1, zero, True)]
    lattice = shape.integer or shape.multiple_of
    step = common_multiple(shape) if lattice else Fraction(10) ** len(str(floor(sides[0][1])))
    tries = FEW_MULTIPLES if shape.not_multiple_of else 1
    while True:
        for sign, near, is_open in sides:
            first = floor(near / step) + 1 if is_open else ceil(near / step)
            for n in range(first, first + tries):
                if number_satisfies(shape, sign * step * n):
                    return sign * step * n
        assert not lattice, "a shape has a value"
        step /= 10


def spell(number: Fraction) -> str:
    """The canonical text of a number whose decimal expansion ends. It has an exponent where ECMA-262 writes one and
    doubles suffice."""
    plain = spell_plain(number)
    digits = Decimal(plain).as_tuple().digits
    exponent = Decimal(plain).adjusted()
    significant = "".join(map(str, digits)).strip("0")
    if exponent in PLAIN_EXPONENTS or not significant or len(significant) > DOUBLE_DIGITS:
        return plain
    mantissa = significant[0] + ("." + significant[1:] if len(significant) > 1 else "")
    return f"{'-' if number < 0 else ''}{mantissa}e{exponent}"


def spell_plain(number: Fraction) -> str:
    """As `spell`, never with an exponent."""
    places = fraction_digits(number)
    digits = str(abs(number.numerator) * (10**places // number.denominator)).rjust(places + 1, "0")
    sign = "-" if number < 0 else ""
    return sign + (f"{digits[:-places]}.{digits[-places:]}" if places else digits)


def fraction_digits(number: Fraction) -> int:
    """Digits after the point in its decimal expansion, which must end."""
    rest, twos, fives = number.denominator, 0, 0
    while rest % 2 == 0:
        rest, twos = rest // 2, twos + 1
    while rest % 5 == 0:
        rest, fives = rest // 5, fives + 1
    assert rest == 1, f"{number} has no finite decimal expansion"
    return max(twos, fives)


@dataclass(frozen=True, slots=True)
class Prefix:
    """The beginning of a number without exponent, taken apart. ``fraction`` is None before the point."""

    negative: bool
    whole: str
    fraction: str | None

    @staticmethod
    def of(text: str) -> Prefix:
        negative = text.startswith("-")
        whole, point, fraction = text[negative:].partition(".")
        return Prefix(negative, whole, fraction if point else None)

    @property
    def growing(self) -> bool:
        """Whether the integer part may still get digits."""
        return self.fraction is None and self.whole != "0"

    @property
    def digits(self) -> int:
        """Those that count against the cap of numbers with a fraction."""
        return (0 if self.whole == "0" else len(self.whole)) + len(self.fraction or "")


class _Bound:
    """A bound of absolute values, against which digits are compared in their places."""

    def __init__(self, value: Fraction, is_open: bool) -> None:
        self.value = value
        self.is_open = is_open
        self.whole = floor(value)
        self.digits = str(self.whole)

    def compare(self, prefix: Prefix) -> int:
        """-1, 0 or 1: the digits so far against the bound's; a longer integer part is greater."""
        mine, other = int(prefix.whole), self.whole
        if prefix.growing:
            if len(prefix.whole) > len(self.digits):
                return 1
            other = int(self.digits[: len(prefix.whole)])
        elif mine == other and prefix.fraction:
            mine, other = int(prefix.fraction), floor((self.value - other) * 10 ** len(prefix.fraction))
        return (mine > other) - (mine < other)

    def scaled(self, places: int) -> tuple[int, bool]:
        """The bound times 10 ** places rounded down, and whether that was exact."""
        quotient, rest = divmod(self.value.numerator * 10**places, self.value.denominator)
        return quotient, not rest


class _Side:
    """The part of a number shape on one side of zero, as bounds of the absolute value (``lo`` is never None)."""

    def __init__(self, shape: NumberShape, negative: bool, zero: bool) -> None:
        """``zero``: this side has a spelling of 0."""
        lo, lo_open, hi, hi_open = shape.lo, shape.lo_open, shape.hi, shape.hi_open
        if negative:
            lo, lo_open, hi, hi_open = None if hi is None else -hi, hi_open, None if lo is None else -lo, lo_open
        if lo is None or lo < 0:
            lo, lo_open = Fraction(0), False
        self.lo = _Bound(lo, lo_open or (lo == 0 and not zero))
        self.hi = None if hi is None else _Bound(hi, hi_open)
        self.empty = hi is not None and hi < 0
        self.integer = shape.integer
        self.places = 0
        """Values are multiples of divisor / 10 ** places, unless the divisor is 0."""
        self.divisor = 0
        if shape.integer or shape.multiple_of:
            step = common_multiple(shape)
            self.places = fraction_digits(step)
            self.divisor = step.numerator * 10**self.places // step.denominator
        self.apart = shape.not_multiple_of

    def has_value(self, first: int, last: int, places: int) -> bool:
        """Whether a number n / 10 ** places with first <= n <= last lies on this side."""
        low, exact = self.lo.scaled(places)
        first = max(first, low if exact and not self.lo.is_open else low + 1)
        if self.hi is not None:
            high, exact = self.hi.scaled(places)
            last = min(last, high - 1 if exact and self.hi.is_open else high)
        step = 1
        if self.divisor and places >= self.places:
            step = self.divisor * 10 ** (places - self.places)
        elif self.divisor:
            step = self.divisor // gcd(self.divisor, 10 ** (self.places - places))
        first = -(-first // step) * step
        if not self.apart:
            return first <= last
        # n / 10 ** places is a multiple of a factor exactly if n is one of that numerator.
        apart = [(factor * 10**places).numerator for factor in self.apart]
        some = range(first, min(last, first + FEW_MULTIPLES * step) + 1, step)
        return any(all(n % other for other in apart) for n in some)

    def relation(self, prefix: Prefix) -> Hashable:
        """What of the digits so far still matters on this side: None if it is out of reach, SETTLED if nothing does.

        Never None for a prefix that some number on this side begins with, in whatever spelling.
        """
        relation = self._relation(prefix)
        if relation is None or not self.apart:
            return relation
        return relation, tuple(_beside(factor, prefix) for factor in self.apart)

    def _relation(self, prefix: Prefix) -> Hashable:
        """`relation` without the factors of which values must be no multiples."""
        if self.empty:
            return None
        low = self.lo.compare(prefix) if self.lo.value or self.lo.is_open else None
        high = None if self.hi is None else self.hi.compare(prefix)
        if prefix.growing:
            if low == 1 and len(prefix.whole) >= len(self.lo.digits):
                low = None
            if self.hi is not None and high == 1 and len(prefix.whole) >= len(self.hi.digits):
                return None
        else:
            if low == -1 or high == 1:
                return None
            low = None if low == 1 else low
            high = None if high == -1 else high
        if not self.divisor or (self.divisor == 1 and prefix.growing):
            return SETTLED if low is None and high is None else (low, high)
        fraction = prefix.fraction or ""
        if fraction[self.places :].strip("0"):
            return None
        remainder = int(prefix.whole + fraction[: self.places]) % self.divisor
        if prefix.fraction is not None and len(fraction) >= self.places:
            return None if remainder else (low, high)
        return low, high, len(fraction), remainder


def _beside(factor: Fraction, prefix: Prefix) -> Hashable:
    """What decides whether a number that begins so is a multiple of ``factor``; None if it is none."""
    places = fraction_digits(factor)
    fraction = prefix.fraction or ""
    if fraction[places:].strip("0"):
        return None
    modulus = (factor * 10**places).numerator
    return min(len(fraction), places), int(prefix.whole + fraction[:places]) % modulus


SETTLED = "settled"


class NumberAutomaton:
    """Accepts the texts of numbers that satisfy at least one shape, and tells which. Stepped lazily; every state is
    productive.

    ``spelling`` "canonical" writes integers without fraction and never -0; "free" also as 1.0, 1e2, -0. Raises
    UnsatisfiableConstraint when there is no shape. Shapes are canonical (`conjunction.number_shape`) and have values.
    """

    def __init__(self, shapes: tuple[NumberShape | NumberEnum, ...], spelling: Spelling = "canonical") -> None:
        if not shapes:
            raise UnsatisfiableConstraint("no shape, so no number")
        self.shapes = shapes
        self.start: str = ""
        self._free = spelling == "free"
        intervals = [shape for shape in shapes if isinstance(shape, NumberShape)]
        self._integer_digits, self._digits = INTEGER_DIGITS, SIGNIFICANT_DIGITS
        for shape in intervals:
            whole, _, fraction = spell_plain(abs(simplest(shape))).partition(".")
            self._integer_digits = max(self._integer_digits, len(whole))
            if fraction:
                self._digits = max(self._digits, len(whole.lstrip("0")) + len(fraction))
        self._sides = tuple(
            [_Side(shape, negative, zero=self._free or not negative) for shape in intervals]
            for negative in (False, True)
        )
        values = dict.fromkeys(v for shape in shapes if isinstance(shape, NumberEnum) for v in shape.values)
        spelled = {spell(value) for value in values}
        if self._free:
            spelled |= {f"{value}.0" for value in values if value.denominator == 1}
        self._spelled = sorted(spelled)
        self._plain = sorted(spell_plain(value) for value in values)
        self._exponents = _exponent_form(intervals, self._free) if len(intervals) == len(shapes) else None
        self._states: dict[Hashable, str | None] = {}
        """Signature → its state, or None when nothing productive has it."""
        self._settled: set[str] = set()
        self._edges: dict[str, list[ByteRange]] = {}
        self._accepting: dict[str, frozenset[int]] = {}
        self._stepping = Lock()

    @property
    def has_exponents(self) -> bool:
        """Whether numbers are written with exponents beside those without."""
        return self._exponents is not None

    def edges(self, state: str) -> list[ByteRange]:
        """(first byte, last byte, next state) of the bytes that may come, ascending and disjoint. Do not change it."""
        found = self._edges.get(state)
        if found is None:
            # Which text stands for a signature is decided once, whichever thread comes first.
            with self._stepping:
                found = self._edges[state] = self._find_edges(state)
        return found

    def _find_edges(self, state: str) -> list[ByteRange]:
        edges: list[ByteRange] = []
        following: str | None = None
        for char in "+-.0123456789Ee":
            # Where no digit is told from another, 0 speaks for all.
            if char not in DIGITS or char == "0" or state not in self._settled:
                following = self._step(state, char)
            if following is None:
                continue
            byte = ord(char)
            if edges and edges[-1][1] == byte - 1 and edges[-1][2] == following:
                edges[-1] = (edges[-1][0], byte, following)
            else:
                edges.append((byte, byte, following))
        return edges

    def accepting(self, state: str) -> frozenset[int]:
        """Indices of the shapes that the number written so far satisfies, by value; empty if it is no sentence."""
        found = self._accepting.get(state)
        if found is None:
            found = self._accepting[state] = self._find_satisfied(state)
        return found

    def _find_satisfied(self, state: str) -> frozenset[int]:
        if not self._is_sentence(state):
            return frozenset()
        number = Fraction(state)
        return frozenset(i for i, shape in enumerate(self.shapes) if number_satisfies(shape, number))

    def _is_sentence(self, text: str) -> bool:
        if _among(text, self._spelled):
            return True
        if not text[-1:].isdigit():
            return False
        if "e" in text.lower():
            return self._exponents is not None
        prefix = Prefix.of(text)
        written = int(prefix.whole + (prefix.fraction or ""))
        return any(
            self._may_spell(side, prefix) and side.has_value(written, written, len(prefix.fraction or ""))
            for side in self._sides[prefix.negative]
        )

    def _step(self, state: str, char: str) -> str | None:
        """The state after one more character, or None if it may not come."""
        text = state + char
        if text == "-":
            return text if any(self._step(text, digit) is not None for digit in DIGITS) else None
        enumerated = _begins(text, self._spelled)
        if not self._within_caps(state, char):
            if enumerated:
                return text
            return self._exponent_step(state, char) if self._exponents is not None else None
        prefix = Prefix.of(text)
        sides = self._sides[prefix.negative]
        relations = tuple(side.relation(prefix) for side in sides)
        settled = all(relation is None or relation is SETTLED for relation in relations)
        near = text if enumerated or self._may_equal_enumerated(text) else ""
        signature = (
            ("whole", len(prefix.whole)) if prefix.growing else (prefix.fraction == "", self._digits - prefix.digits),
            self._exponents is not None and len(prefix.whole) == 1,
            None if settled else prefix.negative,
            relations,
            near,
        )
        if signature not in self._states:
            alive = enumerated or any(
                relation is not None and self._completable(side, prefix)
                for side, relation in zip(sides, relations, strict=True)
            )
            self._states[signature] = text if alive else None
            if settled and not near and text != "0" and text != "-0":
                self._settled.add(text)
        return self._states[signature]

    def _within_caps(self, state: str, char: str) -> bool:
        """Whether ``state + char`` begins a number without exponent that an interval may spell."""
        if state in ("", "-"):
            return char in DIGITS
        if "e" in state.lower() or (char not in DIGITS and char != "."):
            return False
        prefix = Prefix.of(state)
        if char == ".":
            return prefix.fraction is None and prefix.digits < self._digits
        if prefix.fraction is None:
            return prefix.growing and len(prefix.whole) < self._integer_digits
        return prefix.digits < self._digits

    def _may_spell(self, side: _Side, prefix: Prefix) -> bool:
        """Integers have a point in the free spelling only."""
        return prefix.fraction is None or self._free or not side.integer

    def _completable(self, side: _Side, prefix: Prefix) -> bool:
        """Whether some number that begins so, within the caps, lies on the side of a shape in its spelling."""
        if not self._may_spell(side, prefix):
            return False
        if not prefix.growing:
            places = len(prefix.fraction or "")
            room = 0 if side.integer and prefix.fraction is None else self._digits - prefix.digits
            first = int(prefix.whole + (prefix.fraction or "")) * 10**room
            return side.has_value(first, first + 10**room - 1, places + room)
        for length in range(len(prefix.whole), self._integer_digits + 1):
            if side.hi is not None and length > len(side.hi.digits):
                return False
            if length < len(side.lo.digits):
                continue
            room = 0 if side.integer else max(0, self._digits - length)
            grown = 10 ** (length - len(prefix.whole) + room)
            first = int(prefix.whole) * grown
            if side.has_value(first, first + grown - 1, room):
                return True
        return False

    def _may_equal_enumerated(self, text: str) -> bool:
        """Whether a number that begins so may be an enumerated one, in whatever spelling."""
        if not self._plain:
            return False
        if text.startswith("-") and not text.strip("-0."):
            text = text[1:]
        return _begins(text, self._plain) or ("." in text and _among(text.rstrip("0").rstrip("."), self._plain))

    def _exponent_step(self, state: str, char: str) -> str | None:
        """The state after one more character of a number with exponent; numbers here are unbounded."""
        mantissa, mark, exponent = state.lower().partition("e")
        if not mark:
            if char not in ("eE" if self._free else "e") or not mantissa[-1:].isdigit():
                return None
            prefix = Prefix.of(mantissa)
            if len(prefix.whole) > 1 or (self._exponents == "integer" and prefix.fraction is not None):
                return None
            if prefix.negative and not self._free and not mantissa.strip("-0."):
                return None
            return self._states.setdefault("e", state + char)
        if char in "+-":
            allowed = not exponent and not (char == "-" and self._exponents == "integer")
            return self._states.setdefault("sign", state + char) if allowed else None
        digits = exponent.lstrip("+-") + char
        if char not in DIGITS or len(digits) > 3 or int(digits) > MAX_EXPONENT:
            return None
        return self._states.setdefault(("exponent", _exponent_room(digits)), state + char)


@lru_cache(maxsize=64)
def number_automaton(shapes: tuple[NumberShape | NumberEnum, ...], spelling: Spelling) -> NumberAutomaton:
    """The one automaton of some number shapes, for all schemas: most numbers are plain integers."""
    return NumberAutomaton(shapes, spelling)


def _exponent_form(intervals: list[NumberShape], free: bool) -> Literal["number", "integer"] | None:
    """Which numbers are written with exponents: only where no shape has anything to compare."""
    if intervals and all(shape == NumberShape() for shape in intervals):
        return "number"
    if free and intervals and all(shape == NumberShape(integer=True) for shape in intervals):
        return "integer"
    return None


def _exponent_room(digits: str) -> str:
    """What may follow the digits of an exponent: the digits with which the cap leaves the same room."""
    if len(digits) == 3 or (len(digits) == 2 and int(digits) > MAX_EXPONENT // 10):
        return "none"
    if int(digits) == MAX_EXPONENT // 10 ** (3 - len(digits)):
        return digits
    return "one" if len(digits) == 2 or int(digits) > MAX_EXPONENT // 100 else "two"


def _begins(text: str, texts: list[str]) -> bool:
    """Whether one of the sorted texts begins with ``text``."""
    at = bisect_left(texts, text)
    return at < len(texts) and texts[at].startswith(text)


def _among(text: str, texts: list[str]) -> bool:
    at = bisect_left(texts, text)
    return at < len(texts) and texts[at] == text
