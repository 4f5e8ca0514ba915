"""``/v1/batches``: begin, list, show and cancel, each tenant its own."""

from __future__ import annotations

from typing import Any, cast

import msgspec
from litestar import Request, get, post
from litestar.handlers import HTTPRouteHandler

from gateway.access import record_of, tenant_of
from gateway.auth import Caller
from gateway.batches.batch_store import BatchStore
from gateway.batches.runner import BatchRunner
from gateway.batches.tables import StoredBatch
from gateway.body import read_struct
from gateway.errors import ApiError, invalid
from gateway.files.file_store import FileStore
from gateway.paging import MICROSECONDS, read_page, timed_id
from gateway.policy.asking import HEADER
from schemas.config import Batches
from schemas.openai.batches import (
    Batch,
    BatchEndpoint,
    BatchError,
    BatchErrors,
    BatchList,
    BatchRequest,
    BatchStatus,
    BatchUsage,
    InputTokensDetails,
    OutputTokensDetails,
    RequestCounts,
)

JSON = "application/json"

_decoder = msgspec.json.Decoder(BatchRequest)
_encode = msgspec.json.Encoder().encode


def batch_routes(
    batches: BatchStore | None, files: FileStore | None, runner: BatchRunner | None, settings: Batches
) -> list[HTTPRouteHandler]:
    """Without a store all of it is refused by name."""

    def kept() -> BatchStore:
        if batches is None:
            raise ApiError(
                404, "Batches need files, which are not kept here (`files.store`).", code="unsupported_endpoint"
            )
        return batches

    async def found(request: Request[Any, Any, Any]) -> StoredBatch:
        id = str(request.path_params["id"])
        batch = await kept().find(id, tenant_of(request))
        if batch is None:
            raise ApiError(404, f"No batch found with id '{id}'.", param="batch_id", code="batch_not_found")
        return batch

    def wake() -> None:
        assert runner is not None, "there are no batches without their runner"
        runner.wake()

    @post("/batches", status_code=200, media_type=JSON)
    async def create(request: Request[Any, Any, Any]) -> bytes:
        store = kept()
        if HEADER in request.headers:
            message = f"'{HEADER}' is about one request: each line of a batch says its own 'sluice.policy'."
            raise invalid(message, HEADER, "unsupported_parameter")
        asked = await read_struct(request, _decoder)
        assert files is not None, "there are no batches without files"
        file = await files.find(asked.input_file_id, tenant_of(request))
        if file is None:
            message = f"No such File object: {asked.input_file_id}"
            raise ApiError(404, message, param="input_file_id", code="file_not_found")
        if file.purpose != "batch":
            message = f"The file '{file.id}' is of purpose '{file.purpose}', not 'batch'."
            raise invalid(message, "input_file_id")
        caller = record_of(request.scope).caller or Caller()
        row = new_row(asked, caller, store.now())
        await store.add(row, settings.max_unfinished)
        wake()
        batch = await store.find(row["id"], caller.tenant)
        assert batch is not None
        return _encode(shown(batch))

    @get("/batches", media_type=JSON)
    async def listed(request: Request[Any, Any, Any]) -> bytes:
        page = read_page(request.query_params, default=20, most=100)
        rows = await kept().list(tenant_of(request), page)
        data = [shown(batch) for batch in rows[: page.limit]]
        first, last = (data[0].id, data[-1].id) if data else (None, None)
        return _encode(BatchList(data, len(rows) > page.limit, first, last))

    @get("/batches/{id:str}", media_type=JSON)
    async def show(request: Request[Any, Any, Any]) -> bytes:
        return _encode(shown(await found(request)))

    @post("/batches/{id:str}/cancel", status_code=200, media_type=JSON)
    async def cancel(request: Request[Any, Any, Any]) -> bytes:
        batch = await found(request)
        await kept().cancel(batch.id, batch.tenant)
        wake()
        batch = await found(request)
        if batch.status not in ("cancelling", "cancelled"):
            message = f"Cannot cancel a batch with status '{batch.status}'."
            raise ApiError(409, message, code="batch_not_cancellable", headers={"x-should-retry": "false"})
        return _encode(shown(batch))

    return [create, listed, show, cancel]


def new_row(asked: BatchRequest, caller: Caller, now: int) -> dict[str, Any]:
    hours = int(asked.completion_window.removesuffix("h"))
    return {
        "id": timed_id("batch_", now / MICROSECONDS),
        "tenant": caller.tenant,
        "key": caller.name,
        "endpoint": asked.endpoint,
        "input_file": asked.input_file_id,
        "completion_window": asked.completion_window,
        "output_seconds": asked.output_expires_after.seconds if asked.output_expires_after else None,
        "labels": _encode(asked.metadata).decode(),
        "model": "",
        "status": "validating",
        "ending": "",
        "errors": "[]",
        "lines": 0,
        "completed": 0,
        "failed": 0,
        "input_tokens": 0,
        "cached_tokens": 0,
        "output_tokens": 0,
        "reasoning_tokens": 0,
        "output_file": "",
        "error_file": "",
        "worker": "",
        "created_at": now,
        "expires_at": now + hours * 3600 * MICROSECONDS,
    }


def shown(batch: StoredBatch) -> Batch:
    errors = msgspec.json.decode(batch.errors, type=list[BatchError])
    return Batch(
        id=batch.id,
        endpoint=cast(BatchEndpoint, batch.endpoint),
        input_file_id=batch.input_file,
        completion_window=batch.completion_window,
        status=cast(BatchStatus, batch.status),
        created_at=batch.created_at // MICROSECONDS,
        request_counts=RequestCounts(batch.lines, batch.completed, batch.failed),
        usage=BatchUsage(
            batch.input_tokens,
            InputTokensDetails(batch.cached_tokens),
            batch.output_tokens,
            OutputTokensDetails(batch.reasoning_tokens),
            batch.input_tokens + batch.output_tokens,
        ),
        metadata=msgspec.json.decode(batch.labels, type=dict[str, str] | None),
        model=batch.model or None,
        errors=BatchErrors(errors) if errors else None,
        output_file_id=batch.output_file or None,
        error_file_id=batch.error_file or None,
        in_progress_at=_seconds(batch.in_progress_at),
        expires_at=_seconds(batch.expires_at),
        finalizing_at=_seconds(batch.finalizing_at),
        completed_at=_seconds(batch.completed_at),
        failed_at=_seconds(batch.failed_at),
        expired_at=_seconds(batch.expired_at),
        cancelling_at=_seconds(batch.cancelling_at),
        cancelled_at=_seconds(batch.cancelled_at),
    )


def _seconds(microseconds: int | None) -> int | None:
    return None if microseconds is None else microseconds // MICROSECONDS
