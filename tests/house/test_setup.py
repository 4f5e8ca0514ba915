"""`scripts/setup.sh` on machines that lack something: it says what, and installs nothing."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with what the script reads, and nothing installed."""
    (tmp_path / "scripts").mkdir()
    for name in ("pyproject.toml", "constraints.txt", "scripts/setup.sh"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def setup(checkout: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    path = f"{checkout}/bin:/usr/bin:/bin"
    return subprocess.run(
        ["bash", "scripts/setup.sh"],
        cwd=checkout,
        env={"PATH": path, "HOME": str(checkout), **settings},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def fake_python(checkout: Path, script: str, names: tuple[str, ...] = ("python3",)) -> None:
    (checkout / "bin").mkdir(exist_ok=True)
    for name in names:
        path = checkout / "bin" / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)


def test_a_machine_without_a_fitting_python(checkout: Path) -> None:
    fake_python(checkout, "exit 1", ("python3", "python3.13", "python3.12", "python3.11"))
    result = setup(checkout)
    assert result.returncode == 1
    assert "setup: Python 3.11, 3.12 or 3.13 was not found." in result.stderr
    assert not (checkout / ".venv").exists()


def test_a_python_that_was_named_and_does_not_fit(checkout: Path) -> None:
    result = setup(checkout, PYTHON="/no/such/python")
    assert result.returncode == 1
    assert result.stderr == "setup: /no/such/python is not a working Python 3.11, 3.12 or 3.13.\n"


def test_a_python_without_venv(checkout: Path) -> None:
    fake_python(
        checkout,
        'case "$2" in *ensurepip*) exit 1;; *-venv*) echo python3.12-venv;; *) exit 0;; esac',
    )
    result = setup(checkout)
    assert result.returncode == 1
    assert "its modules venv and ensurepip are missing" in result.stderr
    assert "apt install python3.12-venv" in result.stderr
    assert not (checkout / ".venv").exists()


def noting_python(checkout: Path, first: str = ":") -> Path:
    """A stand-in for Python that notes its calls, so that what would be installed is seen; returns the notes."""
    log = checkout / "calls"
    make_venv = 'mkdir -p .venv/bin; cp "$0" .venv/bin/python'
    fake_python(checkout, f'echo "$@" >> {log}\n{first}\ncase "$*" in "-m venv"*) {make_venv};; esac')
    return log


def test_where_there_is_no_cpu_build_of_torch_the_default_one_must_do(checkout: Path) -> None:
    log = noting_python(checkout, first='case "$*" in *+cpu*|*+cu130*) exit 1;; esac')
    result = setup(checkout)
    assert result.returncode == 0
    assert "no CPU build to be had" in result.stdout
    asked = [line for line in log.read_text().splitlines() if "torch==" in line]
    assert ["+cpu" in line for line in asked] == [True, True, False]
    assert ["/whl/cpu" in line for line in asked] == [False, True, False]

    result = setup(checkout, TORCH="cu130")
    assert result.returncode == 1
    assert "torch's cu130 build could not be installed" in result.stderr


def test_nothing_is_done_twice_until_something_changes(checkout: Path) -> None:
    log = noting_python(checkout)
    assert setup(checkout).returncode == 0
    calls = log.read_text()
    assert "torch==2." in calls
    assert "+cpu" in calls
    assert "--editable .[test]" in calls

    log.unlink()
    assert setup(checkout).returncode == 0
    assert not log.exists()

    assert setup(checkout, TORCH="pypi", EXTRAS="test,gpu").returncode == 0
    assert "+cpu" not in log.read_text()
    assert "--editable .[test,gpu]" in log.read_text()

    log.unlink()
    with (checkout / "constraints.txt").open("a") as file:
        file.write("another-package==1.0\n")
    assert setup(checkout, TORCH="pypi", EXTRAS="test,gpu").returncode == 0
    assert log.exists()
