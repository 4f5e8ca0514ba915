"""New settings while the server runs: nothing in flight is lost, nothing invalid comes into force."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from gateway import config
from gateway.config import ConfigError
from gateway.reloading import RELOADED, Reloading, taken_up
from providers.base import ProviderError
from schemas.config import ApiKey, Auth, ModelSettings, Server, Settings
from schemas.limits import ScopedLimit
from schemas.policy import Policy
from schemas.providers import ProviderSettings, RemoteModel
from schemas.routing import Price, Route, Target
from tests.gateway.fakes import FakeProvider, serving, wait_until

ROOT = Path(__file__).parents[2]
KEY = ApiKey(name="ci", tenant="house", sha256=hashlib.sha256(b"sk-first").hexdigest())
PEER = ProviderSettings(
    name="peer", kind="openai-compatible", base_url="http://127.0.0.1:9/v1", models=(RemoteModel(name="far"),),
    hosting="self_hosted",
)  # fmt: skip

CHANGES: dict[str, Any] = {
    "server": Server(port=9, max_queue=3),
    "auth": Auth(required=True, keys=(KEY,)),
    "models": (ModelSettings(name="other", path="other.gguf"),),
    "limits": (ScopedLimit(per="day", requests=3),),
    "policy": Policy(no_training=True),
    "prices": (Price(provider="local", usd_per_hour="1"),),
    "providers": (PEER,),
    "database": msgspec.convert({"url": "sqlite:///x.db"}, type(Settings().database)),
}


@given(st.sets(st.sampled_from(sorted(CHANGES))))
def test_what_is_taken_up_and_what_waits(changed: set[str]) -> None:
    before = Settings()
    told = msgspec.structs.replace(before, **{name: CHANGES[name] for name in changed})
    settings, waiting = taken_up(before, told)
    for name in Settings.__struct_fields__:
        assert getattr(settings, name) == getattr(told if name in RELOADED else before, name)
    assert {place.partition(".")[0] for place in waiting} == changed - RELOADED
    assert ("server.port" in waiting) == ("server" in changed) and "server.host" not in waiting
    assert taken_up(settings, told) == (settings, waiting)


def test_the_documentation_says_of_every_section_when_it_takes_effect() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    row = next(line for line in text.splitlines() if line.startswith("| `auth`"))
    at_once, later = (set(re.findall(r"`(\w+)`", cell)) for cell in row.strip("|").split("|"))
    assert at_once == RELOADED and later == set(Settings.__struct_fields__) - RELOADED


def test_a_door_is_not_opened_by_a_host_that_waits_for_a_restart() -> None:
    """The keys would go at once, and the address that needs them would stay."""
    before = Settings(server=Server(host="0.0.0.0"), auth=Auth(keys=(KEY,)))
    with pytest.raises(ConfigError, match=r"`auth\.keys` is empty"):
        taken_up(before, Settings())


def test_a_route_to_a_model_that_waits_for_a_restart_is_refused() -> None:
    model = ModelSettings(name="new", path="new.gguf")
    route = Route(name="r", targets=(Target(provider="local", model="new"),))
    with pytest.raises(ConfigError, match="there is no model `local/new`, before a restart takes up models"):
        taken_up(Settings(), Settings(models=(*Settings().models, model), routes=(route,)))


async def test_what_fails_changes_nothing_and_is_told() -> None:
    applied: list[Settings] = []
    answers: list[Settings | Exception] = [
        ConfigError("sluice.toml: `server.prot`: there is no such key"),
        Settings(policy=Policy(no_training=True)),
        Settings(providers=(PEER,)),
        Settings(server=Server(port=9)),
    ]

    def load() -> Settings:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def apply(settings: Settings) -> None:
        if settings.providers:
            raise ProviderError("unavailable", "it does not start")
        applied.append(settings)

    registry = CollectorRegistry()
    reloading = Reloading(Settings(), load)
    reloading.ask()  # before it is open nobody can be asked
    reloading.open(apply, registry)

    def figure(name: str, **labels: str) -> float:
        return registry.get_sample_value(f"sluice_config_{name}", labels) or 0.0

    assert figure("last_reload_successful") == 1
    await reloading.reload()
    assert "server.prot" in reloading.problem and applied == [] and figure("last_reload_successful") == 0
    began = figure("last_reload_success_timestamp_seconds")
    await asyncio.sleep(0.01)
    await reloading.reload()
    assert reloading.problem == "" and [settings.policy.no_training for settings in applied] == [True]
    assert figure("last_reload_successful") == 1 and figure("last_reload_success_timestamp_seconds") > began
    await reloading.reload()
    assert reloading.problem == "it does not start" and len(applied) == 1
    await reloading.reload()
    assert reloading.waiting == ("server.port",) and applied[-1] == Settings()
    assert (figure("reloads_total", outcome="taken"), figure("reloads_total", outcome="refused")) == (2, 2)
    await reloading.aclose()


async def test_a_file_that_changes_is_taken_up(tmp_path: Path) -> None:
    file = tmp_path / "sluice.toml"
    file.write_text("")
    taken: list[Settings] = []

    async def apply(settings: Settings) -> None:
        taken.append(settings)

    reloading = Reloading(Settings(), lambda: config.load(file, {}), file, watch_seconds=0.01)
    reloading.open(apply, CollectorRegistry())
    await asyncio.sleep(0.05)
    assert taken == []
    (tmp_path / "next.toml").write_text("[policy]\nno_training = true\n")
    (tmp_path / "next.toml").rename(file)
    await asyncio.to_thread(wait_until, lambda: bool(taken))
    file.unlink()
    await asyncio.to_thread(wait_until, lambda: bool(reloading.problem))
    await reloading.aclose()
    assert [settings.policy.no_training for settings in taken] == [True]


SERVE = """
import asyncio, os, sys
from gateway import config, server
from gateway.reloading import Reloading
from tests.gateway.fakes import Delta, FakeProvider, Finished, Usage

