"""Where a grammar worker's process begins. This module is small, so that the process can choose how to load the rest.

A process that is to stand by loads the compiler in a thread of low priority: half a second of a core, which on a small
machine is one that the step loop computes on. What it does afterwards has the usual priority.
"""

from __future__ import annotations

import importlib
import threading
from multiprocessing.connection import Connection

from engine.politeness import lower_priority

WORKER = "engine.grammar_worker"


def run(connection: Connection, stand_by: bool) -> None:
    """The process; returns when the parent closes the pipe."""
    if stand_by:
        loading = threading.Thread(target=_load_politely)
        loading.start()
        loading.join()
    importlib.import_module(WORKER).run(connection)


def _load_politely() -> None:
    lower_priority(threading.get_native_id())
    importlib.import_module(WORKER)
