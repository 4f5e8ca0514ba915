"""schemathesis over the OpenAPI document: nothing that it can think of is answered with a 5xx, or not as described.

It has an environment of its own (`make clients`), since its dependencies are not the server's.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.gateway.fakes import FakeProvider

SCHEMATHESIS = Path(__file__).parents[2] / ".venv-clients" / "fuzz" / "bin" / "st"
CHECKS = "not_a_server_error,content_type_conformance,response_schema_conformance"


@pytest.mark.slow
@pytest.mark.skipif(not SCHEMATHESIS.exists(), reason="`make clients` installs schemathesis")
def test_every_answer_is_as_described(url: str, provider: FakeProvider, tmp_path: Path) -> None:
    ran = subprocess.run(
        [
            SCHEMATHESIS, "run", f"{url}/schema", "--url", url, "--checks", CHECKS, "--phases", "coverage,fuzzing",
            "--max-examples", "60", "--continue-on-failure", "--suppress-health-check", "all", "--seed", "1",
        ],
        cwd=tmp_path, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout[-6000:]
    assert not provider.open
