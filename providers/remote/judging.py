"""Where constraints and answers are compiled, translated and judged: threads beside the event loop, with deep stacks.

A validator written in Rust follows a value and its schema on the machine's stack, and ends the process where that
overflows. `too_deep` bounds what it is given by what these stacks hold (measured: 300,000 schemas, each in another).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, ParamSpec, TypeVar, cast

THREADS = 4
STACK = 256 * 2**20
"""Bytes of address space; what is not used takes no memory."""

MAX_NESTING = 200_000
"""Objects in a schema's text times the depth of a value."""

P = ParamSpec("P")
T = TypeVar("T")


async def judged(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The result of ``work`` in one of the threads."""
    return await asyncio.get_running_loop().run_in_executor(_threads(), lambda: work(*args, **kwargs))


@cache
def _threads() -> ThreadPoolExecutor:
    """All of them are started here, since a stack's size can only be told for threads to come."""
    before = threading.stack_size(STACK)
    try:
        pool = ThreadPoolExecutor(THREADS, "judge")
        started = threading.Barrier(THREADS + 1)
        for _ in range(THREADS):
            pool.submit(started.wait)
        started.wait()
    finally:
        threading.stack_size(before)
    return pool


def too_deep(schema: str, value: Any) -> bool:
    """Whether a decoded JSON value is nested too deeply to be validated against a schema's JSON text."""
    most = MAX_NESTING // max(1, schema.count("{"))
    level = [value]
    for _ in range(most):
        level = [child for parent in level for child in _children(parent)]
        if not level:
            return False
    return True


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(cast("dict[str, Any]", value).values())
    return cast("list[Any]", value) if isinstance(value, list) else []
