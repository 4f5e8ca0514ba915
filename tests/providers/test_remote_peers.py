"""LiteLLM's proxy between a provider and a second Sluice: what somebody else makes of the same APIs.

Its environment is made by `make clients`; the tests are skipped where it is missing.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from gateway import logs
from providers.base import Admission, GenerateRequest, Tool, Tools
from providers.remote.provider import RemoteProvider
from providers.remote.recognition import Recogniser
from schemas.config import Settings
from schemas.constraint import JsonSchemaSpec
from schemas.providers import Kind, ProviderSettings, RemoteModel, Retries
from tests.gateway.fakes import MODEL, TEXT, FakeProvider, serving
from tests.providers.remote_cases import Heard, hear
from tests.providers.test_remote_sluice import SCHEMA, TALK, saying

LITELLM = Path(__file__).parents[2] / ".venv-clients" / "peers" / "bin" / "litellm"
PATIENCE_S = 240

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not LITELLM.exists(), reason="LiteLLM's environment is missing: make clients"),
]


@dataclass
class Peer:
    url: str
    key_file: Path
    fake: FakeProvider


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    logs.configure("error")
    fake = FakeProvider()
    with serving(fake, Settings()) as url, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        folder = tmp_path_factory.mktemp("litellm")
        behind = {"model": f"hosted_vllm/{MODEL}", "api_base": f"{url}/v1", "api_key": "none"}
        config = {"model_list": [{"model_name": "through", "litellm_params": behind}]}
        (folder / "config.yaml").write_text(json.dumps(config))  # JSON is YAML
        command = [LITELLM, "--config", folder / "config.yaml", "--host", "127.0.0.1", "--port", str(port)]
        key = f"sk-{secrets.token_hex(32)}"
        (folder / "key").write_text(key)
        environ = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MASTER_KEY": key}
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env=environ, cwd=folder)
        try:
            proxy = f"http://127.0.0.1:{port}"
            wait_for(f"{proxy}/health/liveliness", process, folder / "log")
            yield Peer(proxy, folder / "key", fake)
        finally:
            process.terminate()
            process.wait()


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()[-2000:]
        try:
            if httpx.get(url, timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.5)


FACES: tuple[Kind, ...] = ("openai-compatible", "anthropic")


@pytest.mark.parametrize("kind", FACES)
def test_it_passes_on_what_it_is_asked(peer: Peer, kind: Kind) -> None:
    settings = ProviderSettings(
        name="litellm",
        kind=kind,
        base_url=f"{peer.url}/v1",
        models=(RemoteModel(name="ours", upstream="through", max_output=500),),
        hosting="self_hosted",
        key_file=str(peer.key_file),
        retries=Retries(attempts=1, repairs=0),
    )

    async def run(*requests: tuple[GenerateRequest, FakeScript]) -> list[Heard]:
        recogniser = Recogniser()
        provider = RemoteProvider(settings, recogniser)
        found: list[Heard] = []
        for request, prepare in requests:
            peer.fake.reset()
            prepare(peer.fake)
            found.append(await hear(provider, request))
        await provider.aclose()
        recogniser.close()
        return found

    tools = Tools((Tool("f", SCHEMA, "Does it."),), ("f",), required=True, parallel=False)
    plain, held, called = asyncio.run(
        run(
            (GenerateRequest("r", "ours", TALK), FakeScript()),
            (GenerateRequest("r", "ours", TALK, constraint=JsonSchemaSpec(SCHEMA)), FakeScript('{"a": 1}')),
            (GenerateRequest("r", "ours", TALK, tools=tools), FakeScript("", ("f", '{"a": 1}'))),
        )
    )
    assert plain.choices[0].text == TEXT
    assert held.choices[0].text == '{"a": 1}'
    assert [(name, json.loads(text)) for name, text in called.choices[0].calls] == [("f", {"a": 1})]
    assert all(heard.usage.estimated or heard.usage.prompt for heard in (plain, held, called))


class FakeScript:
    """What the server at the far end says; without a text, what it says by itself."""

    def __init__(self, text: str | None = None, *calls: tuple[str, str]) -> None:
        self._text = text
        self._calls = calls

    def __call__(self, fake: FakeProvider) -> None:
        if self._text is not None:
            fake.script = saying(self._text, *self._calls)
            fake.admission = Admission(7, "engine", "exact")
