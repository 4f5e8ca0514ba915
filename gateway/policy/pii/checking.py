"""Answers under a constraint, judged again once hidden data is back in them: a placeholder may fit where the original
does not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator

from providers.base import Delta, Finished, GenerationEvent, ProviderError
from providers.remote.validation import Check, JsonCheck
from schemas.constraint import ConstraintSpec, JsonObjectSpec, JsonSchemaSpec

ANY_OBJECT = '{"type": "object"}'


def check_of(constraint: ConstraintSpec) -> Check | None:
    """What judges answers under ``constraint``; None where nothing here can."""
    match constraint:
        case JsonSchemaSpec(schema=schema, formats=formats):
            return JsonCheck(schema, formats)
        case JsonObjectSpec():
            return JsonCheck(ANY_OBJECT)
        case _:
            return None


async def checked(events: AsyncIterator[GenerationEvent], check: Check) -> AsyncIterator[GenerationEvent]:
    """``events``, with the text of each choice held back until it is whole and valid. A text that was cut is given out
    as it is, and says so. Raises `ProviderError` "invalid_answer"."""
    texts: defaultdict[int, str] = defaultdict(str)
    async for event in events:
        match event:
            case Delta(choice, text):
                texts[choice] += text
            case Finished(choice, reason):
                text = texts.pop(choice, "")
                if reason == "stop" and (await check.judge(text, plain=True)).errors:
                    message = "The answer does not satisfy the constraint with the personal data back in its place."
                    raise ProviderError("invalid_answer", message, elsewhere=True)
                yield Delta(choice, text)
                yield event
            case _:
                yield event
