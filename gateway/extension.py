"""The field ``sluice`` of answers: what was enforced and by whom, and the fields of JSON as they are complete.

It is laid over whatever an API's own shape sends, as one more member of the JSON that goes out anyway: of a plain
answer's body, of the first event of a stream, of each event whose text completes fields, and of the one with the usage.
Only those who send the field get it: some clients refuse what they do not know. Everybody gets the headers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import msgspec
from msgspec import UNSET, Raw, UnsetType

from gateway.answer import Choice, Said, Shape
from gateway.constraint import Constraint
from gateway.errors import ApiError, invalid
from gateway.fields import Field, FieldReader
from gateway.serving import cost_text, served_by
from providers.base import Admission, Delta, Finished, Spoken, Usage
from schemas.constraint import JsonObjectSpec, JsonSchemaSpec
from schemas.extension import AnsweredField, AnswerExtension, CacheFigures, RequestExtension

_encode = msgspec.json.Encoder().encode
_EVENT_END = b"}\n\n"


def extending(
    asked: RequestExtension | None, constraint: Constraint | None, *, scored: bool
) -> Callable[[Shape, Admission], Shape]:
    """What to lay over a shape: the extension where it was asked for. ``scored``: as of `Extended`. Raises
    `ApiError`."""
    fields = asked is not None and asked.fields
    if fields and (constraint is None or not isinstance(constraint.spec, JsonSchemaSpec | JsonObjectSpec)):
        raise invalid("'sluice.fields' are those of JSON, which is not asked for.", "sluice.fields")

    def extend(shape: Shape, admission: Admission) -> Shape:
        return shape if asked is None else Extended(shape, admission, fields, scored)

    return extend


class Extended:
    """`gateway.answer.Shape` over another one. ``fields``: tell them. ``scored``: the caller asked for the scores of
    tokens too; otherwise they are for the fields alone."""

    def __init__(self, shape: Shape, admission: Admission, fields: bool, scored: bool) -> None:
        self._shape = shape
        self._about = AnswerExtension(
            enforced=admission.enforcement or "none",
            contract=admission.contract or UNSET,
            reasons=list(admission.reasons) or UNSET,
        )
        self._served = admission.served
        if self._served is not None:
            self._about = served_by(self._about, self._served)
        self._fields = fields
        self._scored = scored
        self._told = False
        self._readers: dict[int, FieldReader] = {}

    def opening(self, choices: int, admission: Admission) -> bytes:
        return self._sent(self._shape.opening(choices, admission), [])

    def spoken(self, event: Spoken) -> bytes:
        found = self._read(event) if isinstance(event, Delta) else []
        if isinstance(event, Delta) and not self._scored:
            if not event.text:
                return b""
            event = replace(event, tokens=())
        return self._sent(self._shape.spoken(event), found)

    def finish(self, event: Finished) -> bytes:
        reader = self._readers.get(event.choice)
        found = _answered(event.choice, reader.flush()) if reader and event.reason == "stop" else []
        return self._sent(self._shape.finish(event), found)

    def closing(self, usage: Usage) -> bytes:
        events = self._shape.closing(usage)
        about = AnswerExtension(cache=_found(usage))
        return events if about.cache is UNSET else _spliced_last(events, about)

    def failure(self, error: ApiError) -> bytes:
        return self._shape.failure(error)

    def whole(self, choices: list[Choice], usage: Usage) -> bytes:
        found = [field for i, choice in enumerate(choices) for field in self._fields_of(i, choice)]
        about = msgspec.structs.replace(self._about, fields=found) if self._fields else self._about
        about = msgspec.structs.replace(about, cache=_found(usage))
        if self._served is not None:
            about = msgspec.structs.replace(about, cost_usd=cost_text(self._served))
        if not self._scored:
            for said in (part for choice in choices for part in choice.parts if isinstance(part, Said)):
                said.tokens = []
        return _spliced(self._shape.whole(choices, usage), about)

    def _sent(self, events: bytes, found: list[AnsweredField]) -> bytes:
        """``events`` with what is to be told with them."""
        if not events or (self._told and not found):
            return events
        about = AnswerExtension() if self._told else self._about
        self._told = True
        return _spliced_event(events, msgspec.structs.replace(about, fields=found or UNSET))

    def _read(self, event: Delta) -> list[AnsweredField]:
        if not self._fields:
            return []
        reader = self._readers.setdefault(event.choice, FieldReader())
        reader.score(event.tokens)
        return _answered(event.choice, reader.feed(event.text))

    def _fields_of(self, number: int, choice: Choice) -> list[AnsweredField]:
        if not self._fields or choice.calls:
            return []
        reader = FieldReader()
        reader.score(choice.tokens)
        found = reader.feed(choice.text)
        return _answered(number, found + (reader.flush() if choice.reason == "stop" else []))


def _answered(choice: int, found: list[Field]) -> list[AnsweredField]:
    return [
        AnsweredField(
            field.pointer,
            choice,
            UNSET if field.value is None else Raw(field.value.encode()),
            UNSET if field.logprob is None else field.logprob,
        )
        for field in found
    ]


def _found(usage: Usage) -> CacheFigures | UnsetType:
    return UNSET if usage.hits is None else CacheFigures(usage.hits.device, usage.hits.host)


def _spliced(body: bytes, extension: AnswerExtension) -> bytes:
    """A JSON object with one more member."""
    return body[:-1] + b',"sluice":' + _encode(extension) + b"}"


def _spliced_event(events: bytes, extension: AnswerExtension) -> bytes:
    """Server-sent events, the last with one more member in its JSON."""
    assert events.endswith(_EVENT_END)
    return _spliced(events[:-2], extension) + b"\n\n"


def _spliced_last(events: bytes, extension: AnswerExtension) -> bytes:
    """Server-sent events, the last that is JSON with one more member. A chat's stream may end with none: its usage
    comes only where it was asked for."""
    end = events.rfind(_EVENT_END) + len(_EVENT_END)
    return events if end < len(_EVENT_END) else _spliced_event(events[:end], extension) + events[end:]
