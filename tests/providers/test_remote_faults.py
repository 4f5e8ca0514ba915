"""A provider that fails in every way there is: nothing invalid is delivered, nothing is counted twice, nothing stays
open."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from providers.base import GenerateRequest, ProviderError, Tool, Tools
from schemas.constraint import JsonSchemaSpec
from tests.providers.fault_server import Act, Api, FaultServer
from tests.providers.remote_cases import APIS, Books, Heard, asking, hear, provider_for

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 2},
        "kind": {"enum": ["a", "b"]},
        "ages": {"type": "array", "items": {"type": "integer", "maximum": 120}},
        "note": {"type": "string"},
    },
    "required": ["name", "ages"],
}
VALID = ('{"name": "Ann", "ages": [1, 2]}', '{"name":"Bö","kind":"a","ages":[],"note":"☃"}')
INVALID = (
    "no JSON at all",
    '{"name": "Ann"}',
    '{"name": "A", "ages": []}',
    '{"name": "Ann", "ages": [121]}',
    '{"name": "Ann", "name": "Bob", "ages": []}',
    '{"name": "Ann", "ages": [1}',
    "",
)
WAITED_FOR = "This answer is read to its end, whatever it is."
TURNED_AWAY = (429, 503, 529)
STATUSES = (400, 401, 404, 408, *TURNED_AWAY, 500, 502)
FAULTS = ("cut", "cut", "malformed", "content type", "huge line", "compressed", "midway")


def scripted(rng: random.Random) -> Act:
    """Half of all answers are good."""
    good = Act(
        texts=(rng.choice(VALID),),
        piece=rng.choice((1, 3, 50)),
        whole=rng.random() < 0.2,
        counted=rng.random() < 0.9,
        delay=rng.choice((0.0, 0.0, 0.002)),
    )
    match rng.randrange(10):
        case 0 | 1:
            headers = (("retry-after-ms", "1"),) if rng.random() < 0.5 else ()
            return replace(good, fault="status", status=rng.choice(STATUSES), headers=headers)
        case 2 | 3:
            return replace(good, fault=rng.choice(FAULTS), cut=rng.random())
        case 4:
            return replace(good, texts=tuple(rng.choice(INVALID) for _ in range(2)))
        case 5:
            calls = (("save", rng.choice((*VALID, *INVALID))), (rng.choice(("save", "other")), VALID[0]))
            return replace(good, texts=(rng.choice(("", "Saving.")),), calls=calls[: rng.randint(1, 2)])
        case 6:
            return replace(good, end=rng.choice(("length", "declined")))
        case _:
            return good


def drawn(rng: random.Random, books: Books) -> GenerateRequest:
    constrained = rng.random() < 0.7
    tools = Tools((Tool("save", json.dumps(SCHEMA)),), ("save",), parallel=rng.random() < 0.7)
    tools = tools if rng.random() < 0.4 else None
    n, pass_on = rng.choice((1, 1, 1, 2)), rng.random() < 0.2
    return asking(
        "Go on." if tools or n > 1 or pass_on else WAITED_FOR,
        constraint=JsonSchemaSpec(json.dumps(SCHEMA)) if constrained else None,
        tools=tools,
        n=n,
        pass_on=pass_on,
        meter=books,
    )


def check_answer(heard: Heard, request: GenerateRequest) -> None:
    for choice in heard.choices:
        assert choice.end is not None
        assert len(choice.calls) <= 1 or (request.tools is not None and request.tools.parallel)
        for name, arguments in choice.calls:
            assert request.tools is not None and name in request.tools.callable
            check_valid(arguments)
        if request.constraint is not None and choice.end.reason == "stop" and not choice.calls:
            check_valid(choice.text)


def check_valid(text: str) -> None:
    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len(dict(pairs)) == len(pairs), "a key comes twice"
        return dict(pairs)

    Draft202012Validator(SCHEMA).validate(json.loads(text, object_pairs_hook=members))


async def ordeal(seed: int, requests: int) -> Counter[str]:
    """Returns how the requests ended."""
    rng = random.Random(seed)
    books = Books()
    outcomes: Counter[str] = Counter()
    async with FaultServer(lambda api, body: scripted(rng)).running() as server:
        providers = {api: provider_for(server, api) for api in APIS}

        async def one(api: Api, request: GenerateRequest) -> None:
            try:
                heard = await hear(providers[api], request)
            except ProviderError as error:
                assert error.kind != "internal"
                outcomes[error.kind] += 1
            else:
                check_answer(heard, request)
                outcomes["answered"] += 1

        for _ in range(0, requests, 4):
            await asyncio.gather(*(one(api, drawn(rng, books)) for api in APIS))
        for provider in providers.values():
            await provider.aclose()
        await nothing_open(server)
        check_books(server, books)
    return outcomes


async def nothing_open(server: FaultServer) -> None:
    for _ in range(1000):
        if not server.connections:
            return
        await asyncio.sleep(0.005)
    raise AssertionError(f"{server.connections} connections are open")


def check_books(server: FaultServer, books: Books) -> None:
    """What the meter was told against what the server knows it did."""
    counts = Counter(books.outcomes)
    assert not counts["open"]
    executed = {asked.used.prompt: asked for asked in server.log if asked.used is not None}
    told = {leg.usage.prompt: leg.usage for leg in books.legs if leg.usage is not None}
    assert len(told) == counts["settled"], "no usage is told twice"
    for prompt, usage in told.items():
        used = executed[prompt].used
        assert used is not None and (usage.completion, usage.cached) == (used.completion, used.cached)
    # A leg is released only where nothing was executed: those that were are settled, or marked.
    assert len(books.legs) >= len(server.log)
    assert counts["settled"] + counts["unknown"] >= len(executed)
    arrived = {prompt for prompt, asked in executed.items() if asked.delivered and asked.act.counted}
    assert {prompt for prompt in arrived if WAITED_FOR in str(executed[prompt].body)} <= set(told)


def test_what_is_delivered_is_valid_and_what_was_used_is_known() -> None:
    outcomes = asyncio.run(ordeal(seed=1, requests=100))
    assert outcomes["answered"] > 30
    assert outcomes["invalid_answer"] and outcomes["unavailable"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_the_same_of_2000_requests(seed: int) -> None:
    outcomes = asyncio.run(ordeal(seed=100 + seed, requests=500))
    assert outcomes["answered"] > 200
    assert {"invalid_answer", "unavailable", "overloaded", "declined", "invalid_request"} <= set(outcomes)
