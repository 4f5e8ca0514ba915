"""A file on its way in, out of a form (``multipart/form-data``, RFC 7578): parsed as it comes, and written down in
chunks. The fields of a form may come in any order, so what the file is for may be known after it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast, get_args

import msgspec
from litestar import Request
from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header

from gateway.errors import ApiError, from_decoding, invalid
from gateway.files.file_store import FileStore, FileWriter, too_large
from gateway.files.tables import StoredFile
from schemas.openai.files import ExpiresAfter, Purpose

PURPOSES: dict[str, Purpose] = {"batch": "batch", "user_data": "user_data"}
REFUSED = {
    "assistants": "there are no assistants here",
    "batch_output": "the server makes those",
    "evals": "there are no evals here",
    "fine-tune": "models are not trained here",
    "vision": "the models read text",
}
"""Purposes that OpenAI knows and that make no sense here."""

EXPIRY = ("expires_after[anchor]", "expires_after[seconds]")
FIELDS = ("purpose", *EXPIRY)
MAX_FIELD = 1000
"""Bytes of a field that is not the file."""

FORM_BYTES = 64 * 1024
"""What a form may have around its file."""

assert set(PURPOSES) | set(REFUSED) >= set(get_args(Purpose))


async def receive_file(request: Request[Any, Any, Any], store: FileStore, tenant: str) -> StoredFile:
    """Raises `ApiError`; nothing is kept then."""
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind != "multipart/form-data" or not options.get("boundary"):
        message = f"The content type must be multipart/form-data with a boundary, not '{kind}'."
        raise ApiError(415, message, code="unsupported_media_type")
    if (request.content_length or 0) > store.max_bytes + FORM_BYTES:
        raise too_large(store.max_bytes)
    form = _Form(store, tenant)
    try:
        await form.read(request.stream(), options["boundary"])
        return await form.finish()
    except BaseException as error:
        if form.writer is not None:
            await form.writer.discard()
        if isinstance(error, MultipartError):
            raise ApiError(400, f"The form cannot be read: {error}.", code="invalid_form") from None
        raise


class _Form:
    """What has come of a form. ``writer``: of the file, once it has begun."""

    def __init__(self, store: FileStore, tenant: str) -> None:
        self.writer: FileWriter | None = None
        self._store = store
        self._tenant = tenant
        self._fields: dict[str, str] = {}
        self._name = ""
        self._text = bytearray()

    async def read(self, stream: AsyncIterator[bytes], boundary: str) -> None:
        with PushMultipartParser(boundary, max_segment_count=len(FIELDS) + 1) as parser:
            received = 0
            async for data in stream:
                received += len(data)
                if received > self._store.max_bytes + FORM_BYTES:
                    raise too_large(self._store.max_bytes)
                if not data or parser.closed:
                    continue
                for part in parser.parse(data):
                    await self._take(part)

    async def finish(self) -> StoredFile:
        purpose = _purpose(self._fields)
        expiry = _expiry(self._fields)
        if self.writer is None:
            raise invalid("Missing required parameter: 'file'.", "file", "missing_required_parameter")
        return await self.writer.finish(purpose, expiry.seconds if expiry else None)

    async def _take(self, part: MultipartSegment | bytearray | bytes | None) -> None:
        if isinstance(part, MultipartSegment):
            await self._begin(part)
        elif part is None:
            if self._name != "file":
                self._fields[self._name] = self._text.decode("utf-8", "replace")
        elif self._name == "file":
            assert self.writer is not None
            await self.writer.write(part)
        else:
            self._text += part
            if len(self._text) > MAX_FIELD:
                raise invalid(f"'{self._name}' has more than {MAX_FIELD} bytes.", self._name)

    async def _begin(self, segment: MultipartSegment) -> None:
        self._name, self._text = segment.name or "", bytearray()
        if self._name in self._fields or (self._name == "file" and self.writer is not None):
            raise invalid(f"'{self._name}' is given twice.", self._name)
        if self._name not in (*FIELDS, "file"):
            raise invalid(f"Unknown parameter: '{self._name[:100]}'.", self._name[:100], "unknown_parameter")
        if self._name == "file":
            if not segment.filename:
                raise invalid("'file' is a text, not a file: it needs a filename.", "file")
            filename = segment.filename[:500].replace("\0", "\ufffd")
            self.writer = await self._store.begin(self._tenant, filename)


def _purpose(fields: dict[str, str]) -> Purpose:
    given = fields.get("purpose")
    if given is None:
        raise invalid("Missing required parameter: 'purpose'.", "purpose", "missing_required_parameter")
    if given in REFUSED:
        message = f"Unsupported value of 'purpose': '{given}': {REFUSED[given]}."
        raise invalid(message, "purpose", "unsupported_parameter")
    if given not in PURPOSES:
        known = ", ".join(f"'{name}'" for name in PURPOSES)
        raise invalid(f"Invalid value for 'purpose': '{given[:100]}' is none of {known}.", "purpose")
    return PURPOSES[given]


def _expiry(fields: dict[str, str]) -> ExpiresAfter | None:
    given = {name[len("expires_after[") : -1]: fields[name] for name in EXPIRY if name in fields}
    if not given:
        return None
    try:
        return msgspec.convert(cast(object, given), ExpiresAfter, strict=False)
    except msgspec.ValidationError as error:
        raise from_decoding(error, "expires_after", ExpiresAfter) from None
