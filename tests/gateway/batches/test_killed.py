"""Servers killed in the middle of batches, again and again: every line is in the output, once."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Iterator

import openai
import pytest

from schemas.openai.batches import BatchEndpoint
from tests.gateway.batches.test_batches import ENDED, LEAST, begun, output, row, until
from tests.gateway.ledger.test_killed import Nursery, nursery

CHAT: BatchEndpoint = "/v1/chat/completions"


@pytest.fixture(scope="module")
def servers() -> Iterator[Nursery]:
    yield from nursery()


def client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


def kill_in_mid_batch(servers: Nursery, database: str, *, lines: int, times: int, at_once: int, seed: int) -> None:
    moments = random.Random(seed)
    running = [servers.start(database) for _ in range(at_once)]
    rows = [row(f"line-{i}") for i in range(lines)]
    rows[lines // 2] = row("wrong", **{**LEAST["chat"], "temperature": 9})
    batch = begun(client(running[0][1]), rows)
    answered: list[int] = []
    for _ in range(times):
        time.sleep(moments.uniform(0.05, 0.4))
        counts = client(running[0][1]).batches.retrieve(batch.id).request_counts
        assert counts is not None
        answered.append(counts.completed)
        for pid, _ in running:
            os.kill(pid, signal.SIGKILL)
        running = [servers.start(database) for _ in range(at_once)]
    last = client(running[-1][1])
    batch = until(last, batch.id, lambda batch: batch.status in ENDED, seconds=300)
    text = [json.dumps(line) for line in output(last, batch.output_file_id)]
    found = [json.loads(line)["custom_id"] for line in text]
    wrong = output(last, batch.error_file_id)
    for pid, _ in running:
        os.kill(pid, signal.SIGKILL)
    assert batch.status == "completed" and batch.request_counts is not None
    assert (batch.request_counts.completed, batch.request_counts.failed) == (lines - 1, 1)
    assert found == [line["custom_id"] for line in rows if line["custom_id"] != "wrong"]
    assert [line["custom_id"] for line in wrong] == ["wrong"]
    assert answered == sorted(answered), "what was answered was lost"
    assert any(0 < count < lines - 1 for count in answered), "no server was killed in mid-batch"


def test_a_server_killed_in_mid_batch(servers: Nursery, database_url: str) -> None:
    kill_in_mid_batch(servers, database_url, lines=60, times=2, at_once=1, seed=1)


@pytest.mark.slow
def test_two_servers_killed_ten_times(servers: Nursery, database_url: str) -> None:
    seed = random.randrange(2**32)
    kill_in_mid_batch(servers, database_url, lines=2000, times=10, at_once=2, seed=seed)
