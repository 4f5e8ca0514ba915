"""Random policies over random providers, through every endpoint, and all that leaves the server is read back: what
providers are sent, traces, log lines, the database. No byte of a request is where one of its policies says that it must
not be, or the house's rule that prompts are kept nowhere.

A request is known by a word of its own. What is stored and gone on from is held to the policies of the request that it
came with. Whom a policy excludes is told in other words than in `gateway.policy` (`test_privacy.Told`).
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from schemas.config import Auth, ModelSettings, Responses, Settings, Telemetry
from schemas.config import Database as Place
from schemas.policy import Policy
from schemas.providers import ProviderSettings, RemoteModel, Retries
from schemas.routing import Price, Route, ScopedPolicy, Target
from tests.gateway.fakes import MODEL
from tests.gateway.routing.test_privacy import Told
from tests.gateway.test_auth import key
from tests.providers.fault_server import KINDS, Act, Api, FaultServer
from tests.providers.remote_cases import APIS

ROOT = Path(__file__).parents[2]
PROVIDERS = tuple(f"p{i}" for i in range(8))
KEYS = {"sk-one": ("one", "acme"), "sk-two": ("two", "acme"), "sk-three": ("three", "lab")}
ROUTES = ("r0", "r1", "r2")
ENDPOINTS = ("chat", "chat", "responses", "responses", "responses", "messages", "decisions", "systemone")
CLIENTS = 6
SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}, "ages": {"type": "array"}}, "required": ["name"]}
VALID = ('{"name": "Ann", "ages": []}', '{"name": 1}', "Noted.")


def rules(rng: random.Random, likely: float) -> dict[str, Any]:
    """At most one rule: who excludes everybody proves nothing."""
    if rng.random() > likely:
        return {}
    some = sorted(rng.sample(PROVIDERS, 3))
    return rng.choice(
        [
            {"local_only": True},
            {"self_hosted_only": True},
            {"no_training": True},
            {"zero_retention": True},
            {"regions": ["eu"]},
            {"deny_providers": some},
            {"allow_providers": [*some, "local"]},
            {"deny_models": [f"{name}/m" for name in some]},
            {"allow_models": [*(f"{name}/m" for name in some), f"local/{MODEL}"]},
            {"pii": rng.choice(["redact", "redact", "route_local", "block"])},
        ]
    )


def ways(rng: random.Random) -> dict[str, Any]:
    order = {"order": [*rng.sample(PROVIDERS, 2)]}
    return rng.choice([{}, order, {"hedge_after_s": 0.002}, {"cascade_min_confidence": 0.9}, {"max_ttft_s": 0.01}])


def policy(given: dict[str, Any]) -> Policy:
    return msgspec.convert(given, Policy)


@dataclass(frozen=True)
class House:
    """Who there is, and whose policy is what."""

    table: dict[str, Told]
    server: dict[str, Any]
    routes: dict[str, dict[str, Any]]
    tenants: dict[str, dict[str, Any]]
    keys: dict[str, dict[str, Any]]

    def held(self, model: str, key: str) -> list[Policy]:
        name, tenant = KEYS[key]
        given = self.server, self.routes.get(model, {}), self.tenants.get(tenant, {}), self.keys.get(name, {})
        return [policy(one) for one in given]


def drawn_house(rng: random.Random) -> House:
    table = {
        name: Told(
            rng.choice(["managed", "self_hosted"]),
            rng.choice([None, False, True]),
            rng.choice([None, 0, 0, 30]),
            rng.choice([None, frozenset({"eu"}), frozenset({"eu", "us"})]),
        )
        for name in PROVIDERS
    }
    routes = {name: rules(rng, 0.3) for name in ROUTES}
    return House(table, rules(rng, 0.2), routes, {"acme": rules(rng, 0.4)}, {"one": rules(rng, 0.4)})


def settings_of(house: House, rng: random.Random, remote: FaultServer, collector: str, database: Path) -> Settings:
    providers = [provider_of(name, house.table[name], APIS[i % len(APIS)], remote) for i, name in enumerate(PROVIDERS)]
    targets = [Target(provider="local", model=MODEL, tier=1)]
    targets += [Target(provider=name, model="m", tier=rng.randrange(4)) for name in PROVIDERS]
    return Settings(
        auth=Auth(keys=tuple(key(name, text, tenant) for text, (name, tenant) in KEYS.items())),
        models=(ModelSettings(name=MODEL, path=MODEL),),
        providers=tuple(providers),
        routes=tuple(
            Route(name=name, targets=tuple(rng.sample(targets, 5)), policy=policy(given))
            for name, given in house.routes.items()
        ),
        facts=tuple(fact for name, told in house.table.items() for fact in told.facts(name)),
        prices=tuple(Price(provider=name, prompt_usd_per_mtok="1", completion_usd_per_mtok="1") for name in PROVIDERS),
        policy=policy(house.server),
        policies=(
            *(ScopedPolicy(tenant=name, policy=policy(given)) for name, given in house.tenants.items()),
            *(ScopedPolicy(key=name, policy=policy(given)) for name, given in house.keys.items()),
        ),
        responses=Responses(store=True),
        telemetry=Telemetry(otlp_endpoint=collector),
        database=Place(url=f"sqlite:///{database}"),
    )


def provider_of(name: str, told: Told, api: Api, remote: FaultServer) -> ProviderSettings:
    """Of the one server that plays all of them, each below a path of its own."""
    assert told.hosting != "local"
    version = "v1beta" if api == "gemini" else "v1"
    return ProviderSettings(
        name=name,
        kind=KINDS[api],  # type: ignore[arg-type]
        base_url=f"http://127.0.0.1:{remote.port}/{name}/{version}",
        hosting=told.hosting,
        key_env="TAPPED_KEY",
        models=(RemoteModel(name="m", max_output=1000),),
        retries=Retries(attempts=2, base_s=0.001, max_s=0.01, repairs=1),
    )


def scripted(rng: random.Random, body: dict[str, Any]) -> Act:
    """Half of the answers are none. Some complaints quote what they complain about."""
    match rng.randrange(8):
        case 0:
            return Act(fault="status", status=rng.choice([429, 500, 503]))
        case 1:
            return Act(fault="status", status=400, complaint=f"Bad request: {json.dumps(body)[:400]}")
        case 2:
            return Act(texts=(rng.choice(VALID),), fault=rng.choice(["cut", "malformed", "midway"]), cut=rng.random())
        case 3:
            return Act(texts=(rng.choice(VALID),), delay=0.015)
        case _:
            return Act(texts=(rng.choice(VALID),))


@dataclass
class Sent:
    """A request that a client made. ``held``: the policies of all that it says of itself and that hold for its caller.
    ``stored``: it may be in the database."""

    number: int
    held: list[Policy]
    stored: bool

    @property
    def word(self) -> str:
        return f"word{self.number}word"

    @property
    def mail(self) -> str:
        return f"user{self.number}@corp.example"


@dataclass
class Client:
    """Asks random things. ``conversations``: of each tenant. ``kept``: tenant → ids of its stored responses."""

    http: httpx.AsyncClient
    house: House
    rng: random.Random
    conversations: dict[str, str]
    sent: list[Sent] = field(default_factory=list[Sent])
    kept: dict[str, list[str]] = field(default_factory=dict[str, list[str]])

    async def ask(self) -> None:
        rng = self.rng
        endpoint = rng.choice(
            ["chat", "chat", "responses", "responses", "responses", "messages", "decisions", "systemone"]
        )
        key = rng.choice(list(KEYS))
        here = endpoint in ("decisions", "systemone")
        model = MODEL if here else rng.choice([*ROUTES, *ROUTES, f"{rng.choice(PROVIDERS)}/m"])
        in_body, in_header = {**rules(rng, 0.5), **ways(rng)}, rules(rng, 0.2)
        sent = Sent(len(self.sent), [*self.house.held(model, key), policy(in_header)], endpoint == "responses")
        self.sent.append(sent)
        body = getattr(self, f"_{endpoint}")(sent, model, KEYS[key][1])
        if not here:
            body["sluice"] = {"policy": in_body}
            sent.held.append(policy(in_body))
        headers = {"authorization": f"Bearer {key}", "x-sluice-policy": json.dumps(in_header)}
        path = {"chat": "chat/completions"}.get(endpoint, endpoint)
        answer = await self.http.post(f"/v1/{path}", json=body, headers=headers)
        assert answer.status_code != 500, answer.text
        if endpoint == "responses" and answer.status_code == 200 and not body.get("stream"):
            self.kept.setdefault(KEYS[key][1], []).append(answer.json()["id"])

    def _text(self, sent: Sent) -> str:
        return f"{sent.word}: write to {sent.mail}"

    def _chat(self, sent: Sent, model: str, tenant: str) -> dict[str, Any]:
        turns = [{"role": "system", "content": sent.word}, {"role": "user", "content": self._text(sent)}]
        body: dict[str, Any] = {"model": model, "messages": turns, "max_tokens": 50, "user": sent.word}
        if self.rng.random() < 0.5:
            body["response_format"] = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}
        if self.rng.random() < 0.2:
            body["stop"] = [sent.word]
        return body | {"stream": self.rng.random() < 0.5}

    def _responses(self, sent: Sent, model: str, tenant: str) -> dict[str, Any]:
        body: dict[str, Any] = {"model": model, "input": self._text(sent), "max_output_tokens": 50}
        going_on = self.rng.random()
        if (kept := self.kept.get(tenant)) and going_on < 0.5:
            body["previous_response_id"] = self.rng.choice(kept)
        elif going_on < 0.7:
            body["conversation"] = self.conversations[tenant]
        return body | self.rng.choice([{}, {"background": True}, {"stream": True}])

    def _messages(self, sent: Sent, model: str, tenant: str) -> dict[str, Any]:
        turns = [{"role": "user", "content": self._text(sent)}]
        return {"model": model, "messages": turns, "max_tokens": 50, "stream": self.rng.random() < 0.5}

    def _decisions(self, sent: Sent, model: str, tenant: str) -> dict[str, Any]:
        return {"model": model, "input": self._text(sent), "questions": [{"type": "predicate", "instructions": "?"}]}

    def _systemone(self, sent: Sent, model: str, tenant: str) -> dict[str, Any]:
        return {"model": model, "state": self._text(sent), "questions": {"a": {"type": "noul", "instructions": "?"}}}


@contextmanager
def collecting() -> Iterator[tuple[str, list[bytes]]]:
    """The address of a collector of traces, and what it is sent."""
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1/traces", bodies
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def tapped(settings: Settings, log: Path) -> Iterator[str]:
    """The URL of a server whose log lines go to ``log``."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "TAPPED_KEY": "sk-upstream"}
    with log.open("wb") as lines:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.gateway.tapped"],
            cwd=ROOT,
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=lines,
        )
    assert process.stdin is not None and process.stdout is not None
    try:
        process.stdin.write(msgspec.json.encode(settings) + b"\n")
        process.stdin.flush()
        port = process.stdout.readline().decode().strip()
        assert port, log.read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.communicate()


