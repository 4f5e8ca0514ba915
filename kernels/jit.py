"""`jit`: Triton's, without its types: they know neither ``kernel[grid](...)`` nor that a kernel takes numbers.

Triton compiles a kernel anew when an integer becomes 1 or loses its factor of 16. For those in `VARYING`, which change
from step to step, it must not: a server would stall in the middle of serving.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import triton

VARYING = frozenset(("m", "n_splits", "n_slices", "n_top", "table_stride", "window", "first"))


def jit(function: Callable[..., Any]) -> Any:
    """A kernel or device function of Triton. With TRITON_INTERPRET=1 set now, one that runs on numpy."""
    varying = [name for name in inspect.signature(function).parameters if name in VARYING]
    return triton.jit(do_not_specialize=varying)(function)
