"""``/v1/files``: upload, list, show, read and forget, each tenant its own."""

from __future__ import annotations

from typing import Any, get_args
from urllib.parse import quote

import msgspec
from litestar import Request, delete, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.response.base import ASGIResponse
from litestar.response.streaming import ASGIStreamingResponse

from gateway.access import tenant_of
from gateway.errors import ApiError, invalid
from gateway.files.file_store import FileStore
from gateway.files.tables import StoredFile
from gateway.files.upload import REFUSED, receive_file
from gateway.paging import MICROSECONDS, read_page
from schemas.openai.files import DeletedFile, File, FileList, Purpose

JSON = "application/json"
MOST = 10_000
"""Files of one page, and how many OpenAI's SDK asks for by default."""

_encode = msgspec.json.Encoder().encode


def file_routes(store: FileStore | None) -> list[HTTPRouteHandler]:
    """Without a store all of it is refused by name."""

    def files() -> FileStore:
        if store is None:
            raise ApiError(404, "Files are not kept here (`files.store`).", code="unsupported_endpoint")
        return store

    async def found(request: Request[Any, Any, Any]) -> StoredFile:
        id = str(request.path_params["id"])
        file = await files().find(id, tenant_of(request))
        if file is None:
            raise not_found(id)
        return file

    # The store bounds what is received, not the server's limit for other bodies.
    @post("/files", status_code=200, media_type=JSON, request_max_body_size=None)
    async def upload(request: Request[Any, Any, Any]) -> bytes:
        return _encode(_shown(await receive_file(request, files(), tenant_of(request))))

    @get("/files", media_type=JSON)
    async def listed(request: Request[Any, Any, Any]) -> bytes:
        page = read_page(request.query_params, default=MOST, most=MOST, others=("purpose",))
        rows = await files().list(tenant_of(request), page, _purpose(request.query_params.get("purpose")))
        shown = [_shown(file) for file in rows[: page.limit]]
        first, last = (shown[0].id, shown[-1].id) if shown else (None, None)
        return _encode(FileList(shown, len(rows) > page.limit, first, last))

    @get("/files/{id:str}", media_type=JSON)
    async def show(request: Request[Any, Any, Any]) -> bytes:
        return _encode(_shown(await found(request)))

    @get("/files/{id:str}/content")
    async def content(request: Request[Any, Any, Any]) -> ASGIResponse:
        file = await found(request)
        # With its length told, a file that is forgotten on its way out is an error and not a shorter file.
        headers = {
            "content-length": str(file.bytes),
            "content-disposition": f"attachment; filename*=UTF-8''{quote(file.filename, safe='')}",
            "x-content-type-options": "nosniff",
        }
        return ASGIStreamingResponse(
            iterator=files().content(file), media_type="application/octet-stream", headers=headers
        )

    @delete("/files/{id:str}", status_code=200, media_type=JSON)
    async def forget(request: Request[Any, Any, Any]) -> bytes:
        id = str(request.path_params["id"])
        if not await files().forget(id, tenant_of(request)):
            raise not_found(id)
        return _encode(DeletedFile(id))

    return [upload, listed, show, content, forget]


def _purpose(asked: str | None) -> str | None:
    """Of the purposes that OpenAI knows and that make no sense here there are no files."""
    if asked is not None and asked not in (*get_args(Purpose), *REFUSED):
        known = ", ".join(f"'{purpose}'" for purpose in get_args(Purpose))
        raise invalid(f"Invalid value for 'purpose': '{asked[:40]}' is none of {known}.", "purpose")
    return asked


def not_found(id: str) -> ApiError:
    return ApiError(404, f"No such File object: {id}", param="id", code="file_not_found")


def _shown(file: StoredFile) -> File:
    purpose: Any = file.purpose
    expires_at = None if file.expires_at is None else file.expires_at // MICROSECONDS
    return File(file.id, file.bytes, file.created_at // MICROSECONDS, file.filename, purpose, expires_at)
