"""One HTTP call to a remote API: its bytes go out, its answer comes back as pieces, and everything has a bound.

    connect_s       to connect                   first_byte_s   until the status line
    idle_s          between two pieces           total_s        for all of it
    answer_bytes    of an answer                 concurrency    calls at a time

Redirects are not followed and compressed answers are not taken (a small one can be a large one). The connection of a
call that is given up is closed. What goes wrong is a `Failure`.
"""

from __future__ import annotations

import asyncio
import email.utils
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import httpx
import msgspec
from msgspec import Struct

from providers.base import ErrorKind
from providers.remote.failures import Failure, Health
from schemas.providers import Limits, ProviderSettings, Timeouts

MAX_COMPLAINT = 65_536
"""Bytes of an error's body that are read."""

MAX_SAID = 300
LONGEST_WAIT = 86_400.0
"""Seconds: a provider's word goes on to clients, and "inf" is a number too."""

STREAM = "text/event-stream"
JSON = "application/json"


@cache
def _certificates() -> ssl.SSLContext:
    """Read once: it takes a tenth of a second."""
    return httpx.create_ssl_context()


@dataclass(slots=True)
class Answering:
    """An answer with status 200. ``media_type``: without parameters."""

    media_type: str
    chunks: AsyncGenerator[bytes, None]


@dataclass(slots=True)
class Sending:
    """``begun``: the first byte of the request has gone out, so it may have been executed."""

    begun: bool = False

    async def trace(self, event: str, _: Any) -> None:
        """Told by httpcore of each step."""
        self.begun |= event.endswith(".send_request_headers.started")


class Transport:
    """The connections to one provider. Messages name the provider, never its key or what was sent."""

    def __init__(self, settings: ProviderSettings) -> None:
        self._name = settings.name
        self._url = settings.url
        self._timeouts: Timeouts = settings.timeouts
        self._limits: Limits = settings.limits
        self._places = asyncio.Semaphore(settings.limits.concurrency)
        self._waiting = 0
        self._client = httpx.AsyncClient(
            verify=_certificates(),
            timeout=httpx.Timeout(None, connect=settings.timeouts.connect_s),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=settings.limits.concurrency),
            follow_redirects=False,
        )

    async def aclose(self) -> None:
        await self._client.aclose()

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """A place among the calls that run at a time, in which one may be posted. Raises `Failure`."""
        await self._acquire()
        try:
            yield
        finally:
            self._places.release()

    @asynccontextmanager
    async def post(
        self, path: str, body: bytes, headers: Mapping[str, str], accept: str, sending: Sending
    ) -> AsyncIterator[Answering]:
        """Raises `Failure`, here and from reading the answer's chunks."""
        deadline = asyncio.get_running_loop().time() + self._timeouts.total_s
        request = self._client.build_request(
            "POST",
            self._url + path,
            content=body,
            headers={**headers, "content-type": JSON, "accept": accept, "accept-encoding": "identity"},
            extensions={"trace": sending.trace},
        )
        response = await self._sent(request)
        chunks = self._chunks(response, deadline)
        try:
            if response.status_code != 200:
                raise await self._refusal(response, chunks)
            if response.headers.get("content-encoding", "identity") != "identity":
                raise self.broken("the answer is compressed")
            media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
            yield Answering(media_type, chunks)
        finally:
            await chunks.aclose()
            await response.aclose()

    def broken(self, why: str) -> Failure:
        """Of an answer that is none."""
        message = f"Provider `{self._name}` sent no proper answer: {why}."
        return Failure("invalid_answer", message, executed=True, again=True, health="ill")

    async def _acquire(self) -> None:
        if self._places.locked() and self._waiting >= self._limits.waiting:
            message = f"Too many calls wait for provider `{self._name}`."
            raise Failure("overloaded", message, executed=False, again=False, health="unknown")
        self._waiting += 1
        try:
            async with asyncio.timeout(self._timeouts.first_byte_s):
                await self._places.acquire()
        except TimeoutError:
            message = f"Provider `{self._name}` had no place for another call in time."
            raise Failure("overloaded", message, executed=False, again=False, health="unknown") from None
        finally:
            self._waiting -= 1

    async def _sent(self, request: httpx.Request) -> httpx.Response:
        try:
            async with asyncio.timeout(min(self._timeouts.first_byte_s, self._timeouts.total_s)):
                return await self._client.send(request, stream=True)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol, httpx.ProxyError):
            message = f"Provider `{self._name}` cannot be reached."
            raise Failure("unavailable", message, executed=False, again=True, health="ill") from None
        except (TimeoutError, httpx.TimeoutException):
            message = f"Provider `{self._name}` did not begin to answer in time."
            raise Failure("unavailable", message, executed=True, again=False, health="ill") from None
        except httpx.TransportError:
            raise self._cut() from None

    def _cut(self) -> Failure:
        message = f"The connection to provider `{self._name}` broke off."
        return Failure("unavailable", message, executed=True, again=True, health="ill")

    async def _chunks(self, response: httpx.Response, deadline: float) -> AsyncGenerator[bytes, None]:
        pieces = response.aiter_raw()
        loop, total = asyncio.get_running_loop(), 0
        while True:
            left = deadline - loop.time()
            try:
                async with asyncio.timeout(max(0.0, min(self._timeouts.idle_s, left))):
                    piece = await anext(pieces, None)
            except TimeoutError:
                message = f"Provider `{self._name}` did not go on with its answer in time."
                raise Failure("unavailable", message, executed=True, again=False, health="ill") from None
            except (httpx.TransportError, httpx.StreamError):
                raise self._cut() from None
            if piece is None:
                return
            total += len(piece)
            if total > self._limits.answer_bytes:
                raise self.broken("the answer is too long")
            yield piece

    async def _refusal(self, response: httpx.Response, chunks: AsyncGenerator[bytes, None]) -> Failure:
        body = bytearray()
        try:
            async for piece in chunks:
                body += piece
                if len(body) > MAX_COMPLAINT:
                    break
        except Failure:
            body.clear()  # the status says enough
        return refusal(self._name, response.status_code, response.headers, bytes(body))


