"""What all rooms' tests share.

Hypothesis draws the same examples in every run, so that what fails fails for everybody; `make test-all` draws new ones.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from engine.model.store import BUILT_IN, cache_folder
from schemas.config import EMBEDDED_MODEL

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
