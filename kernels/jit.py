"""`jit`: Triton's, without its types: they know neither ``kernel[grid](...)`` nor that a kernel takes numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import triton


def jit(function: Callable[..., Any]) -> Any:
    """A kernel or device function of Triton. With TRITON_INTERPRET=1 set now, one that runs on numpy."""
    return triton.jit(function)
