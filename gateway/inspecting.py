"""``POST /v1/compile``: the contract of a schema, a regex, choices or a structural tag; or why it is refused and where.

A refusal is an answer here, with status 200: to ask whether something can be enforced is no fault.
"""

from __future__ import annotations

from typing import Any, Literal, cast

import msgspec
from litestar import Request

from gateway.body import read_struct
from gateway.constraint import constraint_of
from gateway.errors import constraint_code, from_provider, invalid
from gateway.models import find_model
from providers.base import Provider, ProviderError
from schemas.inspection import CompileRequest, Inspection, Refusal
from schemas.openai.generation import GenerationFields

_decoder = msgspec.json.Decoder(CompileRequest)
_encode = msgspec.json.Encoder().encode


async def inspect(request: Request[Any, Any, Any], provider: Provider) -> bytes:
    """Raises `ApiError`."""
    fields = await read_struct(request, _decoder)
    card = find_model(provider, fields.model)
    asked = GenerationFields(
        model=fields.model, response_format=fields.response_format, structured_outputs=fields.structured_outputs
    )
    constraint = constraint_of(asked)
    if constraint is None:
        raise invalid("There is no constraint in 'response_format' or 'structured_outputs'.", "response_format")
    try:
        found = await provider.inspect(card.name, constraint.spec)
    except ProviderError as error:
        code = constraint_code(error, constraint.noun)
        if code is None:
            raise from_provider(error, constraint, constraint.param) from error
        return _encode(Inspection("refused", refusal=Refusal(code, error.message, error.pointer)))
    contract = cast(Literal["exact", "sound_subset"], found.contract)
    return _encode(Inspection(contract, found.reasons, found.limits, round(found.seconds * 1e3, 3)))
