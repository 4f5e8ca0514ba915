"""No byte of a request reaches a provider that one of its policies excludes: not first, not as a fallback, a hedge or a
step of a cascade, whatever fails; and none is in a log.

Each provider keeps all that it sees. Whom a policy excludes is told here by other words than in `gateway.policy`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

import structlog.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.base import Message, ProviderError
from schemas.policy import Policy
from schemas.routing import Fact, ScopedPolicy
from tests.gateway.routing.fakes import Behaviour, Fake, ask, house, read

SECRET = "the launch is on the ninth"
MAIL = "jane.doe@corp.example"
NAMES = ("a", "b", "c")


@dataclass(frozen=True)
class Told:
    """What the operator knows of a provider."""

    hosting: Literal["local", "self_hosted", "managed"]
    trains: bool | None
    retention_days: int | None
    regions: frozenset[str] | None

    def facts(self, name: str) -> list[Fact]:
        given = {"trains": self.trains, "retention_days": self.retention_days, "regions": self.regions}
        return [
            Fact(provider=name, source="test", date=date(2026, 1, 1), **{kind: value})  # type: ignore[arg-type]
            for kind, value in given.items()
            if value is not None
        ]

    def may_see(self, name: str, policy: Policy) -> bool:
        if name in policy.deny_providers or f"{name}/m" in policy.deny_models:
            return False
        if policy.allow_providers is not None and name not in policy.allow_providers:
            return False
        if policy.allow_models is not None and f"{name}/m" not in policy.allow_models:
            return False
        if self.hosting == "local":
            return True
        if policy.local_only or (policy.self_hosted_only and self.hosting == "managed"):
            return False
        trains = False if self.trains is None and self.hosting == "self_hosted" else self.trains
        if policy.no_training and trains is not False:
            return False
        if policy.zero_retention and self.retention_days != 0:
            return False
        return policy.regions is None or bool(self.regions and self.regions <= policy.regions)


regions = st.frozensets(st.sampled_from(["eu", "us"]))
tables = st.fixed_dictionaries(
    {
        name: st.builds(
            Told,
            st.sampled_from(["managed", "self_hosted"]),
            st.none() | st.booleans(),
            st.none() | st.sampled_from([0, 30]),
            st.none() | regions,
        )
        for name in NAMES
    }
)
some = st.frozensets(st.sampled_from([*NAMES, "local"]), max_size=2)
RULES: dict[str, st.SearchStrategy[Any]] = {
    "local_only": st.just(True),
    "self_hosted_only": st.just(True),
    "no_training": st.just(True),
    "zero_retention": st.just(True),
    "regions": regions,
    "deny_providers": some,
    "allow_providers": st.frozensets(st.sampled_from([*NAMES, "local"]), min_size=2),
    "deny_models": some.map(lambda names: frozenset(f"{name}/m" for name in names)),
    "pii": st.sampled_from(["redact", "route_local", "block"]),
}
privacy = st.lists(st.sampled_from([*RULES, *[""] * 10]), max_size=1).flatmap(
    lambda names: st.fixed_dictionaries({name: RULES[name] for name in names if name})
)
"""At most one rule a source, and often none: who excludes everybody proves nothing."""

ways = st.fixed_dictionaries(
    {},
    optional={
        "fallbacks": st.booleans(),
        "hedge_after_s": st.just(0.001),
        "cascade_min_confidence": st.sampled_from([0.5, 0.99]),
        "max_ttft_s": st.just(0.004),
        "order": st.lists(st.sampled_from([*NAMES, "local"]), max_size=3).map(tuple),
        "sort": st.sampled_from(["price", "latency"]),
    },
)
down = ProviderError("unavailable", "It is down.", elsewhere=True)
behaviours = st.builds(
    Behaviour,
    before_s=st.sampled_from([0.0, 0.0, 0.01]),
    refusal=st.sampled_from([None, None, down]),
    breaks_after=st.sampled_from([None, None, 0, 2]),
    logprob=st.sampled_from([None, -0.01, -2.0]),
    calls=st.integers(1, 3),
)
faults = st.fixed_dictionaries({name: st.lists(behaviours, max_size=2) for name in [*NAMES, "local"]})


@settings(max_examples=250, deadline=None)
@given(tables, st.permutations([*NAMES, "local"]), faults, privacy, privacy, privacy, privacy, ways)
def test_no_byte_reaches_whom_a_policy_excludes(
    table: dict[str, Told],
    order: list[str],
    faulty: dict[str, list[Behaviour]],
    of_server: dict[str, Any],
    of_tenant: dict[str, Any],
    of_key: dict[str, Any],
    of_request: dict[str, Any],
    way: dict[str, Any],
) -> None:
    everybody = {**table, "local": Told("local", None, None, None)}
    held = [Policy(**of_server), Policy(**of_tenant), Policy(**of_key), Policy(**of_request, **way)]
    one = house(
        *(Fake(name, everybody[name].hosting, list(faulty[name])) for name in order),
        facts=[fact for name, told in table.items() for fact in told.facts(name)],
        server=held[0],
        scoped=[ScopedPolicy(tenant="t", policy=held[1]), ScopedPolicy(key="k", policy=held[2])],
        tiers={name: i for i, name in enumerate(NAMES)},
    )
    prompt = (Message("system", SECRET), Message("user", f"Write to {MAIL}"))
    with structlog.testing.capture_logs() as logs:
        asyncio.run(_ask(one, ask(held[3], prompt=prompt, tenant="t", key="k")))
    for name, told in everybody.items():
        seen = one.fakes[name].seen
        assert not seen or all(told.may_see(name, policy) for policy in held), f"{name} saw the request"
        if told.hosting != "local" and any(policy.pii != "allow" for policy in held):
            assert MAIL not in repr(seen)
        if any(policy.pii == "block" for policy in held):
            assert not seen
    assert SECRET not in repr(logs) and MAIL not in repr(logs)
    written = repr([entry.reservation for entry in one.ledger.entries])
    assert SECRET not in written and MAIL not in written
    assert all(entry.state != "reserved" for entry in one.ledger.entries)
    assert all(fake.open == 0 for fake in one.fakes.values())


async def _ask(one: Any, request: Any) -> None:
    """What comes of it is told by other tests; that errors quote nothing is told here."""
    try:
        await read(one.router, request)
    except ProviderError as error:
        assert SECRET not in error.message and MAIL not in error.message
