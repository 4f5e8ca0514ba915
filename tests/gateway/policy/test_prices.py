"""Prices: exact integers, rounded up, from the settings before the lists."""

from __future__ import annotations

from decimal import Decimal

import genai_prices
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.facts import LOCAL_ENDPOINT, Endpoint
from gateway.policy.prices import PriceBook, Tokens
from schemas.money import NANO, nano_usd, usd_text
from schemas.routing import Price

OPENAI = Endpoint("openai", "managed", "https://api.openai.com/v1")
OURS = Endpoint("ours", "self_hosted", "http://10.0.0.1/v1")
PER_TOKEN = Price(provider="openai", prompt_usd_per_mtok="1.1", cached_usd_per_mtok="0.1", completion_usd_per_mtok="7")
counts = st.integers(0, 10**7)


@given(st.integers(0, 10**18))
def test_dollars_as_text_are_exact(nano: int) -> None:
    assert nano_usd(usd_text(nano)) == nano
    assert Decimal(usd_text(nano)) * NANO == nano


@given(counts, counts, counts)
def test_own_prices_are_what_the_sum_says_rounded_up(fresh: int, cached: int, completion: int) -> None:
    cost = PriceBook([PER_TOKEN]).cost(OPENAI, "gpt-4o", Tokens(fresh + cached, cached, completion))
    assert cost is not None
    exact = (fresh * 11 + cached * 1 + completion * 70) * 100
    assert cost == exact  # a token at $1.1 a million is 1,100 nano-dollars: nothing to round


def test_fractions_of_a_nano_dollar_are_rounded_up() -> None:
    tiny = Price(provider="openai", prompt_usd_per_mtok="0.0001", completion_usd_per_mtok="0")
    assert PriceBook([tiny]).cost(OPENAI, "m", Tokens(11, 0, 0)) == 2


def test_a_price_of_a_model_wins_over_one_of_its_provider() -> None:
    free = Price(provider="openai", model="gpt-4o", prompt_usd_per_mtok="0", completion_usd_per_mtok="0")
    book = PriceBook([free, PER_TOKEN])
    assert book.cost(OPENAI, "gpt-4o", Tokens(9, 0, 9)) == 0
    assert book.cost(OPENAI, "gpt-4o-mini", Tokens(9, 0, 9)) == 9 * 1100 + 9 * 7000


def test_list_prices_are_those_of_genai_prices() -> None:
    usage = genai_prices.Usage(input_tokens=1000, cache_read_tokens=100, output_tokens=500)
    listed = genai_prices.calc_price(usage, "gpt-4o", provider_id="openai").total_price
    assert PriceBook([]).cost(OPENAI, "gpt-4o", Tokens(1000, 100, 500)) == nano_usd(listed) > 0


@pytest.mark.parametrize("endpoint", [OPENAI, Endpoint("new", "managed", "https://api.example.com/v1")])
def test_what_nobody_lists_has_no_price(endpoint: Endpoint) -> None:
    assert PriceBook([]).cost(endpoint, "no-such-model", Tokens(1, 0, 1)) is None


def test_own_machines_cost_nothing_unless_the_operator_says_so() -> None:
    assert PriceBook([]).cost(LOCAL_ENDPOINT, "m", Tokens(10**6, 0, 10**6)) == 0
    assert PriceBook([]).cost(OURS, "m", Tokens(10**6, 0, 10**6)) == 0


def test_a_price_by_the_hour_becomes_one_by_the_token() -> None:
    told = Price(provider="ours", usd_per_hour="3.6", tokens_per_s=1000.0)
    assert PriceBook([told]).cost(OURS, "m", Tokens(500, 0, 2000), tokens_per_s=1.0) == nano_usd("0.002")
    measured = PriceBook([Price(provider="ours", usd_per_hour="3.6")])
    assert measured.cost(OURS, "m", Tokens(500, 0, 2000), tokens_per_s=500.0) == nano_usd("0.004")
    assert measured.cost(OURS, "m", Tokens(500, 0, 2000)) is None


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"prompt_usd_per_mtok": "1"},
        {"prompt_usd_per_mtok": "1", "completion_usd_per_mtok": "1", "usd_per_hour": "1"},
        {"prompt_usd_per_mtok": "1", "completion_usd_per_mtok": "1", "tokens_per_s": 1.0},
    ],
)
def test_half_a_price_is_refused(given: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"price|tokens_per_s"):
        Price(provider="ours", **given)  # type: ignore[arg-type]
