"""The input of a batch: JSON Lines, each a request. All of it is looked at before any of it is answered, and what is
wrong is told with its line, up to `MAX_ERRORS` times."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator

import msgspec
from msgspec import Raw

from gateway.batches.batch_store import Line
from gateway.errors import ApiError, from_decoding
from schemas.openai.batches import BatchError

MAX_ERRORS = 100
MAX_CUSTOM_ID = 512
"""Characters."""

FIELDS = ("custom_id", "method", "url", "body")

_fields = msgspec.json.Decoder(dict[str, Raw])


class _Body(msgspec.Struct):
    """What is looked at of a request beforehand; its endpoint looks at the rest."""

    model: str
    stream: bool | None = None
    background: bool | None = None


_body = msgspec.json.Decoder(_Body)


class InputReader:
    """Reads the lines of one batch. ``find_model`` raises `ApiError` for models that are not served. ``max_lines``,
    and ``max_bytes`` a line. After `read`, ``errors`` are what is wrong, if anything is."""

    def __init__(
        self, batch: str, endpoint: str, find_model: Callable[[str], object], *, max_lines: int, max_bytes: int
    ) -> None:
        self.errors: list[BatchError] = []
        self.count = 0
        self._batch = batch
        self._endpoint = endpoint
        self._find_model = find_model
        self._max_lines = max_lines
        self._max_bytes = max_bytes
        self._ids: set[str] = set()
        self._models: dict[str, BatchError | None] = {}

    @property
    def model(self) -> str:
        """Of all lines, "" where they have several."""
        return next(iter(self._models)) if len(self._models) == 1 else ""

    async def read(self, content: AsyncIterator[bytes]) -> AsyncIterator[Line]:
        """The lines that are as they must be; blank ones are none."""
        number, rest = 0, b""
        async for data in content:
            *whole, rest = (rest + data).split(b"\n")
            for text in whole:
                number += 1
                for line in self._line(number, text):
                    yield line
            if len(rest) > self._max_bytes:
                self._too_long(number + 1)
                rest = b""
                break
            if len(self.errors) >= MAX_ERRORS or self.count > self._max_lines:
                return
        for line in self._line(number + 1, rest):
            yield line
        if not self.count and not self.errors:
            self.errors.append(BatchError("empty_file", "The input file has no requests in it."))

    def _line(self, number: int, text: bytes) -> Iterator[Line]:
        if not text.strip() or len(self.errors) >= MAX_ERRORS or self.count > self._max_lines:
            return
        self.count += 1
        if self.count > self._max_lines:
            message = f"A batch has {self._max_lines} requests at most here."
            self.errors.append(BatchError("too_many_tasks", message, number))
        elif len(text) > self._max_bytes:
            self._too_long(number)
        else:
            try:
                yield Line(self._batch, number, *self._request(text))
            except _Wrong as wrong:
                self.errors.append(BatchError(wrong.code, str(wrong), number, wrong.param))

    def _too_long(self, number: int) -> None:
        message = f"This line has more than the {self._max_bytes} bytes that a request may have here."
        self.errors.append(BatchError("line_too_long", message, number))

    def _request(self, text: bytes) -> tuple[str, str]:
        """custom_id and body. Raises `_Wrong`."""
        try:
            text.decode()
            given = _fields.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise _Wrong("invalid_json_line", "This line is not a JSON object.") from None
        for name in FIELDS:
            if name not in given:
                raise _Wrong("missing_required_parameter", f"Missing required parameter: '{name}'.", name)
        for name in given:
            if name not in FIELDS:
                raise _Wrong("unknown_parameter", f"Unknown parameter: '{name[:100]}'.", name[:100])
        self._same(given["method"], "POST", "method")
        self._same(given["url"], self._endpoint, "url")
        custom_id = self._text(given["custom_id"], "custom_id")
        if not 0 < len(custom_id) <= MAX_CUSTOM_ID or "\0" in custom_id:
            message = f"'custom_id' has 1 to {MAX_CUSTOM_ID} characters, none of them U+0000."
            raise _Wrong("invalid_custom_id", message, "custom_id")
        if custom_id in self._ids:
            message = f"The custom_id '{custom_id}' is that of an earlier line; each line needs its own."
            raise _Wrong("duplicate_custom_id", message, "custom_id")
        self._ids.add(custom_id)
        self._look_at(bytes(given["body"]))
        return custom_id, bytes(given["body"]).decode()

    def _look_at(self, body: bytes) -> None:
        try:
            fields = _body.decode(body)
        except msgspec.DecodeError as error:
            wrong = from_decoding(error, "body")
            raise _Wrong(wrong.code or "invalid_value", wrong.message, wrong.param) from None
        for name in ("stream", "background"):
            if getattr(fields, name):
                message = f"Unsupported parameter: 'body.{name}': the answer goes into a file."
                raise _Wrong("unsupported_parameter", message, f"body.{name}")
        if fields.model not in self._models:
            try:
                self._find_model(fields.model)
                self._models[fields.model] = None
            except ApiError as error:
                code = error.code or "invalid_value"
                self._models[fields.model] = BatchError(code, error.message, param="body.model")
        if (unknown := self._models[fields.model]) is not None:
            raise _Wrong(unknown.code, unknown.message, unknown.param)

    def _same(self, raw: Raw, expected: str, name: str) -> None:
        given = self._text(raw, name)
        if given != expected:
            message = f"Invalid value for '{name}': '{given[:100]}' is not '{expected}', which this batch asks for."
            raise _Wrong(f"invalid_{name}", message, name)

    def _text(self, raw: Raw, name: str) -> str:
        try:
            return msgspec.json.decode(raw, type=str)
        except msgspec.DecodeError:
            raise _Wrong("invalid_type", f"Invalid type for '{name}': expected a string.", name) from None


class _Wrong(Exception):
    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.param = param
