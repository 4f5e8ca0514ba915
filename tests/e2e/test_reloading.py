"""Settings of a real server change while it answers, and its engine outlives the signal that says so."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import httpx
import pytest

from tests.e2e.conftest import MODEL, Server, serve

SETTINGS = "[server]\nwatch = true\n"
ASK = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}


@pytest.mark.slow
def test_a_file_that_changes_takes_effect_and_signals_spare_the_engine(embedded_model: Path, tmp_path: Path) -> None:
    file = tmp_path / "sluice.toml"
    file.write_text(SETTINGS)
    with serve(tmp_path / "log", SLUICE_CONFIG=str(file)) as server:
        assert ask(server).status_code == 200
        file.write_text(f'{SETTINGS}[policy]\ndeny_models = ["local/{MODEL}"]\n[grammar]\nfuel = 7\n')
        wait_for_reloads(server, 1)
        assert ask(server).json()["error"]["code"] == "policy_excludes_all"
        health = httpx.get(f"{server.url}/health").json()
        assert health["settings"]["waiting_for_restart"] == ["grammar.fuel"]
        file.write_text(SETTINGS)
        wait_for_reloads(server, 2)
        for process in family(server.process.pid):
            os.kill(process, signal.SIGHUP)
        wait_for_reloads(server, 3)
        assert ask(server).status_code == 200
        assert httpx.get(f"{server.url}/health").json() == {"status": "ok"}


def ask(server: Server) -> httpx.Response:
    return httpx.post(f"{server.url}/v1/chat/completions", json=ASK, timeout=120)


def wait_for_reloads(server: Server, count: int) -> None:
    for _ in range(400):
        lines = httpx.get(f"{server.url}/metrics", timeout=60).text.splitlines()
        if sum(float(line.split()[-1]) for line in lines if line.startswith("sluice_config_reloads_total{")) >= count:
            return
        time.sleep(0.05)
    raise AssertionError("the settings were not read again")


def family(process: int) -> list[int]:
    """A server's process and the engine that it started, but not the engine's own."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [process, *map(int, children)]