def refusal(name: str, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
    """What a status other than 200 means. The API's own words are told of what the request is at fault for (400, 413,
    422), and are otherwise the operator's matter: they may speak of accounts."""
    wait = retry_after(headers)
    match status:
        case 400 | 413 | 422:
            kind: ErrorKind = "context_length" if _is_context_error(body) else "invalid_request"
            message = f"Provider `{name}` refused the request{_said(body)}."
            return Failure(kind, message, executed=False, again=False, health="well")
        case 401 | 402 | 403:
            message = f"Provider `{name}` does not let this server in (status {status})."
            return Failure("unavailable", message, executed=False, again=False, health="ill")
        case 404:
            message = f"Provider `{name}` does not know the model, or has no such API."
            return Failure("unavailable", message, executed=False, again=False, health="well")
        case 408 | 409 | 425:
            message = f"Provider `{name}` could not take the request now (status {status})."
            return Failure("unavailable", message, executed=False, again=True, health="well", retry_after=wait)
        case 429 | 503 | 529:
            message = f"Provider `{name}` is too busy (status {status})."
            health: Health = "well" if status == 429 else "ill"
            return Failure("overloaded", message, executed=False, again=True, health=health, retry_after=wait)
        case _ if status >= 500:
            message = f"Provider `{name}` failed (status {status})."
            return Failure("unavailable", message, executed=True, again=True, health="ill", retry_after=wait)
        case _:
            message = f"Provider `{name}` answered with status {status}, which it should not."
            return Failure("unavailable", message, executed=True, again=False, health="ill")


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, by OpenAI's ``retry-after-ms`` or RFC 9110's Retry-After; `LONGEST_WAIT` at most."""
    try:
        if text := headers.get("retry-after-ms"):
            return _wait(float(text) / 1000)
        if text := headers.get("retry-after"):
            if text.strip().replace(".", "", 1).isdigit():
                return _wait(float(text))
            return _wait(email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        pass
    return None


def _wait(seconds: float) -> float:
    return min(max(0.0, seconds), LONGEST_WAIT)


class _Complaint(Struct):
    message: str = ""
    code: str | int | None = None


class _ErrorBody(Struct):
    error: _Complaint | str | None = None


def _complaint(body: bytes) -> _Complaint:
    try:
        error = msgspec.json.decode(body, type=_ErrorBody).error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _Complaint()
    return _Complaint(error) if isinstance(error, str) else error or _Complaint()


def _is_context_error(body: bytes) -> bool:
    found = _complaint(body)
    return found.code == "context_length_exceeded" or "prompt is too long" in found.message


def _said(body: bytes) -> str:
    message = _complaint(body).message.strip().rstrip(".")
    return f": {message[:MAX_SAID]}" if message else ""
