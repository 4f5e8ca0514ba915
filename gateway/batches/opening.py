"""The runner that the settings describe."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from gateway.auth import Caller
from gateway.batches.batch_store import BatchStore
from gateway.batches.runner import BatchRunner
from gateway.files.file_store import FileStore
from gateway.metrics import Metrics
from gateway.models import find_model
from providers.base import Provider
from schemas.config import Settings

DAY_SECONDS = 86_400


def open_runner(
    batches: BatchStore,
    files: FileStore,
    settings: Settings,
    metrics: Metrics,
    provider: Provider,
    known: Callable[[Caller], bool],
) -> BatchRunner:
    """``known``: whether a caller may still ask."""
    return BatchRunner(
        batches,
        files,
        settings.batches,
        metrics,
        partial(find_model, provider),
        known,
        max_line_bytes=settings.server.max_body_bytes,
        keep_seconds=settings.files.retention_days * DAY_SECONDS,
    )
