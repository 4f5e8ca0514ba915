"""What all rooms' tests share.

Hypothesis draws the same examples in every run, so that what fails fails for everybody; `make test-all` draws new ones.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from engine.model.store import BUILT_IN, cache_folder
from schemas.config import EMBEDDED_MODEL

if TYPE_CHECKING:
    import torch

# Triton kernels run in its interpreter where there is no GPU, and it must be chosen before they are imported; with one,
# `make gpu-check` runs the same tests on it.
os.environ.setdefault("TRITON_INTERPRET", "0" if os.path.exists("/dev/nvidiactl") else "1")

settings.register_profile("seeded", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("searching", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "seeded"))


@pytest.fixture(scope="session")
def embedded_model() -> Path:
    """The default model's file; the test is skipped where it was not fetched."""
    path = cache_folder() / "models" / BUILT_IN[EMBEDDED_MODEL].file_name
    if not path.exists():
        pytest.skip("the default model is not here: make model")
    return path


@pytest.fixture(scope="session")
def device() -> torch.device:
    """Where Triton kernels run in these tests."""
    import torch

    return torch.device("cpu" if os.environ["TRITON_INTERPRET"] == "1" else "cuda")


@pytest.fixture(scope="session")
def half(device: torch.device) -> torch.dtype:
    """The type of weights and activations on the device: the interpreter multiplies no bf16 matrices."""
    import torch

    return torch.float16 if device.type == "cpu" else torch.bfloat16
