"""The body of every error answer, in OpenAI's shape: ``{"error": {"message", "type", "param", "code"}}``."""

from __future__ import annotations

import msgspec


class ErrorBody(msgspec.Struct):
    """``type``: the class of error. ``param``: the request field it is about. ``code``: stable, for programs."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorResponse(msgspec.Struct):
    """Also the `data:` of a stream that fails half way: the SDKs raise on any event with an ``error``."""

    error: ErrorBody
