"""Plans: what fits, what breaks even, and what the ledger's load is, held against brute force."""

from __future__ import annotations

import json
import math
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from engine.model.footprint import WeightBytes
from gateway.cli.main import main
from gateway.database.database import Database
from gateway.ledger.ledger import Ledger
from gateway.ledger.limiting import LimitBook
from gateway.ledger.reservation import Reservation
from gateway.planning.apis import Api, Rates, api_named, configured_apis, rates
from gateway.planning.breaking_even import crossing, machines
from gateway.planning.comparing import Own, compare
from gateway.planning.fitting import Room
from gateway.planning.load import Load, covered, ledger_load, measured_pace
from gateway.planning.machines import GIB, Machine, known_gpus
from gateway.planning.problem import PlanProblem
from gateway.policy.prices import Tokens
from providers.base import Usage
from schemas.config import Settings
from schemas.providers import ProviderSettings, RemoteModel
from schemas.routing import Price

POSITIVE = st.fractions(min_value=Fraction(1, 100), max_value=100)


@given(POSITIVE, POSITIVE, POSITIVE)
def test_the_crossing_is_where_brute_force_finds_it(api: Fraction, own: Fraction, carries: Fraction) -> None:
    """Each stretch on which the number of machines is the same, looked at by its ends."""
    found = crossing(api, own, carries)

    def cost(n: int) -> Fraction:
        return n * own

    stretches = range(1, 60)
    firsts = [max(cost(n) / api, (n - 1) * carries) for n in stretches if cost(n) <= n * carries * api]
    if found.at is None:
        assert not firsts
        return
    assert found.at == min(firsts)
    assert cost(machines(found.at, carries)) == found.at * api
    if found.for_good is None:
        assert own == carries * api
        return
    assert found.for_good >= found.at
    assume(found.for_good < 50 * carries)
    for n in stretches:
        # Just above the stretch's beginning, and at its end, from `for_good` on.
        for scale in ((n - 1) * carries + Fraction(1, 10**9), n * carries, found.for_good):
            if scale >= found.for_good and machines(scale, carries) == n:
                assert cost(n) <= scale * api
    before = found.for_good * Fraction(10**9 - 1, 10**9)
    assert cost(machines(before, carries)) > before * api, "it is ahead for good already before"


@given(POSITIVE, POSITIVE, POSITIVE)
def test_a_dearer_api_breaks_even_earlier(api: Fraction, own: Fraction, carries: Fraction) -> None:
    one, other = crossing(api, own, carries), crossing(api * 2, own, carries)
    if one.at is not None:
        assert other.at is not None and other.at < one.at
    assert crossing(Fraction(0), own, carries).at is None


ROOMS = st.builds(
    lambda memory, weights, token, block: Room(
        Machine("m", memory * GIB, 1e12), WeightBytes(weights, 10, 0, 5), token, block, GIB
    ),
    memory=st.integers(3, 200),
    weights=st.integers(1, GIB),
    token=st.integers(1, 1 << 20),
    block=st.sampled_from([1, 16, 256]),
)


@given(ROOMS, st.integers(1, 200_000), st.integers(1, 500))
def test_what_fits_fits_and_no_more(room: Room, context: int, sequences: int) -> None:
    def bytes_of(count: int, tokens: int) -> int:
        return count * math.ceil(tokens / room.block_size) * room.block_size * room.token_bytes

    taken = room.weights.total + room.reserve
    most = room.sequences(context)
    assert taken + bytes_of(most, context) <= room.machine.memory < taken + bytes_of(most + 1, context)
    longest = room.context(sequences)
    assert taken + bytes_of(sequences, longest) <= room.machine.memory
    assert taken + bytes_of(sequences, longest + 1) > room.machine.memory
    assert room.sequences(context + 1) <= most and room.context(sequences + 1) <= longest
    larger = Room(Machine("m", room.machine.memory + GIB, 1e12), room.weights, room.token_bytes, room.block_size, GIB)
    assert larger.sequences(context) >= most and larger.context(sequences) >= longest


@given(ROOMS, st.integers(1, 100_000), st.integers(1, 500))
def test_the_bound_on_speed(room: Room, context: int, sequences: int) -> None:
    speed = room.tokens_per_s(sequences, context)
    assert room.tokens_per_s(sequences + 1, context) > speed, "a batch shares the weights"
    assert room.tokens_per_s(sequences, context + 1) < speed
    assert speed <= 1e12 / (context * room.token_bytes), "the cache alone is read once a token"
    assert room.tokens_per_s(1, 0) == pytest.approx(1e12 / room.weights.read)


def test_a_model_that_is_too_large_is_refused_with_both_sizes() -> None:
    room = Room(Machine("m", 10 * GIB, 0.0), WeightBytes(9 * GIB, 0, 0, 0), 1000, 16, 2 * GIB)
    with pytest.raises(PlanProblem, match=r"m has 10\.0 GiB; the weights need 9\.0, 2\.0 are kept aside"):
        room.sequences(1)


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)).map(lambda s: (s[0], s[0] + s[1]))))
def test_time_that_is_covered(spans: list[tuple[int, int]]) -> None:
    assert covered(spans) == len({second for begin, end in spans for second in range(begin, end)})


