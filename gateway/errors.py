"""Errors as the client sees them. Everything that can go wrong ends here and leaves as OpenAI's ``{"error": ...}``, or
below `/v1/messages` as Anthropic's.

ApiError                 what a handler raises: status, message, param, code
  ├─ from_decoding       malformed JSON, wrong types, unknown fields (msgspec, UTF-8)
  ├─ from_provider       refusals and failures of a provider
  └─ from_http           Litestar's own: unknown route, wrong method, body too large
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException

from gateway.alternatives import alternatives
from providers.base import ProviderError
from schemas.anthropic.answer import ErrorAnswer, ErrorDetail
from schemas.errors import ErrorBody, ErrorResponse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.constraint import Constraint
    from gateway.offer import Place

ANTHROPIC_PATH = "/v1/messages"
"""Below it errors have Anthropic's shape."""

CLIENT_CLOSED = 499
"""Logged when the client went away before its answer; nobody receives it. (nginx)"""

MAX_MESSAGE = 4000
"""Characters. Messages repeat names and values of a request, which may be as long as its body."""

MAX_PARAM = 400

_TYPES = {429: "rate_limit_error"}
_CODES = {404: "not_found", 405: "method_not_allowed", 413: "request_too_large"}
_PATH = re.compile(r"(?P<what>.*?)(?: - at `(?P<key>key` in `)?\$(?P<path>[^`]*)`)?", re.DOTALL)
_STRANGE = re.compile(r"Invalid (?:enum )?value (?P<given>.*)", re.DOTALL)
_NAMED = re.compile(r"Object (?P<how>contains unknown|missing required) field `(?P<name>[^`]*)`")
_encode = msgspec.json.Encoder().encode


