"""``/v1/files``: the uploads, and how long they live (openai SDK 3 types)."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Purpose = Literal["batch", "batch_output", "user_data"]


class ExpiresAfter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``seconds``: from one hour to 30 days."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Meta(ge=3600, le=2_592_000)]


class File(msgspec.Struct):
    """Times: seconds since 1970."""

    id: str
    bytes: int
    created_at: int
    filename: str
    purpose: Purpose
    expires_at: int | None = None
    object: Literal["file"] = "file"
    status: Literal["processed"] = "processed"
    status_details: None = None


class FileList(msgspec.Struct):
    data: list[File]
    has_more: bool
    first_id: str | None
    last_id: str | None
    object: Literal["list"] = "list"


class DeletedFile(msgspec.Struct):
    id: str
    object: Literal["file"] = "file"
    deleted: bool = True
