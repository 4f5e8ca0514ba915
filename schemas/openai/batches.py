"""``/v1/batches``: the request, the batch, and the lines of its files (openai SDK 3 types)."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

import msgspec
from msgspec import Meta, Raw

from schemas.openai.files import ExpiresAfter
from schemas.openai.labels import Labels

BatchEndpoint = Literal["/v1/chat/completions", "/v1/responses", "/v1/completions", "/v1/decisions"]
ENDPOINTS: tuple[BatchEndpoint, ...] = get_args(BatchEndpoint)

BatchStatus = Literal[
    "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
]


class BatchRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``completion_window``: a whole number of hours, as "24h"."""

    input_file_id: str
    endpoint: BatchEndpoint
    completion_window: Annotated[str, Meta(pattern="^[1-9][0-9]{0,2}h$")]
    metadata: Labels | None = None
    output_expires_after: ExpiresAfter | None = None


class BatchError(msgspec.Struct, frozen=True):
    """``line`` counts from 1; None where the file as a whole is at fault."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


class BatchErrors(msgspec.Struct):
    data: list[BatchError]
    object: Literal["list"] = "list"


class RequestCounts(msgspec.Struct):
    """``total`` less the others have not been answered (yet)."""

    total: int = 0
    completed: int = 0
    failed: int = 0


class InputTokensDetails(msgspec.Struct):
    cached_tokens: int = 0


class OutputTokensDetails(msgspec.Struct):
    reasoning_tokens: int = 0


class BatchUsage(msgspec.Struct):
    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int


class Batch(msgspec.Struct):
    """``model``: of all lines, if it is one. Times: seconds since 1970."""

    id: str
    endpoint: BatchEndpoint
    input_file_id: str
    completion_window: str
    status: BatchStatus
    created_at: int
    request_counts: RequestCounts
    usage: BatchUsage
    metadata: dict[str, str] | None = None
    model: str | None = None
    errors: BatchErrors | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    in_progress_at: int | None = None
    expires_at: int | None = None
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None
    object: Literal["batch"] = "batch"


class BatchList(msgspec.Struct):
    data: list[Batch]
    has_more: bool
    first_id: str | None
    last_id: str | None
    object: Literal["list"] = "list"


class LineResponse(msgspec.Struct):
    """What the endpoint answered."""

    status_code: int
    request_id: str
    body: Raw


class LineError(msgspec.Struct):
    """Why there is no answer."""

    code: str
    message: str


class OutputLine(msgspec.Struct):
    """A line of an output or error file: ``response`` or ``error``."""

    id: str
    custom_id: str
    response: LineResponse | None = None
    error: LineError | None = None
