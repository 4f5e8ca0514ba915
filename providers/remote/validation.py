"""Whether an answer is what was asked for, judged by the original constraint, whatever the API promised.

An answer is delivered as it came, with what was only there for the API's sake taken out: a code fence or white space
around it, the wrapper of a schema that admits more than objects, nulls for absent properties. A schema's draft is told
by its `$schema`; nothing is fetched; formats are asserted unless the constraint says otherwise; an object with a
duplicate key is no answer (RFC 8259 §4 leaves its meaning open), and neither is a number or a string that others may
read differently (NaN, half of a surrogate pair).
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any, NoReturn, Protocol

import jsonschema_rs
import msgspec
from msgspec import Raw

from grammar.errors import ConstraintError
from grammar.json_schema.decoding import load
from providers.base import ErrorKind, ProviderError
from providers.remote.absence import without_absent
from providers.remote.judging import judged, too_deep
from providers.remote.translation import VALUE, Translation

MAX_ERRORS = 5
MAX_ERROR = 300
"""Errors of one answer that are told, and characters of each."""

BACKTRACKING = 100_000
"""Steps that a pattern with look-around may take on one string before it counts as no match."""

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_FENCED = re.compile(r"```[A-Za-z]*[ \t]*\r?\n(?P<inside>.*?)\r?\n?```", re.DOTALL)
_OUTSIDE_STRINGS = re.compile(r'("(?:[^"\\]|\\.)*")|[ \t\r\n]+', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Judged:
    """``text``: what may be delivered if there are no ``errors``."""

    text: str
    errors: tuple[str, ...] = ()


class Check(Protocol):
    """Judges whole texts. ``plain``: as they are, nothing taken out."""

    @property
    def rewrites(self) -> bool:
        """What is delivered may be another text than what came, beyond a fence around it."""
        ...

    async def judge(self, text: str, *, plain: bool = False) -> Judged: ...


class InvalidJson(ValueError):
    """A text that is not JSON, or JSON with two meanings."""


def decode(text: str) -> Any:
    """The value of a JSON text. Raises `InvalidJson`."""
    try:
        value = json.loads(text, object_pairs_hook=_members, parse_float=_number, parse_constant=_refuse)
    except json.JSONDecodeError as error:
        raise InvalidJson(f"the text is not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise InvalidJson("the text is nested too deeply") from None
    except ValueError as error:
        raise InvalidJson(str(error)) from None
    if "\\u" in text and _LONE_SURROGATE.search(json.dumps(value, ensure_ascii=False)):
        raise InvalidJson("a string holds half of a surrogate pair")
    return value


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object has a key twice")
    return found


def _number(text: str) -> float:
    """What no double can hold would be judged as another value: jsonschema-rs reads infinity as null."""
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"the number {text[:40]} is out of range")
    return number


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


@lru_cache(maxsize=64)
def validator_of(schema: str, formats: str) -> Any:
    """A validator of a schema's JSON text; ``formats``: "assert" or "annotate". Raises `ProviderError`."""
    try:
        load(schema)
    except ConstraintError as error:
        raise refused(error) from None
    try:
        return jsonschema_rs.validator_for(
            schema,
            validate_formats=formats == "assert",
            offline=True,
            pattern_options=jsonschema_rs.FancyRegexOptions(backtrack_limit=BACKTRACKING),
        )
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError) as error:
        message = getattr(error, "message", None) or str(error)
        pointer = "".join(f"/{_escaped(step)}" for step in getattr(error, "instance_path", ()))
        raise ProviderError("invalid_constraint", message[:MAX_ERROR], pointer=pointer) from None
    except ValueError as error:
        raise ProviderError("invalid_constraint", str(error)[:MAX_ERROR]) from None


def refused(error: ConstraintError) -> ProviderError:
    """What the core says of a constraint, as a provider says it."""
    kind: ErrorKind = error.code  # type: ignore[assignment]
    return ProviderError(kind, error.reason, pointer=error.pointer)


@dataclass(frozen=True, slots=True)
class JsonCheck:
    """Of a schema. ``sent``: what the API was told of it, None if it was not sent one. ``compact``: what is delivered
    has no white space."""

    schema: str
    formats: str = "assert"
    sent: Translation | None = None
    compact: bool = False

    @property
    def rewrites(self) -> bool:
        return self.compact or (self.sent is not None and (self.sent.wrapped or self.sent.nulls))

    async def judge(self, text: str, *, plain: bool = False) -> Judged:
        return await judged(self._judge, text, plain)

    def _judge(self, text: str, plain: bool) -> Judged:
        bare = text if plain else _bare(text)
        try:
            value = decode(bare)
        except InvalidJson as error:
            return Judged(bare, (f"{error}.",))
        if too_deep(self.schema, value):
            return Judged(bare, ("the text is nested too deeply to be judged.",))
        if self.sent is not None and not plain:
            bare, value = self._unwrapped(bare, value)
        validator = validator_of(self.schema, self.formats)
        errors = tuple(map(_told, islice(validator.iter_errors(value), MAX_ERRORS)))
        return Judged(_OUTSIDE_STRINGS.sub(r"\1", bare) if self.compact and not plain else bare, errors)

    def _unwrapped(self, text: str, value: Any) -> tuple[str, Any]:
        assert self.sent is not None
        if self.sent.nulls and jsonschema_rs.validator_for(self.sent.schema, offline=True).is_valid(value):
            text = without_absent(text, self.sent.schema)
            value = json.loads(text)
        if self.sent.wrapped and isinstance(value, dict) and list(value) == [VALUE]:
            text = bytes(msgspec.json.decode(text, type=dict[str, Raw])[VALUE]).decode()
            value = value[VALUE]
        return text, value


@dataclass(frozen=True, slots=True)
class ChoiceCheck:
    """``quoted``: a choice may come as a JSON string, or as one wrapped in an object."""

    choices: frozenset[str]
    quoted: bool

    @property
    def rewrites(self) -> bool:
        return self.quoted

    async def judge(self, text: str, *, plain: bool = False) -> Judged:
        if text in self.choices or plain:
            return Judged(text, () if text in self.choices else ("The text is none of the choices.",))
        said = self._said(_bare(text))
        return Judged(said) if said in self.choices else Judged(text, ("The text is none of the choices.",))

    def _said(self, text: str) -> str:
        if not self.quoted:
            return text
        try:
            value = decode(text)
        except InvalidJson:
            return text
        if isinstance(value, dict) and list(value) == [VALUE]:
            value = value[VALUE]
        return value if isinstance(value, str) else text


@dataclass(frozen=True, slots=True)
class InputCheck:
    """Of a custom tool's arguments: what is delivered is the text inside of them. ``grammar``: judges that text."""

    arguments: Check
    grammar: Check | None

    @property
    def rewrites(self) -> bool:
        return True

    async def judge(self, text: str, *, plain: bool = False) -> Judged:
        arguments = await self.arguments.judge(text)
        if arguments.errors:
            return arguments
        said: str = json.loads(arguments.text)["input"]
        return Judged(said) if self.grammar is None else await self.grammar.judge(said, plain=True)


def _bare(text: str) -> str:
    """Without white space and a code fence around it."""
    text = text.strip()
    fenced = _FENCED.fullmatch(text)
    return fenced["inside"].strip() if fenced else text


def _told(error: Any) -> str:
    place = "".join(f"/{_escaped(step)}" for step in error.instance_path)
    return f"At {place or 'the root'}: {error.message}"[:MAX_ERROR]


def _escaped(step: str | int) -> str:
    return str(step).replace("~", "~0").replace("/", "~1")