class ApiError(Exception):
    """``status`` is the HTTP status; ``headers`` are added to the answer."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = _cut(message, MAX_MESSAGE)
        self.param = None if param is None else _cut(param, MAX_PARAM)
        self.code = code
        self.headers = headers or {}

    def body(self) -> bytes:
        kind = _TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        if self.code == "insufficient_quota":
            kind = self.code
        return _encode(ErrorResponse(ErrorBody(self.message, kind, self.param, self.code)))


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def invalid(message: str, param: str | None, code: str | None = "invalid_value") -> ApiError:
    """A 400 about one field."""
    return ApiError(400, message, param=param, code=code)


def from_decoding(error: Exception, place: str = "", kind: Any = None) -> ApiError:
    """A body that is not JSON, or not the JSON that was expected. The message keeps msgspec's path and both types.
    ``place``: where in the body, if it was decoded in parts. ``kind``: what it was decoded as, to name the values that
    would do."""
    if isinstance(error, UnicodeDecodeError):
        return ApiError(400, "The body is not valid UTF-8.", code="invalid_utf8")
    if isinstance(error, RecursionError):
        return ApiError(400, "The body is nested too deeply.", code="invalid_json")
    if not isinstance(error, msgspec.ValidationError):
        return ApiError(400, f"The body is not valid JSON: {error}.", code="invalid_json")
    found = _PATH.fullmatch(str(error))
    assert found is not None
    what, path = found["what"], (place + (found["path"] or "")).removeprefix(".")
    if field := _NAMED.fullmatch(what):
        param = f"{path}.{field['name']}" if path else field["name"]
        if field["how"] == "missing required":
            return invalid(f"Missing required parameter: '{param}'.", param, "missing_required_parameter")
        return invalid(f"Unknown parameter: '{param}'.", param, "unknown_parameter")
    if (strange := _STRANGE.fullmatch(what)) and (known := alternatives(kind, found["path"] or "")):
        named = ", ".join(f"'{value}'" for value in known)
        return invalid(f"Invalid value for '{path}': {strange['given']} is none of {named}.", path or None)
    place = f"a key of '{path}'" if found["key"] else f"'{path}'" if path else "the body"
    code = "invalid_value" if "got `" not in what else "invalid_type"
    return invalid(f"Invalid value for {place}: {what[:1].lower()}{what[1:]}.", path or None, code)


def from_provider(
    error: ProviderError, constraint: Constraint | None, prompt_field: str, tools: Sequence[Place] = ()
) -> ApiError:
    """A provider's refusal. Faults of a constraint name the field it came in and the place inside it; ``tools``: where
    the schemas of the offered tools came in."""
    if error.kind in _CONSTRAINT_CODES:
        if error.tool is not None:
            noun, param = tools[error.tool].noun, tools[error.tool].param
        else:
            assert constraint is not None
            noun, param = constraint.noun, constraint.param
        place = f" at {error.pointer}" if error.pointer else ""
        code = constraint_code(error, noun)
        return invalid(f"Invalid {noun} in '{param}'{place}: {error.message}", param, code)
    match error.kind:
        case "context_length":
            return invalid(error.message, error.param or prompt_field, "context_length_exceeded")
        case "unknown_model":
            return unknown_model(error.message)
        case "overloaded":
            retry = {"retry-after": _seconds(error, 1), "x-should-retry": "true"}
            return ApiError(429, error.message, code="overloaded", headers=retry)
        case "unavailable":
            retry = {"retry-after": _seconds(error, 2), "x-should-retry": "true"}
            return ApiError(503, error.message, code="unavailable", headers=retry)
        case "internal":
            return ApiError(500, error.message, code="internal_error")
        case "invalid_answer":
            # It was asked again as often as the operator allows: clients that retry would pay for the same.
            return ApiError(502, error.message, code="invalid_answer", headers={"x-should-retry": "false"})
        case "declined":
            return ApiError(400, error.message, code="content_filter")
        case "policy":
            return invalid(error.message, error.param, "policy_excludes_all")
        case "deadline":
            return ApiError(504, error.message, code="deadline_exceeded", headers={"x-should-retry": "false"})
        case _:
            # Providers call a prompt of turns by chat's name for it.
            return invalid(error.message, prompt_field if error.param == "messages" else error.param)


def _seconds(error: ProviderError, default: int) -> str:
    """A Retry-After that holds what the provider said."""
    return str(default if error.retry_after is None else max(1, math.ceil(error.retry_after)))


_CONSTRAINT_CODES = {
    "invalid_constraint": "invalid_{}",
    "unsupported_constraint": "unsupported_{}",
    "unsatisfiable_constraint": "unsatisfiable_{}",
    "constraint_too_large": "{}_too_large",
}


def constraint_code(error: ProviderError, noun: str) -> str | None:
    """The code of a fault of a constraint that clients call ``noun``; None where the error is about something else."""
    form = _CONSTRAINT_CODES.get(error.kind)
    return form.format(noun) if form else None


def unknown_model(message: str) -> ApiError:
    return ApiError(404, message, param="model", code="model_not_found")


def from_http(error: HTTPException, request: Request[Any, Any, Any]) -> ApiError:
    method, path = request.scope["method"], request.scope["path"]
    match error.status_code:
        case 404:
            message, headers = f"There is nothing at {method} {path}.", {}
        case 405:
            allowed = ", ".join(sorted(_methods(request, path)))
            message, headers = f"{path} answers {allowed}, not {method}.", {"allow": allowed}
        case 413:
            limit = request.app.request_max_body_size
            message, headers = f"The body is larger than the {limit} bytes that this server takes.", {}
        case _:
            message, headers = f"{error.detail}.", {}
    return ApiError(error.status_code, message, code=_CODES.get(error.status_code), headers=headers)


def _methods(request: Request[Any, Any, Any], path: str) -> set[str]:
    """RFC 9110 wants a 405 to say which methods there are; Litestar's does not."""
    found: set[str] = set()
    for route in request.app.routes:
        literal, parameter, _ = route.path.partition("{")
        if path == literal or (parameter and path.startswith(literal)):
            found.update(getattr(route, "methods", ()))
    return found


_ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}
_OVERLOADED = 529
"""Anthropic's status for a server that is too busy, which its SDKs retry as others retry 429 and 503."""


def anthropic_error(error: ApiError, request_id: str | None) -> bytes:
    """The body of an error in Anthropic's shape. The message names the field."""
    kind = _ANTHROPIC_TYPES.get(
        _anthropic_status(error), "invalid_request_error" if error.status < 500 else "api_error"
    )
    return _encode(ErrorAnswer(ErrorDetail(kind, error.message), request_id))


def _anthropic_status(error: ApiError) -> int:
    return _OVERLOADED if error.code in ("overloaded", "unavailable") else error.status


def unexpected() -> ApiError:
    """An error of ours. What happened is in the log, under the request's id."""
    return ApiError(500, "The server failed on this request; the log has the details.", code="internal_error")


def error_response(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Litestar's exception handler for everything."""
    match error:
        case ApiError():
            answer = error
        case HTTPException():
            answer = from_http(error, request)
        case _:
            structlog.get_logger().exception("request failed", exc_info=error)
            answer = unexpected()
    record = request.scope["sluice.record"]  # type: ignore[typeddict-item]
    record.fields["error"] = answer.code
    status, body = answer.status, answer.body()
    if request.scope["path"].startswith(ANTHROPIC_PATH):
        status, body = _anthropic_status(answer), anthropic_error(answer, record.request_id)
    return Response(body, status_code=status, media_type="application/json", headers=answer.headers)
