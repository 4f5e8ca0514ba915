"""Who there is: providers by name, the public names of models, and what is known of each candidate.

a public name ─▶ a route's targets │ a model of the local engine │ provider/model ─▶ candidates for one request
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from gateway.policy.facts import LOCAL_ENDPOINT, Endpoint, Known, known_of
from gateway.policy.prices import MTOK, PriceBook, Tokens
from gateway.policy.selection import Candidate
from gateway.routing.bounds import most_tokens
from gateway.routing.figures import RoutingFigures
from gateway.routing.measuring import Paces
from providers.base import GenerateRequest, Provider, ProviderError
from schemas.engine import ModelCard
from schemas.policy import LOCAL, Enforcement, Policy
from schemas.routing import Fact, Price, Route, Target


class Judge(Protocol):
    """Says what a provider would make of a request, without sending it anywhere."""

    def unfit(self, request: GenerateRequest) -> str:
        """Why it cannot serve the request, "" if it can."""
        ...

    async def enforcement(self, request: GenerateRequest) -> Enforcement | None:
        """How it would hold the constraint; None where there is none, or where it would refuse it."""
        ...


class EngineJudge:
    """The local engine refuses for itself, and masks."""

    def unfit(self, request: GenerateRequest) -> str:
        return ""

    async def enforcement(self, request: GenerateRequest) -> Enforcement | None:
        return "engine" if request.constraint is not None or request.tools is not None else None


@dataclass(frozen=True, slots=True)
class Member:
    """A provider with what routing must know of it. ``upstreams``: model → what it is called by who sets its price,
    where that is another name. ``max_outputs``: model → tokens of an answer, where there is such a limit. ``breaker``:
    the state of its circuit breaker, where it has one."""

    endpoint: Endpoint
    provider: Provider
    judge: Judge = field(default_factory=EngineJudge)
    upstreams: Mapping[str, str] = field(default_factory=dict[str, str])
    max_outputs: Mapping[str, int] = field(default_factory=dict[str, int])
    breaker: Callable[[], str] | None = None

    @property
    def name(self) -> str:
        return self.endpoint.name

    def card(self, model: str) -> ModelCard | None:
        return next((card for card in self.provider.models() if card.name == model), None)


def local_member(provider: Provider) -> Member:
    return Member(LOCAL_ENDPOINT, provider)


class Directory:
    """``members``: the local engine first. ``routes`` lead to these. ``paces`` and ``figures``: of the directory that
    this one comes after, if it does."""

    def __init__(
        self,
        members: Iterable[Member],
        routes: Iterable[Route],
        facts: Iterable[Fact],
        prices: Iterable[Price],
        paces: Paces | None = None,
        figures: RoutingFigures | None = None,
    ) -> None:
        self.members = {member.name: member for member in members}
        self.paces = paces or Paces()
        self.figures = figures or RoutingFigures()
        self.prices = PriceBook(prices)
        self._routes = {route.name: route for route in routes}
        kept = tuple(facts)
        self._known: dict[str, Known] = {
            member.name: known_of(member.endpoint, kept) for member in self.members.values()
        }

    def models(self) -> list[ModelCard]:
        """Everything that can be asked for by name: routes, local models, and other models as ``provider/model``."""
        cards = {route.name: self._routed(route) for route in self._routes.values()}
        for member in self.members.values():
            for card in member.provider.models():
                name = card.name if member.name == LOCAL else f"{member.name}/{card.name}"
                cards.setdefault(name, card if card.name == name else _named(card, name))
        return [card for card in cards.values() if card is not None]

    def policy(self, model: str) -> Policy | None:
        """That of the route with this name."""
        route = self._routes.get(model)
        return route.policy if route else None

    def targets(self, model: str) -> tuple[Target, ...]:
        """Who may stand behind a public name. Raises `ProviderError` "unknown_model"."""
        if model in self._routes:
            return self._routes[model].targets
        provider, slash, name = model.partition("/")
        local = self.members[LOCAL]
        if local.card(model) is not None:
            return (Target(provider=LOCAL, model=model),)
        if slash and provider in self.members and self.members[provider].card(name) is not None:
            return (Target(provider=provider, model=name),)
        raise ProviderError("unknown_model", f"The model `{model}` does not exist.", param="model")

    async def candidates(self, request: GenerateRequest, *, enforcement: bool) -> tuple[Candidate, ...]:
        """Whoever stands behind the request's model, as it looks for this request. ``enforcement``: find out how they
        would hold its constraint, which may take a compile. Raises `ProviderError` "unknown_model"."""
        found = tuple(self._candidate(target, request) for target in self.targets(request.model))
        return tuple([await self._judged(one, request) for one in found]) if enforcement else found

    async def _judged(self, candidate: Candidate, request: GenerateRequest) -> Candidate:
        judge = self.members[candidate.endpoint.name].judge
        if candidate.unfit:
            return candidate
        try:
            held = await judge.enforcement(replace(request, model=candidate.model))
        except ProviderError as error:
            return replace(candidate, unfit=error.message)
        return replace(candidate, enforcement=held)

    def cost(self, candidate: Candidate, tokens: Tokens) -> int | None:
        """Nano-dollars; None where the price is not known."""
        upstream = self.members[candidate.endpoint.name].upstreams.get(candidate.model, candidate.model)
        return self.prices.cost(candidate.endpoint, upstream, tokens, candidate.tokens_per_s)

    def most(self, candidate: Candidate, request: GenerateRequest) -> Tokens:
        """The most tokens that one call for ``request`` can have there."""
        member = self.members[candidate.endpoint.name]
        card = member.card(candidate.model)
        assert card is not None, "a candidate is a model that is served"
        return most_tokens(request, card.context_length, member.max_outputs.get(candidate.model))

    def _candidate(self, target: Target, request: GenerateRequest) -> Candidate:
        member = self.members[target.provider]
        pace = self.paces.of(target.provider, target.model)
        found = Candidate(
            member.endpoint,
            target.model,
            self._known[target.provider],
            target.tier,
            ttft_s=pace.ttft_s,
            tokens_per_s=pace.tokens_per_s,
        )
        if member.card(target.model) is None:
            return replace(found, unfit="it does not serve this model now")
        return replace(
            found,
            unfit=member.judge.unfit(replace(request, model=target.model)),
            max_nano_usd=self.cost(found, self.most(found, request)),
            prompt_nano_usd=self.cost(found, Tokens(MTOK, 0, 0)),
            completion_nano_usd=self.cost(found, Tokens(0, 0, MTOK)),
        )

    def _routed(self, route: Route) -> ModelCard | None:
        """The card of the target with the longest context. With one target its tokens are the route's; with several
        there are none to speak of."""
        cards = [(target, self.members[target.provider].card(target.model)) for target in route.targets]
        there = [card for _, card in cards if card is not None]
        if not there:
            return None
        longest = max(there, key=lambda card: card.context_length)
        card = _named(longest, route.name)
        if len(route.targets) > 1:
            card.vocab_size, card.eos_ids, card.precision = 0, [], ""
        return card


def _named(card: ModelCard, name: str) -> ModelCard:
    return ModelCard(
        name, card.source, card.context_length, card.kv_tokens, card.vocab_size, card.eos_ids, card.precision
    )
