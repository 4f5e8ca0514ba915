"""`sluice quantize`, called as a function, on a small model with a tokenizer of letters."""

from __future__ import annotations

import json
import string
from pathlib import Path

import pytest

from engine.cpu_runner import CpuRunner
from engine.model.files import open_model
from gateway.cli.main import main
from tests.engine.decoding import Feeder
from tests.engine.families import make, write_gguf


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    return write_gguf("llama 2", make("llama 2", num_hidden_layers=2), folder / "small.gguf")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text((string.ascii_letters + "the path that thins" * 3 + string.digits) * 12)
    return path


def quantize(model: Path, text: Path, out: Path, *options: str) -> int:
    given = ["--text", str(text), "--windows", "3", "--window", "64", "--threads", "1", "--group-size", "32"]
    return main(["quantize", str(model), *given, *options, "-o", str(out)])


@pytest.mark.parametrize("method", ["rtn", "gptq", "awq"])
def test_a_model_is_quantized_and_judged(
    method: str, model: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert quantize(model, text, out, "--method", method, "--json") == 0
    printed = capsys.readouterr()
    report = json.loads(printed.out)
    assert f"{method}: layer 2 of 2" in printed.err
    assert report["method"] == method and report["bits"] == 4 and report["evaluation_tokens"] == 8 * 63
    assert report["calibration_tokens"] == (0 if method == "rtn" else 3 * 64)
    assert 0.5 < report["after"]["perplexity"] / report["before"]["perplexity"] < 2
    assert report["after"]["megabytes"] > 0 and report["after"]["decode_tokens_per_second"] > 0
    files = open_model(out)
    tokens = files.tokenizer().encode("thepath")
    assert Feeder(CpuRunner.load(files, num_blocks=2)).run([tokens], [len(tokens)])[0].shape == (len(tokens), 99)


def test_the_card_says_what_was_asked(
    model: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert quantize(model, text, tmp_path / "out", "--method", "rtn", "--bits", "3", "--asymmetric") == 0
    card = capsys.readouterr().out
    assert "rtn, 3 bits, groups of 32, asymmetric" in card and "perplexity (504 tokens)" in card


REFUSED = {
    "smoothquant of 4 bits": (["--method", "smoothquant", "--bits", "4"], "smoothquant has 8 bits"),
    "groups too small": (["--group-size", "16"], "--group-size 16"),
    "groups that do not divide": (["--group-size", "128"], "groups of 128 do not divide"),
    "too little text": (["--windows", "1000"], "1008 windows of 64 need 64512"),
    "windows beyond the context": (["--window", "512"], "longer than the context of 256"),
    "alpha": (["--method", "smoothquant", "--group-size", "-1", "--alpha", "2"], "--alpha 2"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_done_is_refused_before_the_work(
    case: str, model: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options, message = REFUSED[case]
    assert quantize(model, text, tmp_path / "out", *options) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_full_folder_is_not_written_over(
    model: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert quantize(model, text, tmp_path) == 1
    assert "is no empty folder" in capsys.readouterr().err


def test_a_missing_text_is_named(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert quantize(model, tmp_path / "none.txt", tmp_path / "out") == 1
    assert "none.txt: cannot be read" in capsys.readouterr().err
