"""Triton kernels run in its interpreter where there is no GPU; it must be chosen before they are imported.

`make gpu-check` runs the same tests on the device.
"""

from __future__ import annotations

import os

import pytest
import torch

os.environ.setdefault("TRITON_INTERPRET", "0" if torch.cuda.is_available() else "1")


@pytest.fixture(scope="session")
def device() -> torch.device:
    """Where Triton kernels run in these tests."""
    return torch.device("cpu" if os.environ["TRITON_INTERPRET"] == "1" else "cuda")


@pytest.fixture(scope="session")
def half(device: torch.device) -> torch.dtype:
    """The type of weights and activations: the interpreter multiplies no bf16 matrices."""
    return torch.float16 if device.type == "cpu" else torch.bfloat16
