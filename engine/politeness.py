"""Work that yields to everything else on the machine."""

from __future__ import annotations

import os

NICE = 10
"""About a tenth of the share of others that want the same core."""


def lower_priority(thread: int) -> None:
    """Of a thread, by its native id. On Linux priorities belong to threads; elsewhere this has no effect."""
    if hasattr(os, "setpriority"):
        try:
            os.setpriority(os.PRIO_PROCESS, thread, NICE)
        except (ProcessLookupError, PermissionError):
            pass  # the thread has just ended, or this system does not let it