async def test_the_load_is_what_the_ledger_has(database: Database) -> None:
    now = float(int(time.time()) // 3600 * 3600)
    asked = [(now - 7200, 10, 4), (now - 3600, 20, 5), (now - 3599, 30, 6), (now - 10**6, 99, 99)]
    for when, prompt, completion in asked:
        ledger = Ledger(database, LimitBook([]), clock=lambda when=when: when)
        for tenant, provider in (("a", "local"), ("b", "openai")):
            leg = await ledger.reserve(Reservation("r", tenant, "k", provider, "m", 0, 100))
            await leg.settle(Usage(prompt, prompt // 2, completion), 0)
        await (await ledger.reserve(Reservation("r", "a", "k", "local", "m", 0, 100))).release()
    since, until = int((now - 7200) * 1e6), int(now * 1e6)
    load = await ledger_load(database, since, until)
    assert load == Load(2.0, 6, 120, 60, 30, 22)
    assert await ledger_load(database, since, until, "b") == Load(2.0, 3, 60, 30, 15, 11)
    assert await ledger_load(database, 0, 1) == Load(1 / 3600e6, 0, 0, 0, 0, 0)
    pace = await measured_pace(database, since, until)
    assert pace is not None and pace.completion == 15 and 0 < pace.seconds < 10
    assert await measured_pace(database, 0, 1) is None


RATES = Rates(Fraction(1, 10**6), Fraction(1, 10**7), Fraction(4, 10**6))


def linear(tokens: Tokens) -> int:
    fresh = tokens.prompt - tokens.cached
    return 1000 * fresh + 100 * tokens.cached + 4000 * tokens.completion


LOADS = st.builds(
    lambda hours, requests, prompt, completion, times: Load(
        hours, requests, prompt, 0, completion, math.ceil(completion / hours * times)
    ),
    hours=st.floats(0.5, 1000),
    requests=st.integers(1, 10**6),
    prompt=st.integers(0, 10**9),
    completion=st.integers(1, 10**9),
    times=st.floats(1, 10),
)


@given(LOADS, st.floats(10, 10_000), st.floats(0.1, 1.0))
def test_months_add_up(load: Load, speed: float, utilisation: float) -> None:
    api = Api("x/y", linear)
    assert rates(api, load) == RATES
    own = Own(Fraction(2), speed, utilisation)
    found = compare(load, own, [api], Fraction(0))
    (cost,) = found.apis
    exact = (load.prompt * 1e-6 + load.completion * 4e-6) / load.hours * 730
    assert cost.usd_a_month == pytest.approx(exact)
    assert found.own.usd_a_month == found.own.machines * 2 * 730
    assert found.own.machines * speed * utilisation * 3600 >= load.peak_completion * (1 - 1e-9)
    assert (found.own.machines - 1) * speed * utilisation * 3600 <= load.peak_completion * (1 + 1e-9)
    assert found.own.busy <= utilisation * (1 + 1e-9)
    cheaper = compare(load, own, [api], Fraction(1)).apis[0]
    assert cheaper.usd_a_month <= cost.usd_a_month
    assert cost.usd_per_mtok * load.completion / load.hours * 730 / 1e6 == pytest.approx(cost.usd_a_month)


def test_apis_are_those_of_the_settings_and_of_the_list() -> None:
    models = (RemoteModel(name="mine", upstream="gpt-5-mini"),)
    provider = ProviderSettings(name="acme", kind="openai", key_env="K", models=models)
    price = Price(provider="acme", prompt_usd_per_mtok="1", completion_usd_per_mtok="2")
    plain, priced = Settings(providers=(provider,)), Settings(providers=(provider,), prices=(price,))
    load = Load(1.0, 10, 1000, 0, 100, 100)
    (listed,), (own,) = configured_apis(plain), configured_apis(priced)
    assert listed.name == "acme/mine"
    assert rates(listed, load) == rates(api_named("openai/gpt-5-mini", plain), load)
    assert rates(own, load) == Rates(Fraction(1, 10**6), Fraction(1, 10**6), Fraction(2, 10**6))
    assert rates(api_named("acme/mine", priced), load) == rates(own, load)
    with pytest.raises(PlanProblem, match="what openai/no-such-model costs is not known"):
        rates(api_named("openai/no-such-model", plain), load)
    with pytest.raises(PlanProblem, match="PROVIDER/MODEL"):
        api_named("gpt-5-mini", plain)


def test_gpus_have_memory_bandwidth_and_a_source() -> None:
    for gpu in known_gpus().values():
        assert 8 * 10**9 <= gpu.memory < 10**12 and 10**11 <= gpu.bandwidth < 10**14


ASK = ["plan", "break-even", "--requests", "1000", "--prompt-tokens", "800000", "--completion-tokens", "200000"]
OWN = ["--usd-per-hour", "2.5", "--tokens-per-s", "1500"]
SHAPE = "layers=32,hidden=4096,ffn=14336,heads=32,kv_heads=8,head_dim=128,vocab_size=128256"


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_break_even_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    found = run(capsys, *ASK, *OWN, "--against", "openai/gpt-5-mini", "--against", "anthropic/claude-sonnet-4-5")
    assert [api["api"] for api in found["apis"]] == ["openai/gpt-5-mini", "anthropic/claude-sonnet-4-5"]
    assert found["load"]["peak_completion"] == 600_000 and found["pace"] is None
    assert found["own"]["usd_a_month"] == 1825.0 and found["own"]["machines"] == 1
    dear = found["apis"][1]
    assert dear["breaks_even"] == pytest.approx(1825.0 / dear["usd_a_month"])
    assert main([*ASK, *OWN, "--against", "openai/gpt-5-mini"]) == 0
    assert "openai/gpt-5-mini" in capsys.readouterr().out


def test_the_ledgers_load_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import asyncio

    from gateway.database.place import database_at

    url = f"sqlite:///{tmp_path / 'sluice.db'}"
    monkeypatch.setenv("SLUICE_DATABASE__URL", url)
    against = ["--against", "openai/gpt-5-mini", "--usd-per-hour", "1"]
    assert main(["plan", "break-even", *against]) == 1
    assert "--tokens-per-s; the ledger has no answers" in capsys.readouterr().err
    assert main(["plan", "break-even", *against, "--tokens-per-s", "9"]) == 1
    assert "no tokens were generated" in capsys.readouterr().err

    async def fill() -> None:
        database = database_at(url)
        await database.open()
        leg = await Ledger(database, LimitBook([])).reserve(Reservation("r", "t", "k", "local", "m", 0, 100))
        await asyncio.sleep(0.05)
        await leg.settle(Usage(50, 0, 20), 0)
        await database.aclose()

    asyncio.run(fill())
    assert main(["plan", "break-even", *against, "--days", "1"]) == 0
    said = capsys.readouterr().out
    assert "24.0 times the mean" in said and "The ledger has 20 tokens in the 0 s" in said


def test_fit_on_the_command_line(embedded_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = run(capsys, "plan", "fit", "--shape", SHAPE, "--gpu", "h100-sxm", "--context", "8192")
    assert found["parameters"] == 8_030_261_248 and found["token_bytes"] == 131_072
    assert found["weights_gib"] * GIB == 2 * found["parameters"]
    (line,) = found["lines"]
    assert line["sequences"] == 57 and line["alone_tokens_per_s"] < 3350e9 / 15e9
    quarter = run(capsys, "plan", "fit", "--shape", SHAPE, "--weights", "int4-g128", "--gpu", "h100-sxm")
    assert 0.25 < quarter["weights_gib"] / found["weights_gib"] < 0.4
    mine = run(capsys, "plan", "fit", str(embedded_model), "--device", "cpu", "--memory-gib", "4")
    assert mine["lines"][-1]["context"] == 8192 and mine["lines"][0]["tokens_per_s"] == 0
    assert main(["plan", "fit", "--shape", SHAPE, "--gpu", "h100-sxm"]) == 0
    assert "sequences" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["fit"], "give a MODEL, or its sizes"),
        (["fit", "--shape", SHAPE], "give a --gpu, or"),
        (["fit", "--shape", SHAPE, "--gpu", "abacus"], "'abacus' is not known; known are l4"),
        (["fit", "--shape", "layers=2", "--gpu", "l4"], "there is no hidden, ffn"),
        (["fit", "--shape", "layers=x", "--gpu", "l4"], "'layers=x' is no size"),
        (["fit", "--shape", SHAPE.replace("kv_heads=8", "kv_heads=7"), "--gpu", "l4"], "cannot be shared"),
        (["fit", "--shape", SHAPE, "--gpu", "l4", "--weights", "int5"], "no weights of format 'int5'"),
        (["fit", "--shape", SHAPE, "--gpu", "l4", "--device", "cpu", "--kv", "int8"], "only the GPU's cache"),
        (["fit", "/no/such/model", "--gpu", "l4"], "there is no such file or folder"),
        (["break-even", "--requests", "1", *OWN], "go together"),
        ([*ASK[1:], *OWN], "there is nobody to compare with"),
        ([*ASK[1:], "--against", "openai/gpt-5-mini"], "what the machine costs is not known"),
        ([*ASK[1:], "--against", "openai/gpt-5-mini", "--usd-per-hour", "1"], "how fast the machine is"),
    ],
)
def test_what_a_plan_cannot_be_made_from(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *arguments]) == 1
    assert said in capsys.readouterr().err
