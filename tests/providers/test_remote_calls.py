"""Retries, waits, timeouts, the breaker, keys, cancellation: one call to a provider and what can happen to it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.base import ProviderError, Usage
from providers.remote.breaker import CircuitBreaker
from providers.remote.dialect import BrokenAnswer
from providers.remote.events import events
from providers.remote.failures import Failure
from providers.remote.provider import RemoteProvider
from providers.remote.transport import LONGEST_WAIT, refusal, retry_after
from schemas.constraint import JsonSchemaSpec
from schemas.providers import Breaker, Limits, Retries, Timeouts
from tests.providers.fault_server import Act, Api, FaultServer
from tests.providers.remote_cases import Books, asking, hear, provider_for, settings_for
from tests.providers.test_remote_faults import nothing_open

SECRET = "sk-not-to-be-told-anywhere"
SCHEMA = JsonSchemaSpec('{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"]}')


def with_server(
    acts: list[Act], test: Callable[[RemoteProvider, FaultServer], Awaitable[None]], api: Api = "chat", **changes: Any
) -> FaultServer:
    """Run ``test`` against a server that does ``acts`` in turn, the last one for ever."""
    left = list(acts)

    async def run() -> FaultServer:
        script = lambda api, body: left.pop(0) if len(left) > 1 else left[0]  # noqa: E731
        async with FaultServer(script).running() as server:
            provider = provider_for(server, api, **changes)
            try:
                await test(provider, server)
            finally:
                await provider.aclose()
            await nothing_open(server)
            return server

    return asyncio.run(run())


def status(code: int, *headers: tuple[str, str]) -> Act:
    return Act(fault="status", status=code, headers=headers)


def test_a_provider_that_is_busy_is_asked_again_when_it_says() -> None:
    async def test(provider: RemoteProvider, server: FaultServer) -> None:
        books, began = Books(), time.monotonic()
        heard = await hear(provider, asking(meter=books))
        assert heard.choices[0].text == "Hello"
        assert time.monotonic() - began >= 0.2
        assert books.outcomes == ["released", "released", "settled"]

    acts = [status(429, ("retry-after-ms", "150")), status(529, ("retry-after", "0.05")), Act()]
    with_server(acts, test, retries=Retries(attempts=3, base_s=0.001, max_s=1))


def test_a_wait_longer_than_the_operator_allows_is_passed_on() -> None:
    async def test(provider: RemoteProvider, server: FaultServer) -> None:
        with pytest.raises(ProviderError) as busy:
            await provider.generate(asking())
        assert (busy.value.kind, busy.value.retry_after, busy.value.elsewhere) == ("overloaded", 60.0, True)
        assert len(server.log) == 1

    with_server([status(429, ("retry-after", "60"))], test)


@pytest.mark.parametrize(
    ("code", "kind", "calls", "outcome"),
    [
        (400, "invalid_request", 1, "released"),
        (401, "unavailable", 1, "released"),
        (404, "unavailable", 1, "released"),
        (418, "unavailable", 1, "unknown"),
        (307, "unavailable", 1, "unknown"),
        (408, "unavailable", 3, "released"),
        (429, "overloaded", 3, "released"),
        (500, "unavailable", 3, "unknown"),
        (503, "overloaded", 3, "released"),
        (504, "unavailable", 3, "unknown"),
    ],
)
def test_each_status(code: int, kind: str, calls: int, outcome: str) -> None:
    async def test(provider: RemoteProvider, server: FaultServer) -> None:
        books = Books()
        with pytest.raises(ProviderError) as failure:
            await provider.generate(asking(meter=books))
        assert failure.value.kind == kind
        assert books.outcomes == [outcome] * calls
        assert len(server.log) == calls

    with_server([status(code, ("location", "/elsewhere"))], test)


@given(st.integers(100, 599), st.binary(max_size=60))
def test_no_status_and_no_body_is_too_odd_to_be_understood(code: int, body: bytes) -> None:
    failure = refusal("p", code, {}, body)
    assert failure.message.startswith("Provider `p`")
    assert failure.executed or code in (400, 401, 402, 403, 404, 408, 409, 413, 422, 425, 429, 503, 529)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "3", "retry-after-ms": "250"}, 0.25),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after-ms": "-5"}, 0.0),
        ({"retry-after-ms": "inf"}, LONGEST_WAIT),
        ({"retry-after-ms": "nan"}, 0.0),
        ({"retry-after": "9" * 400}, LONGEST_WAIT),
        ({"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"}, LONGEST_WAIT),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


QUICK = Timeouts(connect_s=0.5, first_byte_s=0.2, idle_s=0.2, total_s=0.4)


@pytest.mark.parametrize("act", [Act(delay=0.6), Act(fault="silence")])
def test_no_answer_in_time_is_not_asked_for_again(act: Act) -> None:
    async def test(provider: RemoteProvider, server: FaultServer) -> None:
        books, began = Books(), time.monotonic()
        with pytest.raises(ProviderError, match="in time"):
            await provider.generate(asking(meter=books))
        assert time.monotonic() - began < 2
        assert books.outcomes == ["unknown"]

    with_server([act], test, timeouts=QUICK)


def test_nobody_there_is_nothing_sent() -> None:
    async def test(provider: RemoteProvider, server: FaultServer) -> None:
        gone = settings_for(server, "chat", base_url="http://127.0.0.1:1/v1")
        books, other = Books(), RemoteProvider(gone, provider._recogniser)  # pyright: ignore[reportPrivateUsage]
        with pytest.raises(ProviderError, match="cannot be reached"):
            await other.generate(asking(meter=books))
        assert books.outcomes == ["released"] * 3
        await other.aclose()

    with_server([Act()], test)


def test_a_caller_that_goes_away_closes_the_connection_and_leaves_the_bill_open() -> None:
    async def test(provider: RemoteProvider, server: FaultServer) -> None:
        books = Books()
        task = asyncio.create_task(provider.generate(asking(meter=books)))
        while not server.log:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await nothing_open(server)
        assert books.outcomes == ["unknown"]
        server.script = lambda *_: Act(texts=("x" * 200_000,))
        generation = await provider.generate(asking(meter=books))
        await generation.aclose()
        await generation.aclose()
        await nothing_open(server)
        assert books.outcomes == ["unknown", "unknown"]

    with_server([Act(fault="silence")], test)


def test_a_meter_that_refuses_keeps_the_request_at_home() -> None:
    async def test(provider: RemoteProvider, server: FaultServer) -> None:
        with pytest.raises(ProviderError, match="Too dear"):
            await provider.generate(asking(meter=Books(refusal=ProviderError("overloaded", "Too dear."))))
        assert not server.log

    with_server([Act()], test)


def test_the_breaker_opens_probes_and_closes() -> None:
    async def test(provider: RemoteProvider, server: FaultServer) -> None:
        for _ in range(2):
            with pytest.raises(ProviderError):
                await provider.generate(asking())
        assert not provider.ready
        with pytest.raises(ProviderError, match="left alone") as alone:
            await provider.generate(asking())
        assert alone.value.retry_after and len(server.log) == 2
        await asyncio.sleep(0.2)
        assert provider.ready
        with pytest.raises(ProviderError, match="status 500"):
            await provider.generate(asking())
        assert not provider.ready
        await asyncio.sleep(0.2)
        assert (await hear(provider, asking())).usage.prompt == 10_004
        assert provider.ready

    with_server(
        [status(500), status(500), status(500), Act()],
        test,
        breaker=Breaker(failures=2, open_s=0.2),
        retries=Retries(attempts=1),
    )


def test_while_one_call_probes_no_other_does() -> None:
    now = 0.0
    breaker = CircuitBreaker(Breaker(failures=1, open_s=10), lambda: now)
    assert breaker.admit()
    breaker.failed()
    assert (breaker.state, breaker.admit(), breaker.wait) == ("open", False, 10)
    now = 10.0
    assert (breaker.state, breaker.admit(), breaker.admit()) == ("half-open", True, False)
    breaker.withdrawn()
    assert breaker.admit()
    breaker.succeeded()
    assert (breaker.state, breaker.admit(), breaker.admit()) == ("closed", True, True)


def test_calls_beyond_the_limits_wait_or_are_turned_away() -> None:
    async def test(provider: RemoteProvider, server: FaultServer) -> None:
        results = await asyncio.gather(*(hear(provider, asking()) for _ in range(5)), return_exceptions=True)
        refused = [result for result in results if isinstance(result, ProviderError)]
        assert [(error.kind, error.elsewhere) for error in refused] == [("overloaded", True)] * 2
        assert len(server.log) == 3
        assert provider.ready

    with_server([Act(delay=0.05)], test, limits=Limits(concurrency=1, waiting=2), breaker=Breaker(failures=1))


def test_keys_are_read_anew_and_never_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "key"
    file.write_text(f"{SECRET}-1\n")

    async def test(provider: RemoteProvider, server: FaultServer) -> None:
        await hear(provider, asking())
        file.write_text(f"{SECRET}-22\n")
        await hear(provider, asking())
        assert [a.headers["authorization"] for a in server.log] == [f"Bearer {SECRET}-1", f"Bearer {SECRET}-22"]
        server.script = lambda *_: status(401)
        with pytest.raises(ProviderError) as refused:
            await provider.generate(asking())
        assert SECRET not in repr(refused.value) + refused.value.message
        file.unlink()
        with pytest.raises(ProviderError, match="no usable key in its key file") as missing:
            await provider.generate(asking())
        assert missing.value.elsewhere

    with_server([Act()], test, key_file=str(file))
    monkeypatch.setenv("REMOTE_KEY", SECRET)

    async def by_variable(provider: RemoteProvider, server: FaultServer) -> None:
        await hear(provider, asking())
        assert server.log[0].headers["x-api-key"] == SECRET
        monkeypatch.setenv("REMOTE_KEY", "two\nlines")
        with pytest.raises(ProviderError, match="no usable key in the variable REMOTE_KEY"):
            await provider.generate(asking())

    with_server([Act()], by_variable, api="messages", key_env="REMOTE_KEY")


def test_an_invalid_answer_is_sent_back_with_its_errors_once() -> None:
    async def test(provider: RemoteProvider, server: FaultServer) -> None:
        books = Books()
        heard = await hear(provider, asking(constraint=SCHEMA, meter=books))
        assert (heard.choices[0].text, books.outcomes) == ('{"a": 1}', ["settled", "settled"])
        assert heard.usage.prompt == 10_001 + 10_002
        answer, complaint = server.log[1].body["messages"][-2:]
        assert answer == {"role": "assistant", "content": '{"a": "x"}'}
        assert "At /a" in complaint["content"]

    with_server([Act(('{"a": "x"}',)), Act(('{"a": 1}',))], test)


def test_an_answer_that_is_passed_on_is_not_held_back_and_ends_with_an_error_where_it_is_invalid() -> None:
    async def test(provider: RemoteProvider, server: FaultServer) -> None:
        heard = await hear(provider, asking(constraint=SCHEMA, pass_on=True))
        assert (heard.choices[0].text, heard.choices[0].deltas > 1) == ('{"a":                     1}', True)
        seen: list[Any] = []
        with pytest.raises(ProviderError) as invalid:
            await hear(provider, asking(constraint=SCHEMA, pass_on=True), seen.append)
        assert (invalid.value.kind, len(server.log)) == ("invalid_answer", 2)
        assert seen and not any(isinstance(event, Usage) for event in seen)

    with_server([Act(('{"a":                     1}',)), Act(('{"a":                     "x"}',))], test)


def test_a_stream_that_breaks_off_is_asked_for_again_only_while_nothing_has_gone_out() -> None:
    async def live(provider: RemoteProvider, server: FaultServer) -> None:
        with pytest.raises(ProviderError, match="broke off"):
            await hear(provider, asking())
        assert len(server.log) == 1

    async def held(provider: RemoteProvider, server: FaultServer) -> None:
        assert (await hear(provider, asking(constraint=SCHEMA))).choices[0].text == '{"a": 1}'
        assert len(server.log) == 2

    cut = Act(('{"a": 1}',), fault="cut", cut=0.6)
    with_server([cut, Act(('{"a": 1}',))], live)
    with_server([cut, Act(('{"a": 1}',))], held)


def test_bounds_on_what_is_read() -> None:
    async def test(provider: RemoteProvider, server: FaultServer) -> None:
        with pytest.raises(Failure, match="too long"):
            await hear(provider, asking())

    once = Retries(attempts=1)
    with_server([Act(("x" * 50_000,))], test, limits=Limits(answer_bytes=40_000), retries=once)
    with_server([Act(("x" * 50_000,), piece=50_000)], test, limits=Limits(event_bytes=40_000), retries=once)
    with_server([Act(("x" * 50_000,), whole=True)], test, limits=Limits(answer_bytes=40_000), retries=once)


@given(
    st.lists(st.text(alphabet="ab:\u00e9 ", max_size=5), max_size=5), st.sampled_from(["\n", "\r\n", "\r"]), st.data()
)
def test_events_are_the_same_however_the_bytes_are_cut(texts: list[str], end: str, data: st.DataObject) -> None:
    stream = "".join(f": ping{end}event: e{end}data: {text}{end}data:x{text}{end}{end}" for text in texts).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]

    async def chunks() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    async def run() -> list[bytes]:
        return [event async for event in events(chunks(), 1000)]

    assert asyncio.run(run()) == [f"{text}\nx{text}".encode() for text in texts]


def test_a_line_without_an_end_is_bounded() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 100

    async def run() -> None:
        async for _ in events(chunks(), 1000):
            pass

    with pytest.raises(BrokenAnswer):
        asyncio.run(run())
