"""OpenRouter's preferences mean the same here, or are refused by name."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.errors import ApiError
from gateway.policy.openrouter import policy_of
from schemas.policy import Policy, ProviderPreferences


def read(given: dict[str, Any]) -> Policy:
    return policy_of(msgspec.json.decode(msgspec.json.encode(given), type=ProviderPreferences))


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({}, Policy()),
        ({"require_parameters": True}, Policy()),
        ({"only": ["a"], "ignore": ["b"]}, Policy(allow_providers=frozenset("a"), deny_providers=frozenset("b"))),
        ({"data_collection": "allow"}, Policy()),
        ({"data_collection": "deny"}, Policy(no_training=True, zero_retention=True)),
        ({"zdr": True}, Policy(zero_retention=True)),
        ({"sort": "price"}, Policy(sort="price")),
        ({"order": ["b", "a"]}, Policy(order=("b", "a"))),
        ({"allow_fallbacks": False}, Policy(fallbacks=False)),
        (
            {"order": ["b", "a"], "allow_fallbacks": False, "only": ["a", "c"]},
            Policy(order=("b", "a"), allow_providers=frozenset("a")),
        ),
        (
            {"max_price": {"prompt": 0.1, "completion": "2.50"}},
            Policy(max_prompt_usd_per_mtok="0.1", max_completion_usd_per_mtok="2.5"),
        ),
        ({"max_price": {"prompt": 0.12345678987}}, Policy(max_prompt_usd_per_mtok="0.123456789")),
    ],
)
def test_meanings(given: dict[str, Any], meant: Policy) -> None:
    assert read(given) == meant


@pytest.mark.parametrize("name", ["quantizations", "enforce_distillable_text", "preferred_min_throughput"])
def test_what_means_nothing_here_is_refused_by_name(name: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=name):
        read({name: ["x"]})


@pytest.mark.parametrize("price", [-1, "NaN", "Infinity", "much", 1e12])
def test_prices_are_amounts(price: object) -> None:
    with pytest.raises(ApiError) as refused:
        read({"max_price": {"prompt": price}})
    assert refused.value.param == "provider.max_price.prompt"
