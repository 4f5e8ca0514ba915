"""Servers killed while other APIs answer for them: what those log as executed is charged once, in full where the server
heard of it and at its maximum where it did not."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.database.place import database_at
from gateway.ledger.limiting import Amounts
from gateway.ledger.tables import Leg
from tests.gateway.ledger.test_faults import LONG, check_provider
from tests.gateway.ledger.test_killed import CLIENTS, Nursery, kill_under_load, local, nursery, recovered
from tests.providers.fault_server import Act, FaultServer
from tests.providers.remote_cases import APIS, MODEL


@pytest.fixture(scope="module")
def servers() -> Iterator[Nursery]:
    yield from nursery()


def bodies(rng: random.Random) -> Iterator[dict[str, Any]]:
    """One API after another, all of them in a race, and the engine in this server."""
    asked: dict[str, Any] = {"messages": [{"role": "user", "content": LONG}], "max_tokens": 1000}
    race = {"sluice": {"policy": {"hedge_after_s": 0.005}}}
    choices = [local(0), {**asked, "model": "all", **race}, *({**asked, "model": f"{api}/{MODEL}"} for api in APIS)]
    while True:
        yield rng.choice(choices)


def slowly(rng: random.Random) -> Act:
    """Long enough to be killed before it, in it, and after it."""
    return Act(texts=("word " * 40,), delay=rng.choice((0.0, 0.004, 0.02)), pause=rng.choice((0.0, 0.001)))


async def kill_and_compare(servers: Nursery, url: str, times: int, seed: int) -> None:
    asking, acting = bodies(random.Random(seed)), random.Random(seed + 1)
    with FaultServer(script=lambda api, body: slowly(acting)).in_a_thread() as remote:
        log = await kill_under_load(servers, url, times, seed, lambda client: next(asking), remote.port)
        pid, _ = await asyncio.to_thread(servers.start, url, remote.port)
        database = database_at(url)
        found = await recovered(database)
        os.kill(pid, signal.SIGKILL)
        await database.aclose()
    for api in APIS:
        legs = [leg for leg in found.legs if leg.provider == api]
        check_provider(legs, [asked for asked in remote.log if asked.api == api])
    check_answers(found.legs, log, times)
    first = sum(leg.number == 0 for leg in found.legs)
    tokens, nano = (sum(leg.charged_tokens for leg in found.legs), sum(leg.charged_nano or 0 for leg in found.legs))
    assert set(found.meters.values()) == {Amounts(first, tokens, nano)}
    assert nano > 0 and len(found.meters) == 2


def check_answers(legs: list[Leg], log: dict[str, int], times: int) -> None:
    """What clients have is settled; what they do not have was under way when a server was killed."""
    assert len(log) >= 5 * times
    by_request = {
        request: list(those)
        for request, those in itertools.groupby(sorted(legs, key=lambda leg: leg.request), lambda leg: leg.request)
    }
    for id, tokens in log.items():
        assert tokens in {leg.charged_tokens for leg in by_request[id] if leg.state == "settled"}
    lost = [request for request in by_request if request not in log]
    assert len(lost) <= times * CLIENTS
    assert any(leg.state == "unknown" for request in lost for leg in by_request[request]), "nobody was killed at work"


async def test_a_server_killed_while_others_answer(servers: Nursery, database_url: str) -> None:
    await kill_and_compare(servers, database_url, times=2, seed=1)


@pytest.mark.slow
async def test_the_same_fifty_times(servers: Nursery, database_url: str) -> None:
    await kill_and_compare(servers, database_url, times=50, seed=random.randrange(2**32))
