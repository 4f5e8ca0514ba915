"""``sluice quantize``: a model quantized on a text, written as a checkpoint, and judged beside what it was.

The text is cut into windows; some calibrate, others, which no one calibrated on, are what perplexity is measured on.
Without a text, it is the language reference that comes with Python.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import msgspec

from engine.cpu_runner import CpuRunner
from engine.cpu_runner import check as check_kernels
from engine.decoder import TorchRunner
from engine.model.errors import ModelFileError, UnsupportedModelError
from engine.model.files import ModelFiles, open_model
from engine.quantization.perplexity import decode_rate, perplexity
from engine.quantization.pipeline import Recipe, quantize_layers
from engine.quantization.rounding import Scheme
from engine.quantization.writing import check, write_folder

__all__ = ["Measured", "Recipe", "Report", "Scheme", "Work", "card", "report_json", "run"]

Windows = list[list[int]]


class Measured(msgspec.Struct):
    """One side of the report. ``decode_tokens_per_second``: at batch 1, None where no quantized kernel runs it."""

    perplexity: float
    megabytes: float
    decode_tokens_per_second: float | None


class Report(msgspec.Struct):
    model: str
    method: str
    bits: int
    group_size: int
    symmetric: bool
    calibration_tokens: int
    evaluation_tokens: int
    seconds: float
    before: Measured
    after: Measured


class Work(msgspec.Struct, kw_only=True):
    """What is asked. ``text``: a UTF-8 file, None for the default; sizes in tokens."""

    model: Path
    out: Path
    text: Path | None = None
    windows: int = 16
    window: int = 512
    evaluation_windows: int = 8
    threads: int | None = None


def run(work: Work, recipe: Recipe, progress: TextIO) -> Report:
    """Quantize, write to ``work.out``, and measure; ``progress`` is told what goes on.

    ModelError: the model, or what is asked of it, does not do.
    """
    files = open_model(work.model)
    check(files.config, recipe, files)
    calibration, evaluation = _windows(files, work)
    blocks = -(-work.window // 16)
    _say(progress, f"reading {files.path}")
    runner = TorchRunner.load(files, num_blocks=blocks)
    _say(progress, "perplexity before")
    before = perplexity(runner, evaluation)
    began = time.perf_counter()
    changed = quantize_layers(runner, calibration, recipe, _bar(progress, recipe.method))
    seconds = time.perf_counter() - began
    _say(progress, "perplexity after")
    after = perplexity(runner, evaluation)
    del runner
    write_folder(files, changed, recipe, str(work.out))
    quantized = open_model(work.out)
    return Report(
        model=files.path,
        method=recipe.method,
        bits=recipe.scheme.bits,
        group_size=recipe.scheme.group,
        symmetric=recipe.scheme.symmetric,
        calibration_tokens=0 if recipe.method == "rtn" else sum(map(len, calibration)),
        evaluation_tokens=sum(len(window) - 1 for window in evaluation),
        seconds=round(seconds, 1),
        before=Measured(round(before, 4), _megabytes(Path(files.path)), _rate(files, evaluation[0], work)),
        after=Measured(round(after, 4), _megabytes(work.out), _rate(quantized, evaluation[0], work)),
    )


def card(report: Report) -> str:
    """For people."""
    lines = [
        f"{report.model}: {report.method}, {report.bits} bits, groups of {report.group_size}, "
        f"{'symmetric' if report.symmetric else 'asymmetric'}, {report.seconds} s",
        f"{'':28}{'before':>12}{'after':>12}",
    ]
    for label, name in (
        (f"perplexity ({report.evaluation_tokens} tokens)", "perplexity"),
        ("megabytes", "megabytes"),
        ("decode, tokens a second", "decode_tokens_per_second"),
    ):
        left, right = getattr(report.before, name), getattr(report.after, name)
        lines.append(f"{label:28}{'-' if left is None else left:>12}{'-' if right is None else right:>12}")
    return "\n".join(lines)


def reference_text() -> str:
    """The language reference of the Python that runs this: some 700,000 characters of English and code."""
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name] for name in sorted(topics))


def cut(tokens: list[int], work: Work) -> tuple[Windows, Windows]:
    """Calibration and evaluation windows, spread over the text: they alternate, so that both see all of it."""
    wanted = work.windows + work.evaluation_windows
    have = len(tokens) // work.window
    if have < wanted:
        raise ModelFileError(
            f"the text has {len(tokens)} tokens; {wanted} windows of {work.window} need {wanted * work.window}"
        )
    starts = [i * have // wanted * work.window for i in range(wanted)]
    whole = [tokens[start : start + work.window] for start in starts]
    every = wanted / work.evaluation_windows
    chosen = {int((i + 0.5) * every) for i in range(work.evaluation_windows)}
    return [w for i, w in enumerate(whole) if i not in chosen], [w for i, w in enumerate(whole) if i in chosen]


def _windows(files: ModelFiles, work: Work) -> tuple[Windows, Windows]:
    if work.window > files.config.context_length:
        raise UnsupportedModelError(
            f"windows of {work.window} tokens are longer than the context of {files.config.context_length}"
        )
    if work.text is None:
        text = reference_text()
    else:
        try:
            text = work.text.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ModelFileError(f"{work.text}: cannot be read: {error}") from error
    return cut(files.tokenizer().encode(text, special=False), work)


def _rate(files: ModelFiles, window: list[int], work: Work) -> float | None:
    try:
        check_kernels(files.config)
    except UnsupportedModelError:
        return None
    runner = CpuRunner.load(files, num_blocks=-(-work.window // 16), threads=work.threads)
    return round(decode_rate(runner, window[: min(len(window), 128)]), 1)


def _megabytes(path: Path) -> float:
    files = [path] if path.is_file() else list(path.glob("*.safetensors"))
    return round(sum(file.stat().st_size for file in files) / 1e6, 1)


def _say(progress: TextIO, text: str) -> None:
    print(text, file=progress, flush=True)


def _bar(progress: TextIO, method: str) -> Callable[[int, int], None]:
    def show(done: int, total: int) -> None:
        print(f"\r{method}: layer {done} of {total}", end="\n" if done == total else "", file=progress, flush=True)

    return show


def report_json(report: Report) -> str:
    """For machines, one line."""
    return json.dumps(msgspec.to_builtins(report))
