"""A server that keeps things, and clients of two tenants."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import openai

from schemas.config import Auth, Responses, Settings
from schemas.config import Database as Place
from tests.gateway.fakes import FakeProvider, serving
from tests.gateway.test_auth import key

KEYS = (key("ci", "sk-first", "acme"), key("app", "sk-second", "acme"), key("lab", "sk-third", "lab"))


@dataclass(frozen=True)
class Served:
    provider: FakeProvider
    url: str

    def client(self, key: str = "sk-first") -> openai.OpenAI:
        """ "sk-first" and "sk-second" are one tenant's, "sk-third" is another's."""
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0)


@contextmanager
def served_at(database_url: str, **settings: Any) -> Iterator[Served]:
    provider = FakeProvider()
    kept = {"auth": Auth(keys=KEYS), "responses": Responses(store=True), "database": Place(url=database_url)}
    with serving(provider, Settings(**kept | settings)) as url:
        yield Served(provider, url)