async def counting(request):
    for i in range(60):
        yield Delta(0, "x")
        await asyncio.sleep(0.02)
    yield Finished(0, "stop")
    yield Usage(1, 0, 60)

provider = FakeProvider()
provider.script = counting
def load():
    return config.load(sys.argv[1], {})
told = load()
server.run(told, provider, Reloading(told, load))
"""

SETTINGS = """
models = [{{ name = "tiny", path = "tiny" }}]
[server]
port = {port}
[[auth.keys]]
name = "ci"
tenant = "house"
sha256 = "{key}"
[[routes]]
name = "either"
targets = [{{ provider = "{target}", model = "tiny" }}]
[[providers]]
name = "peer"
kind = "openai-compatible"
base_url = "http://127.0.0.1:{peer}/v1"
hosting = "self_hosted"
models = [{{ name = "tiny" }}]
{extra}
{more}
"""


class Served:
    """A server in a process of its own, on ``port``, with settings that a test rewrites."""

    def __init__(self, folder: Path, port: int, peer: int) -> None:
        self.file = folder / f"{port}.toml"
        self.port = port
        self.peer = peer
        self.write()
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVE, str(self.file)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20)
        wait_until(self._up, 30)

    def _up(self) -> bool:
        assert self.process.poll() is None, self.process.communicate()[1]
        try:
            return self.http.get("/ready").status_code == 200
        except httpx.HTTPError:
            time.sleep(0.05)
            return False

    def write(self, key: str = "sk-first", target: str = "peer", more: str = "", peer: str = "") -> None:
        digest = hashlib.sha256(key.encode()).hexdigest()
        text = SETTINGS.format(port=self.port, key=digest, target=target, peer=self.peer, more=more, extra=peer)
        self.file.write_text(text)

    def hang_up(self) -> None:
        before = self.reloads()
        self.process.send_signal(signal.SIGHUP)
        wait_until(lambda: self.reloads() > before)

    def reloads(self) -> float:
        lines = self.http.get("/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith("sluice_config_reloads_total"))

    def ask(self, key: str = "sk-first") -> httpx.Response:
        body = {"model": "either", "messages": [{"role": "user", "content": "Hi"}]}
        headers = {"authorization": f"Bearer {key}"}
        return self.http.post("/v1/chat/completions", json=body, headers=headers)

    def end(self) -> str:
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.communicate(timeout=20)[1]
        finally:
            self.process.kill()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(FakeProvider(), Settings()) as url:
        server = Served(tmp_path_factory.mktemp("settings"), free_port(), httpx.URL(url).port or 0)
        yield server
        server.end()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def test_everything_changes_between_two_requests_and_nothing_in_flight_is_lost(served: Served) -> None:
    assert served.ask().headers["x-sluice-provider"] == "peer"
    headers = {"authorization": "Bearer sk-first"}
    body = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
    with served.http.stream("POST", "/v1/chat/completions", json=body, headers=headers) as stream:
        lines = stream.iter_lines()
        next(lines)
        served.write("sk-second", "local", '[[limits]]\nper = "total"\nrequests = 1\n[policy]\nmax_total_s = 5.0\n')
        served.hang_up()
        text = "".join(lines)
    assert "[DONE]" in text and text.count('"x"') == 60
    assert served.ask("sk-first").status_code == 401
    assert served.ask("sk-second").headers["x-sluice-provider"] == "local"
    refused = served.ask("sk-second")
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "insufficient_quota")
    served.write()
    served.hang_up()
    assert served.ask().status_code == 200


def test_no_request_is_lost_while_providers_come_and_go(served: Served) -> None:
    """Eight clients ask without a pause, while the peer's settings change, and it goes and comes back, ten times."""
    ended = threading.Event()
    outcomes: list[tuple[int, str | None]] = []

    def ask_on() -> None:
        while not ended.is_set():
            answer = served.ask()
            outcomes.append((answer.status_code, answer.headers.get("x-sluice-provider")))

    threads = [threading.Thread(target=ask_on) for _ in range(8)]
    for thread in threads:
        thread.start()
    for number in range(10):
        target = "local" if number % 3 == 2 else "peer"
        served.write(target=target, peer=f"retries = {{ attempts = {number % 2 + 1} }}")
        served.hang_up()
        time.sleep(0.1)
    ended.set()
    for thread in threads:
        thread.join()
    served.write()
    served.hang_up()
    assert {status for status, _ in outcomes} == {200}
    assert {provider for _, provider in outcomes} == {"peer", "local"} and len(outcomes) > 16


