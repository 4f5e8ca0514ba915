"""Server-sent events out of a stream of bytes, bounded (WHATWG HTML §9.2.6).

Only `data` matters here: all dialects repeat the type of an event inside of it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator

from providers.remote.dialect import BrokenAnswer


async def events(chunks: AsyncIterator[bytes], event_bytes: int) -> AsyncGenerator[bytes, None]:
    """The data of each event; an event that the stream's end cuts off is none. Raises `BrokenAnswer` for one that is
    longer than ``event_bytes``."""
    lines = _Lines(event_bytes)
    data: list[bytes] = []
    held = 0
    async for chunk in chunks:
        for line in lines.feed(chunk):
            if not line:
                if data:
                    yield b"\n".join(data)
                data, held = [], 0
            elif line.startswith(b"data:"):
                data.append(line[6:] if line[5:6] == b" " else line[5:])
                held += len(line)
                if held > event_bytes:
                    raise BrokenAnswer("an event of the answer is too long")


class _Lines:
    """Cuts bytes into lines, which end with CR, LF or both."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rest = bytearray()
        self._after_cr = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that end in this chunk."""
        if not chunk:
            return []
        if self._after_cr and chunk[:1] == b"\n":
            chunk = chunk[1:]
        self._after_cr = chunk[-1:] == b"\r"
        *ended, rest = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        lines: list[bytes] = []
        for line in ended:
            lines.append(bytes(self._rest) + line)
            self._rest.clear()
        self._rest += rest
        if len(self._rest) > self._limit:
            raise BrokenAnswer("a line of the answer is too long")
        return lines
