"""Random policies and random candidates, over few names so that they meet."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from gateway.policy.facts import LOCAL_ENDPOINT, NOWHERE_ELSE, Endpoint, Known
from gateway.policy.selection import Candidate
from schemas.policy import ENFORCEMENT_LEVELS, PII_LEVELS, Policy, Rules

PROVIDERS = ("local", "ours", "theirs", "others")
MODELS = ("small", "large")
REGIONS = ("eu", "us", "ch")

providers = st.frozensets(st.sampled_from(PROVIDERS))
targets = st.frozensets(st.sampled_from([f"{provider}/{model}" for provider in PROVIDERS for model in MODELS]))
regions = st.frozensets(st.sampled_from(REGIONS))
dollars = st.sampled_from(["0", "0.001", "0.0010", "0.5", "1", "20"])
seconds = st.sampled_from([0.05, 0.5, 1.0, 30.0])

RULES: dict[str, st.SearchStrategy[Any]] = {
    "local_only": st.booleans(),
    "self_hosted_only": st.booleans(),
    "no_training": st.booleans(),
    "zero_retention": st.booleans(),
    "regions": st.none() | regions,
    "pii": st.sampled_from(PII_LEVELS),
    "max_usd": st.none() | dollars,
    "max_prompt_usd_per_mtok": st.none() | dollars,
    "max_completion_usd_per_mtok": st.none() | dollars,
    "max_ttft_s": st.none() | seconds,
    "max_total_s": st.none() | seconds,
    "min_tier": st.integers(0, 3),
    "allow_providers": st.none() | providers,
    "deny_providers": providers,
    "allow_models": st.none() | targets,
    "deny_models": targets,
    "require_enforcement": st.none() | st.sampled_from(ENFORCEMENT_LEVELS),
    "fallbacks": st.booleans(),
}
PREFERENCES: dict[str, st.SearchStrategy[Any]] = {
    "order": st.none() | st.lists(st.sampled_from([*PROVIDERS, "ours/large"]), max_size=3).map(tuple),
    "sort": st.sampled_from([None, "price", "latency", "throughput"]),
    "hedge_after_s": st.none() | seconds,
    "cascade_min_confidence": st.none() | st.sampled_from([0.1, 0.9]),
}


def _some(fields: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Few fields at a time: policies that forbid everything are dull."""
    names = st.lists(st.sampled_from(sorted(fields)), max_size=4, unique=True)
    return names.flatmap(lambda chosen: st.fixed_dictionaries({name: fields[name] for name in chosen}))


rules = _some(RULES).map(lambda given: Rules(**given))
policies = st.tuples(_some(RULES), _some(PREFERENCES)).map(lambda given: Policy(**given[0], **given[1]))

known = st.builds(Known, st.none() | st.booleans(), st.none() | st.sampled_from([0, 30]), st.none() | regions)
endpoints = st.builds(Endpoint, st.sampled_from(PROVIDERS[1:]), st.sampled_from(["self_hosted", "managed"]))
nano = st.none() | st.integers(0, 3_000_000_000)
local_candidates = st.builds(
    Candidate,
    st.just(LOCAL_ENDPOINT),
    st.sampled_from(MODELS),
    st.just(NOWHERE_ELSE),
    tier=st.none() | st.integers(0, 3),
    enforcement=st.sampled_from([None, "engine"]),
    max_nano_usd=nano,
)
remote_candidates = st.builds(
    Candidate,
    endpoints,
    st.sampled_from(MODELS),
    known,
    tier=st.none() | st.integers(0, 3),
    enforcement=st.sampled_from([None, *ENFORCEMENT_LEVELS]),
    unfit=st.sampled_from(["", "", "it has no such parameter"]),
    max_nano_usd=nano,
    prompt_nano_usd=nano,
    completion_nano_usd=nano,
    ttft_s=st.none() | seconds,
)
candidates = st.lists(local_candidates | remote_candidates, max_size=6).map(tuple)
