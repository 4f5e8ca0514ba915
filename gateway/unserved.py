"""Endpoints of OpenAI's API that are not served, refused by name: a client learns what is missing, not that a path is
unknown.
"""

from __future__ import annotations

from typing import Any

from litestar import Request, post
from litestar.handlers import HTTPRouteHandler

from gateway.errors import ApiError

UNSERVED = {
    "/embeddings": "Embeddings are",
    "/images/generations": "Image generation is",
    "/images/edits": "Image editing is",
    "/images/variations": "Image variation is",
    "/audio/speech": "Speech is",
    "/audio/transcriptions": "Transcription is",
    "/audio/translations": "Translation of speech is",
    "/moderations": "Moderation is",
}
"""Path below /v1 → what it would do."""


def unserved() -> list[HTTPRouteHandler]:
    """Handlers that answer 404 with the code `unsupported_endpoint`."""

    def refusing(path: str, what: str) -> HTTPRouteHandler:
        @post(path)
        async def handler(request: Request[Any, Any, Any]) -> None:
            raise ApiError(404, f"{what} not served here: the models write text.", code="unsupported_endpoint")

        return handler

    return [refusing(path, what) for path, what in UNSERVED.items()]
