"""``sluice batch``: everything is answered once, and a run that ended early is gone on with."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gateway.app import assemble
from gateway.auth import Caller
from gateway.batches.bulk import Bulk, Tally
from gateway.batches.in_process import Answered, InProcess, running
from gateway.batches.problem import BatchProblem
from gateway.cli.main import main
from gateway.models import find_model
from providers.base import GenerateRequest, GenerationEvent, ProviderError
from schemas.config import Settings
from tests.gateway.batches.test_batches import row
from tests.gateway.fakes import TEXT, FakeProvider, serving, speak
from tests.gateway.served import served_at
from tests.gateway.test_parameters import LEAST


def written(folder: Path, rows: list[dict[str, Any]]) -> Path:
    file = folder / "in.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


class Asked:
    """Answers, sooner or later, and counts. ``dies_after`` so many, nobody answers any more."""

    def __init__(self, dies_after: int = 10**9) -> None:
        self.asked: list[str] = []
        self.begun = asyncio.Event()
        self.at_once = self.most_at_once = 0
        self._dies_after = dies_after

    async def ask(self, caller: Caller, path: str, body: bytes) -> Answered:
        if len(self.asked) >= self._dies_after:
            raise BatchProblem("gone")
        self.asked.append(json.loads(body)["messages"][0]["content"])
        self.begun.set()
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0.001 * (len(self.asked) % 5))
        self.at_once -= 1
        return Answered("req_1", 200, {}, b'{"ok":true}')


def asking(n: int) -> list[dict[str, Any]]:
    return [row(f"r{i}", **{**LEAST["chat"], "messages": [{"role": "user", "content": str(i)}]}) for i in range(n)]


async def run(file: Path, out: Path, asked: Any, concurrency: int = 4) -> Tally:
    return await Bulk(file, out, str, max_bytes=10_000, say=io.StringIO()).run(asked, concurrency)


async def test_a_run_goes_on_where_the_last_one_ended(tmp_path: Path) -> None:
    file, out = written(tmp_path, asking(40)), tmp_path / "out"
    with pytest.raises(BatchProblem, match="gone"):
        await run(file, out, Asked(dies_after=15))
    before = lines(out)
    assert 0 < len(before) <= 15
    with out.open("a") as half:
        half.write('{"id":"x","custom_id":"r39","resp')
    again = Asked()
    tally = await run(file, out, again)
    assert (tally.total, tally.before, tally.answered, tally.failed) == (40, len(before), 40 - len(before), 0)
    assert again.most_at_once == 4 and len(again.asked) == 40 - len(before)
    assert lines(out)[: len(before)] == before
    assert sorted(line["custom_id"] for line in lines(out)) == sorted(f"r{i}" for i in range(40))
    nothing = Asked()
    assert (await run(file, out, nothing)).before == 40 and not nothing.asked


async def in_process(provider: FakeProvider, work: Callable[[InProcess, Any], Awaitable[Tally]]) -> Tally:
    assembled = assemble(provider, Settings())
    async with running(assembled.app) as asking:
        return await work(asking, partial(find_model, assembled.provider))


async def test_without_a_server(tmp_path: Path) -> None:
    provider = FakeProvider()
    rows = [row("a"), row("bad", **{**LEAST["chat"], "temperature": 9}), row("c")]
    file, out = written(tmp_path, rows), tmp_path / "out"

    async def work(asking: InProcess, find: Any) -> Tally:
        return await Bulk(file, out, find, max_bytes=10_000, say=io.StringIO()).run(asking, 2)

    provider.refusal = ProviderError("overloaded", "Full.", retry_after=1)
    tally = await in_process(provider, work)
    assert (tally.answered, tally.failed) == (2, 1) and len(provider.requests) == 3
    assert {line["custom_id"] for line in lines(out)} == {"a", "c"}
    assert lines(out)[0]["response"]["body"]["choices"][0]["message"]["content"] == TEXT
    (failed,) = lines(tmp_path / "out.errors")
    assert failed["custom_id"] == "bad" and failed["response"]["body"]["error"]["param"] == "temperature"
    file.write_text(file.read_text().replace('"temperature": 9', '"temperature": 1'))
    tally = await in_process(provider, work)
    assert (tally.before, tally.answered, tally.failed) == (2, 1, 0) and not (tmp_path / "out.errors").exists()
    file.write_text(json.dumps(row("d", **{**LEAST["chat"], "model": "nope"})))
    with pytest.raises(BatchProblem, match=r"in\.jsonl:1: .*nope"):
        await in_process(provider, work)
    assert not provider.open


def test_at_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path, [row(f"r{i}", "/v1/completions", **LEAST["completions"]) for i in range(9)])
    with served_at("sqlite://") as served:
        arguments = ["batch", str(file), "--url", f"{served.url}/v1"]
        assert main(arguments) == 1
        assert "0 of 9 answered, 9 failed: see " in capsys.readouterr().err
        assert {line["response"]["status_code"] for line in lines(tmp_path / "in.out.jsonl.errors")} == {401}
        monkeypatch.setenv("SLUICE_API_KEY", "sk-first")
        assert main(arguments) == 0
        assert "9 of 9 answered, 0 failed\n" in capsys.readouterr().err
        assert {request.tenant for request in served.provider.requests} == {"acme"}
    assert len(lines(tmp_path / "in.out.jsonl")) == 9
    more = written(tmp_path, [row("more", "/v1/completions", **LEAST["completions"])])
    assert main([*arguments, "--out", str(tmp_path / "other")]) == 1 and more.exists()
    assert "does not answer" in capsys.readouterr().err


async def test_what_cannot_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    for text, expected in (
        ("", "no requests"),
        ('{"custom_id":"a"}\n', ":1: Missing required parameter: 'method'"),
        ('{"url":"/v1/embeddings"}\n', ":1: "),
        (f"{json.dumps(row('a'))}\n" * 2, ":2: The custom_id 'a'"),
    ):
        file = tmp_path / "in"
        file.write_text(text)
        with pytest.raises(BatchProblem, match=expected):
            await run(file, out, Asked())
        assert not out.exists()
    file.write_text(json.dumps(row("a")))
    out.write_text("something else\n")
    with pytest.raises(BatchProblem, match="begins no line"):
        await run(file, out, Asked())
    assert out.read_text() == "something else\n"
    with pytest.raises(BatchProblem, match="No such file"):
        await run(tmp_path / "none", out, Asked())
    for arguments in (["--url", "http://127.0.0.1:9", "--model", "m"], ["--concurrency", "0"]):
        assert main(["batch", str(file), *arguments]) == 1
        assert f"{arguments[-2]}" in capsys.readouterr().err


async def test_a_file_that_is_no_output_is_left_alone(tmp_path: Path) -> None:
    file, out = written(tmp_path, asking(2)), tmp_path / "out"
    link = tmp_path / "link"
    link.symlink_to(file)
    for same in (file, link):
        with pytest.raises(BatchProblem, match="a file of their own"):
            await run(file, same, Asked())
    for text in (json.dumps(asking(1)[0]) + "\n", json.dumps(asking(1)[0]), "notes without a line's end"):
        out.write_text(text)
        with pytest.raises(BatchProblem, match=f"{out}: byte 0 begins no line"):
            await run(file, out, Asked())
        assert out.read_text() == text
    assert len(lines(file)) == 2


async def test_two_runs_do_not_share_an_output(tmp_path: Path) -> None:
    file, out = written(tmp_path, asking(3)), tmp_path / "out"
    slow = Asked()
    first = asyncio.create_task(run(file, out, slow, 1))
    await asyncio.wait_for(slow.begun.wait(), 5)
    with pytest.raises(BatchProblem, match="another run"):
        await run(file, out, Asked())
    assert (await first).answered == 3


async def test_what_an_endpoint_is_not_here_for_fails(tmp_path: Path) -> None:
    file = tmp_path / "in"
    file.write_text(json.dumps(row("a", "/v1/embeddings", model="tiny", input="x")))
    with pytest.raises(BatchProblem, match="/v1/embeddings"):
        await run(file, tmp_path / "out", Asked())


async def slow(request: GenerateRequest) -> AsyncIterator[GenerationEvent]:
    await asyncio.sleep(0.01)
    async for event in speak(request):
        yield event


def test_progress_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("gateway.batches.bulk.PROGRESS_SECONDS", 0.01)
    file = written(tmp_path, [row(f"r{i}") for i in range(30)])
    provider = FakeProvider()
    provider.script = slow
    with serving(provider, Settings()) as url:
        assert main(["batch", str(file), "--url", url, "--concurrency", "2"]) == 0
    said = capsys.readouterr().err.splitlines()
    assert len(said) > 2 and " of 30 answered, 0 failed, " in said[0] and said[-1] == "30 of 30 answered, 0 failed"
