"""Models, probes, figures, logs, traces, and the end of a server's life."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families

from gateway.otel import OtelTracing
from gateway.unserved import UNSERVED
from providers.base import ProviderError
from schemas.config import Settings
from tests.gateway.fakes import MODEL, TEXT, VOCAB, FakeProvider, serving
from tests.gateway.test_parameters import LEAST

ROOT = Path(__file__).parents[2]


def samples(http: httpx.Client) -> defaultdict[tuple[str, str], float]:
    """(name, route or "") → value, summed over all other labels."""
    families = text_string_to_metric_families(http.get("/metrics").text)
    values: defaultdict[tuple[str, str], float] = defaultdict(float)
    for family in families:
        for sample in family.samples:
            values[sample.name, sample.labels.get("route", "")] += sample.value
    return values


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL, "org/other"]
    assert client.models.retrieve("org/other").owned_by == "sluice"
    with pytest.raises(openai.NotFoundError, match="'nope'"):
        client.models.retrieve("nope")


def test_probes(http: httpx.Client, provider: FakeProvider) -> None:
    assert http.get("/health").json() == {"status": "ok"}
    assert http.get("/ready").status_code == 200
    provider.ready = False
    assert http.get("/ready").status_code == 503
    assert http.get("/health").status_code == 200
    provider.ready = True


def test_probes_answer_head(http: httpx.Client) -> None:
    for path in ("/health", "/ready"):
        answer = http.head(path)
        assert (answer.status_code, answer.content) == (200, b"")
        assert int(answer.headers["content-length"]) > 0


@pytest.mark.parametrize("path", UNSERVED)
def test_what_is_not_served_is_refused_by_name(http: httpx.Client, path: str) -> None:
    answer = http.post(f"/v1{path}", content=b"whatever")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unsupported_endpoint")
    assert UNSERVED[path] in answer.json()["error"]["message"]


def test_embeddings_raise_in_the_sdk(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="Embeddings are not served"):
        client.embeddings.create(model=MODEL, input="x")


def test_tokens_of_a_text_and_back(http: httpx.Client) -> None:
    answer = http.post("/tokenize", json={"model": MODEL, "prompt": "Hi!", "return_token_strs": True}).json()
    assert answer == {"count": 3, "max_model_len": 2048, "tokens": [72, 105, 33], "token_strs": ["H", "i", "!"]}
    assert http.post("/detokenize", json={"model": MODEL, "tokens": answer["tokens"]}).json() == {"prompt": "Hi!"}


def test_tokens_of_a_conversation(http: httpx.Client) -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    asked = {"model": MODEL, "messages": LEAST["chat"]["messages"], "tools": tools, "add_special_tokens": False}
    assert http.post("/tokenize", json=asked).json()["count"] == len("Hello") + len('{"type":"object"}')


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        ("/tokenize", {}, "prompt"),
        ("/tokenize", {"prompt": "a", "messages": LEAST["chat"]["messages"]}, "prompt"),
        ("/tokenize", {"prompt": "a", "add_special_tokens": False}, "add_special_tokens"),
        ("/tokenize", {"prompt": "a", "add_generation_prompt": False}, "add_generation_prompt"),
        ("/tokenize", {"prompt": "a", "tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ("/tokenize", {"prompt": "a", "continue_final_message": True}, "continue_final_message"),
        ("/detokenize", {"tokens": [VOCAB]}, "tokens"),
        ("/detokenize", {"tokens": [-1]}, "tokens[0]"),
        ("/detokenize", {}, "tokens"),
    ],
)
def test_tokens_that_make_no_sense(http: httpx.Client, path: str, fields: dict[str, Any], param: str) -> None:
    answer = http.post(path, json={"model": MODEL, **fields})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_figures(http: httpx.Client, client: openai.OpenAI, provider: FakeProvider) -> None:
    before = samples(http)
    provider.observations = [0.25, 0.5]
    client.chat.completions.create(**LEAST["chat"])
    http.request("PROPFIND", "/coffee")
    after = samples(http)

    def grown(name: str, route: str = "") -> float:
        return after[name, route] - before[name, route]

    assert after["sluice_engine_up", ""] == 1 and after["sluice_engine_running", ""] == 2
    assert after["sluice_engine_mask_misses_total", ""] == 3
    assert grown("sluice_engine_ttft_seconds_count") == 2 and grown("sluice_engine_ttft_seconds_sum") == 0.75
    assert grown("sluice_http_requests_total", "/v1/chat/completions") == 1
    assert grown("sluice_http_request_duration_seconds_count", "/v1/chat/completions") == 1
    assert grown("sluice_http_time_to_first_token_seconds_count", "/v1/chat/completions") == 1
    assert after["sluice_http_requests_in_flight", ""] == 1
    text = http.get("/metrics").text
    assert 'method="other",route="unmatched"' in text and "PROPFIND" not in text
    provider.ready = False
    gone = samples(http)
    assert gone["sluice_engine_up", ""] == 0 and ("sluice_http_requests_in_flight", "") in gone
    provider.ready = True


def test_traces_follow_the_genai_conventions() -> None:
    spans = InMemorySpanExporter()
    tracing = OtelTracing(spans, "sluice-test")
    provider = FakeProvider()
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with serving(provider, Settings(), tracing) as url:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0)
        client.chat.completions.create(**LEAST["chat"], temperature=0.5, extra_headers={"traceparent": parent})
        provider.refusal = ProviderError("overloaded", "Full.")
        with pytest.raises(openai.RateLimitError):
            client.completions.create(**LEAST["completions"])
    chat, refused = spans.get_finished_spans()
    assert chat.name == f"chat {MODEL}" and chat.parent is not None
    assert chat.attributes is not None and refused.attributes is not None
    assert chat.context is not None and f"{chat.context.trace_id:032x}" in parent
    assert f"{chat.parent.span_id:016x}" in parent
    expected = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": MODEL,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": len(TEXT),
        "gen_ai.response.finish_reasons": ("stop",),
        "http.response.status_code": 200,
    }
    assert expected.items() <= dict(chat.attributes).items()
    assert refused.name == f"text_completion {MODEL}" and not refused.status.is_ok
    assert refused.attributes["error.type"] == "overloaded"
    text = " ".join(span.to_json() for span in (chat, refused))
    assert "Hello" not in text and TEXT not in text


SERVE = """
import msgspec, sys
from gateway import logs
from gateway.server import server
from schemas.config import Server, Settings
from tests.gateway.fakes import FakeProvider, forever
import tests.gateway.fakes as fakes

