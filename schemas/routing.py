"""Settings of routing: who stands behind a public model name, whose policy holds for whom, what is known of providers,
and what they cost."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from msgspec import Meta, Struct

from schemas.money import Usd
from schemas.policy import LOCAL, Policy, ProviderName, Region

Name = Annotated[str, Meta(min_length=1, max_length=200)]
Host = Annotated[str, Meta(pattern=r"^(\*\.)?[a-z0-9]([a-z0-9.-]{0,250}[a-z0-9])?$")]


class Target(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A model of a provider ("local": of this server's engine). ``tier``: how good the operator finds it, 0 to 9;
    absent = not graded, which satisfies no ``min_tier`` above 0."""

    provider: ProviderName
    model: Name
    tier: Annotated[int, Meta(ge=0, le=9)] | None = None


class Route(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A public model ``name`` and who may answer for it, the preferred one first."""

    name: Name
    targets: Annotated[tuple[Target, ...], Meta(min_length=1, max_length=100)]
    policy: Policy = Policy()

    def __post_init__(self) -> None:
        names = [(target.provider, target.model) for target in self.targets]
        if len(set(names)) < len(names):
            raise ValueError(f"the route `{self.name}` has a target twice")


class ScopedPolicy(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A policy for all requests of a ``tenant``, or of one ``key`` (by its name)."""

    policy: Policy
    tenant: Name | None = None
    key: Name | None = None

    def __post_init__(self) -> None:
        if (self.tenant is None) == (self.key is None):
            raise ValueError("a policy is of a `tenant` or of a `key`")


class Fact(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is known of a ``provider`` of the settings, or of whoever answers at ``host`` ("*." before it: and below).

    ``trains``: it may train on requests. ``retention_days``: how long it may keep them, 0 = not at all. ``regions``:
    all in which it may process them. ``source`` and ``date``: who says so, and when it was read. Later entries win.
    """

    source: Name
    date: date
    provider: ProviderName | None = None
    host: Host | None = None
    trains: bool | None = None
    retention_days: Annotated[int, Meta(ge=0)] | None = None
    regions: frozenset[Region] | None = None

    def __post_init__(self) -> None:
        if (self.provider is None) == (self.host is None):
            raise ValueError("a fact is about a `provider` or about a `host`")
        if self.provider == LOCAL:
            raise ValueError("the local engine keeps, sends and trains nothing: there is nothing to say about it")


class Price(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a ``model`` of a ``provider`` costs (without ``model``: any of them), instead of the list price.

    Either dollars a million tokens, or ``usd_per_hour`` of the machine it runs on together with ``tokens_per_s``, what
    that machine generates (absent: as measured since the server was started).
    """

    provider: ProviderName
    model: Name | None = None
    prompt_usd_per_mtok: Usd | None = None
    cached_usd_per_mtok: Usd | None = None
    completion_usd_per_mtok: Usd | None = None
    usd_per_hour: Usd | None = None
    tokens_per_s: Annotated[float, Meta(gt=0)] | None = None

    def __post_init__(self) -> None:
        listed = self.prompt_usd_per_mtok is not None and self.completion_usd_per_mtok is not None
        if listed == (self.usd_per_hour is not None):
            raise ValueError("a price is of prompt and completion tokens, or of an hour")
        if self.tokens_per_s is not None and self.usd_per_hour is None:
            raise ValueError("`tokens_per_s` goes with `usd_per_hour`")