def test_settings_that_are_wrong_leave_those_before_in_force(served: Served) -> None:
    served.write("sk-third", more='[sever]\nhost = "x"\n')
    served.hang_up()
    assert served.ask("sk-first").status_code == 200 and served.ask("sk-third").status_code == 401
    told = served.http.get("/health").json()
    assert told == {"status": "ok", "settings": {"status": "refused"}}
    known = served.http.get("/health", headers={"x-api-key": "sk-first"}).json()
    assert "`sever`: there is no such key; did you mean `server`?" in known["settings"]["reason"]
    served.write(more="[grammar]\nfuel = 7\n")
    served.hang_up()
    told = served.http.get("/health").json()
    assert told["settings"] == {"status": "in_force", "waiting_for_restart": ["grammar.fuel"]}
    served.write()
    served.hang_up()
    assert served.http.get("/health").json() == {"status": "ok"}


def test_a_server_outlives_its_terminal_by_nothing(tmp_path: Path) -> None:
    """SIGHUP from a terminal that is gone ends what was started there."""
    file = tmp_path / "sluice.toml"
    file.write_text(SETTINGS.format(port=0, key="0" * 64, target="local", peer=9, more="", extra=""))
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.environ["PYTHONPATH"] = str(ROOT)
        os.execv(sys.executable, [sys.executable, "-c", SERVE, str(file)])
    said = b""
    while b"startup complete" not in said:
        said += os.read(terminal, 4096)
    os.kill(pid, signal.SIGHUP)
    while b"settings were taken" not in said:
        said += os.read(terminal, 4096)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert json.loads(said.splitlines()[0])["event"]
