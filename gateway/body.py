"""From a request's body to a checked Struct: one decode, then the guarded parameters of the table."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from litestar import Request

from gateway.errors import ApiError, from_decoding, invalid
from schemas.openai.generation import GenerationFields
from schemas.parameters import GUARDED, Endpoint, Parameter

Fields = TypeVar("Fields", bound=msgspec.Struct)


async def read_fields(
    request: Request[Any, Any, Any], decoder: msgspec.json.Decoder[Fields], endpoint: Endpoint
) -> Fields:
    """The body as the decoder's Struct. Raises `ApiError` for whatever is wrong with it."""
    fields = await read_struct(request, decoder)
    _guard(fields, endpoint)
    return fields


async def read_struct(request: Request[Any, Any, Any], decoder: msgspec.json.Decoder[Fields]) -> Fields:
    """`read_fields` of an endpoint whose parameters are all honoured."""
    content_type, *_ = request.headers.get("content-type", "application/json").partition(";")
    if content_type.strip().lower() != "application/json":
        raise ApiError(
            415, f"The content type must be application/json, not '{content_type}'.", code="unsupported_media_type"
        )
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        raise ApiError(415, f"The content encoding must be identity, not '{encoding}'.", code="unsupported_media_type")
    return _decoded(await request.body(), decoder)


def understand(body: bytes, decoder: msgspec.json.Decoder[Fields], endpoint: Endpoint) -> Fields:
    """`read_fields` without the HTTP."""
    fields = _decoded(body, decoder)
    _guard(fields, endpoint)
    return fields


def _decoded(body: bytes, decoder: msgspec.json.Decoder[Fields]) -> Fields:
    try:
        fields = decoder.decode(body)
        # What stays raw in the Struct is not decoded yet, so its bytes are not checked either.
        body.decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise from_decoding(error, kind=decoder.type) from None
    return fields


def _guard(fields: msgspec.Struct, endpoint: Endpoint) -> None:
    for parameter in GUARDED[endpoint]:
        value = getattr(fields, parameter.name)
        if value is None or value in (parameter.only or ()):
            continue
        raise invalid(_unsupported(parameter), parameter.name, "unsupported_parameter")
    if not isinstance(fields, GenerationFields):
        return
    options = fields.stream_options
    if options is not None and not fields.stream:
        raise invalid("'stream_options' is allowed only together with 'stream'.", "stream_options")
    if options is not None and options.include_obfuscation:
        param = "stream_options.include_obfuscation"
        raise invalid(f"Unsupported parameter: '{param}'.", param, "unsupported_parameter")


def _unsupported(parameter: Parameter) -> str:
    note = f"{parameter.note[:1].lower()}{parameter.note[1:]}"
    if not parameter.only:
        return f"Unsupported parameter: '{parameter.name}': {note}"
    passing = " and ".join(msgspec.json.encode(value).decode() for value in parameter.only)
    return f"Unsupported value of '{parameter.name}': only {passing} passes: {note}"
