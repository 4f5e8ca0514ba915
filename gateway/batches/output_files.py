"""The output of a batch: one file of what was answered, one of what was not, each line in the order of the input."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import msgspec

from gateway.batches.batch_store import BatchStore, Ending
from gateway.batches.tables import BatchLine, StoredBatch
from gateway.files.file_store import FileStore, FileWriter
from schemas.openai.batches import LineError, OutputLine

READ_TOGETHER = 50
"""Lines."""

UNANSWERED: dict[Ending, LineError] = {
    "expired": LineError("batch_expired", "This request could not be executed before the completion window expired."),
    "cancelled": LineError("batch_cancelled", "This request was not executed: its batch was cancelled."),
    "completed": LineError("internal_error", "This request was not executed."),
}

_encode = msgspec.json.Encoder().encode


class OutputFiles:
    """Written as their first lines come; a batch of which nothing failed has no error file."""

    def __init__(self, store: FileStore, batch: StoredBatch, ending: Ending) -> None:
        self._store = store
        self._batch = batch
        self._unanswered = UNANSWERED[ending]
        self._writers: dict[str, FileWriter] = {}

    @property
    def ids(self) -> dict[str, str]:
        """The batch's column → file."""
        return {column: writer.id for column, writer in self._writers.items()}

    @property
    def published(self) -> dict[str, dict[str, Any]]:
        """File → its columns once everybody may find it."""
        seconds = self._batch.output_seconds
        return {writer.id: writer.published("batch_output", seconds) for writer in self._writers.values()}

    async def write(self, batches: BatchStore) -> None:
        """All lines, and nobody finds them yet."""
        after = -1
        while lines := await batches.lines(self._batch.id, after, READ_TOGETHER):
            for line in lines:
                await self._put(line)
            after = lines[-1].number
        for writer in self._writers.values():
            await writer.flush()

    async def _put(self, line: BatchLine) -> None:
        column = "output_file" if line.state == "completed" else "error_file"
        if column not in self._writers:
            name = f"{self._batch.id}_{column.removesuffix('_file')}.jsonl"
            self._writers[column] = await self._store.begin(self._batch.tenant, name, bounded=False)
        answer = line.answer.encode() or _encode(OutputLine(line_id(), line.custom_id, error=self._unanswered))
        await self._writers[column].write(answer + b"\n")


def line_id() -> str:
    return f"batch_req_{uuid4().hex}"
