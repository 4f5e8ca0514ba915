"""What is known of providers: whether they train on requests, how long they keep them, where they process them.

Shipped facts (`facts.toml`) are about hosts and have a source and the date on which it was read; the settings' own are
about hosts or about configured providers, come later, and win. Whoever nothing is known of satisfies no rule.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from schemas.policy import LOCAL
from schemas.routing import Fact

Hosting = Literal["local", "self_hosted", "managed"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Whom a provider of the settings talks to. ``base_url`` is empty for the engine in this server."""

    name: str
    hosting: Hosting
    base_url: str = ""

    @property
    def host(self) -> str:
        return urlsplit(self.base_url).hostname or ""


LOCAL_ENDPOINT = Endpoint(LOCAL, "local")


@dataclass(frozen=True, slots=True)
class Known:
    """The facts about one endpoint; None = not known. ``sources``: fact → "source (date)"."""

    trains: bool | None = None
    retention_days: int | None = None
    regions: frozenset[str] | None = None
    sources: tuple[tuple[str, str], ...] = ()


KINDS = ("trains", "retention_days", "regions")
NOWHERE_ELSE = Known(False, 0, frozenset())
"""Of the local engine: nothing leaves this server."""


def known_of(endpoint: Endpoint, facts: Iterable[Fact]) -> Known:
    """What is known of ``endpoint``. A server of the operator's own trains nobody else's models; how long it keeps its
    logs, and where it stands, only the operator can say."""
    if endpoint.hosting == "local":
        return NOWHERE_ELSE
    values: dict[str, bool | int | frozenset[str]] = {}
    sources: dict[str, str] = {}
    if endpoint.hosting == "self_hosted":
        values["trains"], sources["trains"] = False, "self-hosted"
    for fact in (*shipped(), *facts):
        if not _about(fact, endpoint):
            continue
        for kind in KINDS:
            value = getattr(fact, kind)
            if value is not None:
                values[kind] = value
                sources[kind] = f"{fact.source} ({fact.date.isoformat()})"
    return Known(**values, sources=tuple(sources.items()))  # type: ignore[arg-type]


def _about(fact: Fact, endpoint: Endpoint) -> bool:
    if fact.provider is not None:
        return fact.provider == endpoint.name
    assert fact.host is not None
    if fact.host.startswith("*."):
        return endpoint.host.endswith(fact.host[1:])
    return endpoint.host == fact.host


class _File(msgspec.Struct, forbid_unknown_fields=True):
    facts: tuple[Fact, ...]


@cache
def shipped() -> tuple[Fact, ...]:
    """The facts that come with Sluice."""
    text = files("gateway.policy").joinpath("facts.toml").read_text()
    return msgspec.convert(tomllib.loads(text), _File).facts