def ordeal(folder: Path, seed: int, requests: int) -> int:
    """Returns how many requests providers were sent."""
    rng, faults = random.Random(seed), random.Random(seed + 1)
    remote = FaultServer(lambda api, body: scripted(faults, body))
    with remote.in_a_thread(), collecting() as (collector, traces):
        house = drawn_house(rng)
        settings = settings_of(house, rng, remote, collector, folder / "sluice.db")
        with tapped(settings, folder / "log") as url:
            sent = asyncio.run(load(url, house, rng, requests))
        check_wire(remote, house, sent)
        stayed = {"the log": (folder / "log").read_bytes(), "a trace": b"".join(traces)}
        database = b"".join(file.read_bytes() for file in folder.glob("sluice.db*"))
    assert b'"event": "request"' in stayed["the log"] and b"gen_ai" in stayed["a trace"] and b"settled" in database
    for one in sent:
        for place, data in {**stayed, **({} if one.stored else {"the database": database})}.items():
            assert one.word.encode() not in data and one.mail.encode() not in data, f"request {one} is in {place}"
    return len(remote.log)


async def load(url: str, house: House, rng: random.Random, requests: int) -> list[Sent]:
    async with httpx.AsyncClient(base_url=url, timeout=60) as http:
        conversations: dict[str, str] = {}
        for key, (_, tenant) in KEYS.items():
            made = await http.post("/v1/conversations", json={}, headers={"authorization": f"Bearer {key}"})
            conversations[tenant] = made.raise_for_status().json()["id"]
        client = Client(http, house, rng, conversations)

        async def some() -> None:
            for _ in range(requests // CLIENTS):
                await client.ask()

        await asyncio.gather(*(some() for _ in range(CLIENTS)))
    return client.sent


def check_wire(remote: FaultServer, house: House, sent: list[Sent]) -> None:
    for asked in remote.log:
        provider, data = asked.path.split("/")[1], json.dumps(asked.body, ensure_ascii=False)
        for number in {int(found) for found in re.findall(r"word(\d+)word", data)}:
            one = sent[number]
            assert all(house.table[provider].may_see(provider, policy) for policy in one.held), (
                f"{provider}, {house.table[provider]}, saw {one}"
            )
            levels = {policy.pii for policy in one.held}
            assert "block" not in levels, f"{provider} saw {one}"
            assert levels <= {"allow"} or one.mail not in data, f"{provider} saw the address of {one}"


def test_no_byte_is_where_a_policy_forbids_it(tmp_path: Path) -> None:
    assert ordeal(tmp_path, seed=3, requests=96) > 20


@pytest.mark.slow
def test_the_same_of_3000_requests(tmp_path: Path) -> None:
    """In some houses nobody may be asked at all."""
    asked = 0
    for seed in range(20, 30):
        (folder := tmp_path / str(seed)).mkdir()
        asked += ordeal(folder, seed, requests=300)
    assert asked > 500
