"""The command line, called as a function: what it prints, what it refuses, and what reaches the server."""

from __future__ import annotations

import io
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.main import main, parser
from gateway.cli.serve import named, overrides
from gateway.config import load
from schemas.config import Settings
from sluice import __version__


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in list(os.environ):
        if variable.startswith("SLUICE_") and variable != "SLUICE_CACHE":
            monkeypatch.delenv(variable)


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, expected in ((["--version"], __version__), (["--help"], "serve models over the OpenAI API")):
        with pytest.raises(SystemExit) as exit_:
            main(arguments)
        assert exit_.value.code == 0
        assert expected in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["pour"], ["serve", "--port", "http"], ["compile"], ["config"]])
def test_wrong_usage_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    assert "usage: sluice" in capsys.readouterr().err


def test_config_check_prints_all_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "sluice.toml"
    path.write_text("[server]\nport = 9\n")
    assert main(["config", "check", str(path)]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["server"]["port"] == 9
    assert set(printed) == set(Settings.__struct_fields__)


def test_config_check_names_the_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "sluice.toml"
    path.write_text("[server]\nprot = 9\n")
    assert main(["config", "check", str(path)]) == 1
    assert capsys.readouterr().err == f"sluice: {path}: `server.prot`: there is no such key; did you mean `port`?\n"


def test_a_hashed_key_can_be_configured(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("0123456789abcdef0123456789abcdef\n"))
    assert main(["config", "hash-key"]) == 0
    key = {"name": "a", "tenant": "b", "sha256": capsys.readouterr().out.strip()}
    assert load(None, {}, {"auth": {"keys": [key]}}).auth.keys[0].sha256 == key["sha256"]


@pytest.mark.parametrize(
    ("option", "name", "path"),
    [
        ("smollm2-135m-instruct", "smollm2-135m-instruct", "smollm2-135m-instruct"),
        ("/models/Qwen3-0.6B-Q8_0.gguf", "Qwen3-0.6B-Q8_0", "/models/Qwen3-0.6B-Q8_0.gguf"),
        ("small=/models/Qwen3-0.6B-Q8_0.gguf", "small", "/models/Qwen3-0.6B-Q8_0.gguf"),
        ("org/repo", "org/repo", "org/repo"),
        ("org/repo:file-Q4_0.gguf", "file-Q4_0", "org/repo:file-Q4_0.gguf"),
    ],
)
def test_models_are_named_by_the_option_or_by_themselves(option: str, name: str, path: str) -> None:
    assert named(option) == {"name": name, "path": path}


def test_a_folder_is_called_as_it_is_called_on_disk(tmp_path: Path) -> None:
    assert named(f"{tmp_path}/") == {"name": tmp_path.name, "path": f"{tmp_path}/"}


def test_options_of_serve_win_over_the_environment() -> None:
    options = parser().parse_args(["serve", "--host", "::1", "--port", "0", "--model", "a=b.gguf", "--model", "c"])
    settings = load(None, {"SLUICE_SERVER__PORT": "9", "SLUICE_ENGINE__THREADS": "1"}, overrides(options))
    assert (settings.server.host, settings.server.port, settings.engine.threads) == ("::1", 0, 1)
    assert [(model.name, model.path) for model in settings.models] == [("a", "b.gguf"), ("c", "c")]
    assert overrides(parser().parse_args(["serve"])) == {}


def test_serve_hands_over_settings_with_models_and_a_database_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import gateway.server
    from providers.local import LocalProvider

    served: list[Settings] = []
    engines: list[str] = []
    monkeypatch.setattr(gateway.server, "run", lambda settings, *_: served.append(settings))
    monkeypatch.setattr(LocalProvider, "launch", lambda _: engines.append("launched"))
    monkeypatch.setattr(LocalProvider, "kill", lambda _: engines.append("ended"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    model = tmp_path / "tiny.gguf"
    model.write_bytes(b"GGUF")
    assert main(["serve", "--port", "0", "--model", str(model)]) == 0
    assert [(found.name, found.path) for found in served[0].models] == [("tiny", str(model))]
    assert engines == ["launched", "ended"]
    monkeypatch.setenv("SLUICE_DATABASE__URL", "postgresql://sluice@127.0.0.1:1/sluice")
    assert main(["serve", "--model", str(model)]) == 1
    assert "postgresql://sluice@127.0.0.1:1/sluice cannot be used: " in capsys.readouterr().err
    assert len(served) == 1 and engines == ["launched", "ended"] * 2


def test_serve_refuses_an_open_door_and_missing_models(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--host", "0.0.0.0"]) == 1
    assert "`auth.keys` is empty" in capsys.readouterr().err
    assert main(["serve", "--port", "0", "--model", "/no/such.gguf"]) == 1
    assert "/no/such.gguf: there is no such file" in capsys.readouterr().err


def test_serve_refuses_an_address_that_is_taken_before_it_looks_for_models(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        assert main(["serve", "--port", port, "--model", "/no/such.gguf"]) == 1
    assert f"127.0.0.1:{port} cannot be listened on: Address already in use" in capsys.readouterr().err


def test_pull_prints_the_path(embedded_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pull"]) == 0
    assert capsys.readouterr().out.strip() == str(embedded_model)


def compiled(
    path: Path, text: str, capsys: pytest.CaptureFixture[str], *options: str
) -> tuple[int, dict[str, Any] | None, str]:
    """Exit status, the JSON report if there is one, and what was said on standard error."""
    path.write_text(text)
    status = main(["compile", str(path), "--json", *options])
    said = capsys.readouterr()
    return status, json.loads(said.out) if said.out else None, said.err


@pytest.mark.usefixtures("embedded_model")
class TestCompile:
    def test_a_schema(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        schema = '{"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}'
        status, report, _ = compiled(tmp_path / "s.json", schema, capsys, "--whitespace", "compact")
        assert status == 0
        assert report is not None
        assert report["contract"] == "exact"
        assert report["compile_ms"] > 0
        assert report["first_mask_us"] > 0

    def test_a_regex_and_a_choice(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        _, regex, _ = compiled(tmp_path / "r", "id-[0-9]{4}\n", capsys, "--kind", "regex")
        _, choice, _ = compiled(tmp_path / "c", "apple\napricot\n", capsys, "--kind", "choice")
        assert regex is not None
        assert choice is not None
        assert (regex["starts_with"], choice["starts_with"]) == ("id-", "ap")

    def test_what_cannot_be_enforced_is_refused_with_its_place(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        schema = '{"type": "object", "properties": {"a": {"minimum": 2, "maximum": 1}}, "required": ["a"], "not": {}}'
        status, report, said = compiled(tmp_path / "s.json", schema, capsys)
        assert (status, report) == (1, None)
        assert "at `" in said

    def test_the_card_is_for_people(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = tmp_path / "s.json"
        path.write_text('{"const": 1}')
        assert main(["compile", str(path)]) == 0
        assert capsys.readouterr().out.startswith(f"{path}: exact\n")


def test_files_that_cannot_be_read_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compile", str(tmp_path / "absent.json")]) == 1
    (tmp_path / "latin1.json").write_bytes(b'{"const": "\xe9"}')
    assert main(["compile", str(tmp_path / "latin1.json")]) == 1
    said = capsys.readouterr().err
    assert "absent.json: No such file" in said
    assert "latin1.json: not UTF-8 at byte 11" in said