class Slow(FakeProvider):
    async def aclose(self):
        await super().aclose()
        print("provider closed", flush=True)

async def counting(request):
    import asyncio
    for i in range(100):
        yield fakes.Delta(0, "x")
        await asyncio.sleep(0.01)
    yield fakes.Finished(0, "stop")
    yield fakes.Usage(1, 0, 100)

provider = Slow()
provider.script = {"counting": counting, "forever": forever}[sys.argv[1]]
logs.configure("info")
running = server(Settings(server=Server(port=0, drain_seconds=1.5)), provider)
startup = running.startup
async def announce(sockets=None):
    await startup(sockets)
    print(running.servers[0].sockets[0].getsockname()[1], flush=True)
running.startup = announce
running.run()
"""


@pytest.mark.parametrize("script", ["counting", "forever"])
def test_sigterm_drains(script: str) -> None:
    """Running streams finish within the limit, no longer ones do, and the provider is closed either way."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, script],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        url = f"http://127.0.0.1:{int(process.stdout.readline())}"
        ask = {"model": MODEL, "prompt": "the secret prompt", "stream": True}
        text = ""
        with httpx.stream("POST", f"{url}/v1/completions", json=ask, timeout=10) as stream:
            try:
                for part in stream.iter_text():
                    if not text:
                        process.send_signal(signal.SIGTERM)
                    text += part
            except httpx.RemoteProtocolError:
                assert script == "forever"
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{url}/health")
        out, err = process.communicate(timeout=10)
    finally:
        process.kill()
    assert ("[DONE]" in text) == (script == "counting")
    assert "provider closed" in out
    lines = [json.loads(line) for line in err.splitlines()]
    (request,) = (line for line in lines if line["event"] == "request")
    assert request["request_id"].startswith("req_") and request["route"] == "/v1/completions"
    assert "secret" not in err
