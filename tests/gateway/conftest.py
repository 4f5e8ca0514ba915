"""One server for all tests of this folder, and a scripted provider that each test finds fresh."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import openai
import pytest

from gateway import logs
from gateway.database.database import Database
from gateway.database.place import database_at
from schemas.config import Server, Settings
from tests.gateway.databases import Postgres, running_postgres
from tests.gateway.fakes import FakeProvider, serving

MAX_BODY_BYTES = 100_000


@pytest.fixture(scope="session")
def shared() -> Iterator[tuple[FakeProvider, str]]:
    logs.configure("error")
    provider = FakeProvider()
    with serving(provider, Settings(server=Server(max_body_bytes=MAX_BODY_BYTES))) as url:
        yield provider, url


@pytest.fixture
def provider(shared: tuple[FakeProvider, str]) -> Iterator[FakeProvider]:
    provider, _ = shared
    provider.reset()
    yield provider
    provider.reset()


@pytest.fixture
def url(shared: tuple[FakeProvider, str], provider: FakeProvider) -> str:
    return shared[1]


@pytest.fixture(scope="session")
def shared_client(shared: tuple[FakeProvider, str]) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{shared[1]}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
def client(shared_client: openai.OpenAI, provider: FakeProvider) -> openai.OpenAI:
    return shared_client


@pytest.fixture
def http(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url) as http:
        yield http


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    yield from running_postgres(tmp_path_factory.mktemp("postgres"))


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of an empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'data' / 'sluice.db'}"
    return request.getfixturevalue("postgres").fresh()


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = database_at(database_url)
    await database.open()
    yield database
    await database.aclose()
