"""What an API would charge for a load: its rates for a request of the load's average size, times the load's tokens.

Where the price depends on the length of a prompt, all requests are taken to be of average length. Tokens are those that
were counted; another model's tokenizer may make some per cent more or fewer of the same text.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction

from gateway.planning.load import Load
from gateway.planning.problem import PlanProblem
from gateway.policy.facts import Endpoint
from gateway.policy.prices import MTOK, PriceBook, Tokens, listed_cost
from schemas.config import Settings
from schemas.money import NANO

Cost = Callable[[Tokens], int | None]


@dataclass(frozen=True, slots=True)
class Api:
    """``name``: provider/model. ``cost``: nano-dollars of a request, None where no price is known."""

    name: str
    cost: Cost


@dataclass(frozen=True, slots=True)
class Rates:
    """Dollars a token."""

    prompt: Fraction
    cached: Fraction
    completion: Fraction

    def of(self, load: Load, cached_share: Fraction) -> Fraction:
        """Dollars for ``load``, of whose prompts such a share is charged as read from the API's cache."""
        prompt = (1 - cached_share) * self.prompt + cached_share * self.cached
        return load.prompt * prompt + load.completion * self.completion


def rates(api: Api, load: Load) -> Rates:
    """Raises `PlanProblem` where no price is known."""
    size = max(1, math.ceil(load.prompt / max(1, load.requests)))
    prompt = _cost(api, Tokens(size, 0, 0))
    cached = _cost(api, Tokens(size, size, 0))
    both = _cost(api, Tokens(size, 0, MTOK))
    return Rates(Fraction(prompt, size * NANO), Fraction(cached, size * NANO), Fraction(both - prompt, MTOK * NANO))


def _cost(api: Api, tokens: Tokens) -> int:
    nano = api.cost(tokens)
    if nano is None:
        raise PlanProblem(f"what {api.name} costs is not known: give it a price in [[prices]] of the settings")
    return nano


def configured_apis(settings: Settings) -> Iterator[Api]:
    """The models of the settings' managed providers, at the settings' prices or by the list."""
    book = PriceBook(settings.prices)
    for provider in settings.providers:
        if provider.hosting == "managed":
            endpoint = Endpoint(provider.name, provider.hosting, provider.url)
            for model in provider.models:
                yield Api(f"{provider.name}/{model.name}", _costing(book, endpoint, model.upstream or model.name))


def api_named(name: str, settings: Settings) -> Api:
    """One of the settings, or of genai-prices' list by the name that its provider has there (openai, anthropic, google,
    mistral ...). Raises `PlanProblem`."""
    for api in configured_apis(settings):
        if api.name == name:
            return api
    provider, slash, model = name.partition("/")
    if not slash:
        raise PlanProblem(f"'{name}' is no API: give PROVIDER/MODEL, as in openai/gpt-5-mini")
    return Api(name, lambda tokens: listed_cost(provider, model, tokens))


def _costing(book: PriceBook, endpoint: Endpoint, model: str) -> Cost:
    return lambda tokens: book.cost(endpoint, model, tokens)
