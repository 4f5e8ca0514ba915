"""``sluice database`` says which version there is, and brings it about."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway.cli.main import main


def test_check_and_upgrade(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for variable in [name for name in os.environ if name.startswith("SLUICE_") and name != "SLUICE_CACHE"]:
        monkeypatch.delenv(variable)
    url = f"sqlite:///{tmp_path / 'sluice.db'}"
    monkeypatch.setenv("SLUICE_DATABASE__URL", url)
    assert main(["database", "check"]) == 1
    assert capsys.readouterr().out.startswith(f"{url}: at revision none, this version wants ")
    assert main(["database", "upgrade"]) == 0
    assert main(["database", "check"]) == 0
    assert capsys.readouterr().out.count(f"{url}: up to date at revision ") == 2


def test_what_cannot_be_used_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sluice.db").write_text("This is no database, but it is long enough to be taken for one." * 20)
    monkeypatch.setenv("SLUICE_DATABASE__URL", f"sqlite:///{tmp_path / 'sluice.db'}")
    assert main(["database", "upgrade"]) == 1
    assert "sluice.db cannot be used: file is not a database" in capsys.readouterr().err


def test_tables_are_taken_back_and_brought_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SLUICE_DATABASE__URL", f"sqlite:///{tmp_path / 'sluice.db'}")
    assert main(["database", "downgrade", "0001"]) == 1
    assert "there is no revision 0001 before None; there are: none" in capsys.readouterr().err
    assert main(["database", "upgrade"]) == 0
    for wrong in ("0000", "base", "head"):
        assert main(["database", "downgrade", wrong]) == 1
    assert "there are: " in capsys.readouterr().err
    assert main(["database", "downgrade", "0001"]) == 0
    assert capsys.readouterr().out.endswith("at revision 0001\n")
    assert main(["database", "check"]) == 1
    assert main(["database", "upgrade"]) == 0
