"""The provider that asks others: under a request's policies it picks who may answer, asks them, and says who did.

    policies ─▶ candidates ─▶ selection ─▶ personal data ─▶ race (fallback, hedge) or cascade ─▶ RoutedGeneration

Whoever the selection leaves out is never in the race, and a leg is the only thing that sends: so no fallback, hedge,
retry or cascade can reach further than the first choice could. Without remote providers there is one candidate, and the
way is short.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

import msgspec

from gateway.ledger.refusals import Refused
from gateway.policy.pii.finding import Finder
from gateway.policy.pii.redaction import BUILT_IN, Redaction, guard, refuse
from gateway.policy.selection import Candidate, Selection, select
from gateway.routing.answering import RoutedGeneration, late
from gateway.routing.bill import Bill
from gateway.routing.cascading import confidence, scored, unscored
from gateway.routing.directory import Directory
from gateway.routing.ledger import Ledger
from gateway.routing.leg import Leg
from gateway.routing.lineup import Lineup, Succession
from gateway.routing.policies import Policies
from gateway.routing.racing import Failure, Race, named
from gateway.routing.weighing import as_generation, places, weigh, weighing
from providers.base import (
    GenerateRequest,
    Generation,
    GenerationEvent,
    Prompt,
    Provider,
    ProviderError,
    Served,
    Tool,
    Weighed,
    WeighRequest,
)
from schemas.constraint import ConstraintSpec
from schemas.engine import Inspected, ModelCard, Report
from schemas.money import nano_usd
from schemas.policy import LOCAL, Policy

POLICY_FIELD = "sluice.policy"


class Router:
    """Implements `providers.base.Provider` and `Weigher` over the members of ``directory``, or of the one that came
    after it."""

    def __init__(self, directory: Directory, ledger: Ledger, policies: Policies, finder: Finder = BUILT_IN) -> None:
        self.finder = finder
        self._ledger = ledger
        self._succession = Succession(Lineup(directory, policies))
        self._local = directory.members[LOCAL].provider

    @property
    def directory(self) -> Directory:
        return self._succession.now.directory

    @property
    def ready(self) -> bool:
        return self._local.ready

    def models(self) -> list[ModelCard]:
        return self.directory.models()

    async def start(self) -> None:
        await _started(self._succession.now.providers)

    async def take(self, directory: Directory, policies: Policies) -> None:
        """Go by these from now on; requests on their way end as they began. Raises `ProviderError` where a provider
        does not start: then nothing changes."""
        running = {id(provider) for provider in self._succession.now.providers}
        next = Lineup(directory, policies)
        await _started(provider for provider in next.providers if id(provider) not in running)
        self._succession.take(next)

    def effective(self, request: GenerateRequest) -> Policy:
        """All policies that hold for ``request``, as one."""
        return _effective(self._succession.now, request)

    async def select(self, request: GenerateRequest, policy: Policy) -> Selection:
        """Raises `ProviderError` "unknown_model"."""
        return await _selected(self.directory, request, policy)

    async def generate(self, request: GenerateRequest) -> Generation:
        lineup = self._succession.now
        lineup.enter()
        try:
            generation = await self._answered(lineup, request)
        except BaseException:
            lineup.leave()
            raise
        generation.finally_call(lineup.leave)
        return generation

    async def _answered(self, lineup: Lineup, request: GenerateRequest) -> RoutedGeneration:
        directory = lineup.directory
        policy = _effective(lineup, request)
        selection = await _selected(directory, request, policy)
        directory.figures.selected(selection)
        redaction = await guard(request, policy.pii, selection.allowed, self.finder)
        allowed = tuple(c for c in selection.allowed if not redaction.keeps_from(c))
        if not allowed:
            directory.figures.nobody()
            raise nobody(selection, redaction)
        asking = _Asking(directory, self._ledger, request, policy, redaction)
        return await asking.answer(allowed if policy.fallbacks else allowed[:1])

    async def weigh(self, request: WeighRequest) -> Weighed:
        """Raises `ProviderError`, and what the ledger refuses with."""
        lineup = self._succession.now
        lineup.enter()
        try:
            return await self._weighed(lineup, request)
        finally:
            lineup.leave()

    async def _weighed(self, lineup: Lineup, request: WeighRequest) -> Weighed:
        directory, asked = lineup.directory, as_generation(request)
        policy = _effective(lineup, asked)
        selection = select(await weighing(directory, request), policy)
        directory.figures.selected(selection)
        if not selection.allowed:
            directory.figures.nobody()
            raise nobody(selection, Redaction(asked, asked))
        if policy.pii == "block":
            await asyncio.to_thread(refuse, places(request), self.finder)
        return await weigh(directory, self._ledger, request, policy, selection.allowed[0])

    def tokenize(self, model: str, prompt: Prompt, tools: tuple[Tool, ...] = ()) -> list[int]:
        provider, name = self._tokens_of(model)
        return provider.tokenize(name, prompt, tools)

    def detokenize(self, model: str, ids: list[int]) -> str:
        provider, name = self._tokens_of(model)
        return provider.detokenize(name, ids)

    async def inspect(self, model: str, constraint: ConstraintSpec) -> Inspected:
        provider, name = self._tokens_of(model)
        return await provider.inspect(name, constraint)

    def _tokens_of(self, model: str) -> tuple[Provider, str]:
        """The one provider behind a public name. Several have no tokens in common."""
        target, *others = self.directory.targets(model)
        if others:
            message = f"`{model}` leads to several models, which have no tokenizer in common: ask for one of them."
            raise ProviderError("invalid_request", message, param="model")
        return self.directory.members[target.provider].provider, target.model

    async def report(self) -> Report:
        return await self._local.report()

    async def aclose(self) -> None:
        await self._succession.aclose()


def _effective(lineup: Lineup, request: GenerateRequest) -> Policy:
    return lineup.policies.effective(request, lineup.directory.policy(request.model))


async def _selected(directory: Directory, request: GenerateRequest, policy: Policy) -> Selection:
    enforcement = policy.require_enforcement is not None
    return select(await directory.candidates(request, enforcement=enforcement), policy)


async def _started(providers: Iterable[Provider]) -> None:
    """Start all, or none."""
    started: list[Provider] = []
    try:
        for provider in providers:
            await provider.start()
            started.append(provider)
    except BaseException:
        await asyncio.gather(*(provider.aclose() for provider in started))
        raise


class _Asking:
    """One request on its way through its candidates."""

    def __init__(
        self, directory: Directory, ledger: Ledger, request: GenerateRequest, policy: Policy, redaction: Redaction
    ) -> None:
        self._directory = directory
        self._request = request
        self._policy = policy
        self._redaction = redaction
        bound = None if policy.max_usd is None else nano_usd(policy.max_usd)
        self._bill = Bill(ledger, request, directory.cost, bound)
        self._deadline = None
        if policy.max_total_s is not None:
            self._deadline = asyncio.get_running_loop().time() + policy.max_total_s
        self._race = Race(policy.hedge_after_s, policy.max_ttft_s)

    async def answer(self, candidates: tuple[Candidate, ...]) -> RoutedGeneration:
        async with self._in_time():
            if self._policy.cascade_min_confidence is not None and len(candidates) > 1:
                return await self._cascade(candidates, self._policy.cascade_min_confidence)
            if len(candidates) == 1 and self._policy.max_ttft_s is None:
                return self._routed(await self._alone(candidates[0]), "the only candidate")
            leg = await self._raced(candidates)
        return self._routed(leg, self._reason(leg, len(candidates)))

    def _leg(self, candidate: Candidate, scores: bool = False) -> Leg:
        """The one place where a request meets a candidate. ``scores``: its answer will be judged by them."""
        request, restore = self._redaction.outgoing(candidate)
        if number := len(self._race.asked):
            request = replace(request, id=f"{request.id}.{number}")
        request = scored(request) if scores else request
        least = self._policy.require_enforcement
        return Leg(self._directory, self._bill, candidate, request, self._decision(), restore, least)

    async def _alone(self, candidate: Candidate) -> Leg:
        """Without others to ask there is no first event to wait for."""
        leg = self._leg(candidate)
        self._race.asked.append(leg)
        try:
            await leg.begin()
        except BaseException:
            await leg.close()
            raise
        return leg

    async def _raced(self, candidates: tuple[Candidate, ...]) -> Leg:
        try:
            return await self._race.run(candidates, self._leg)
        except (ProviderError, Refused) as error:
            raise self._together(error) from error

    async def _cascade(self, candidates: tuple[Candidate, ...], threshold: float) -> RoutedGeneration:
        *smaller, last = candidates
        change = unscored if self._request.sampling.logprobs is None else None
        for candidate in smaller:
            leg, events = await self._whole(candidate)
            if leg is not None and (sure := confidence(events)) >= threshold:
                reason = f"confidence {sure:.2f} of {threshold:.2f}"
                self._counted(leg)
                return RoutedGeneration(leg, self._bill, self._served(leg, reason), None, events, change)
        leg = await self._raced((last,))
        return self._routed(leg, "no smaller model was sure enough")

    async def _whole(self, candidate: Candidate) -> tuple[Leg | None, list[GenerationEvent]]:
        """A smaller model's answer, read to its end; without a leg where there is none."""
        before = len(self._race.failures)
        try:
            leg = await self._race.run((candidate,), partial(self._leg, scores=True))
        except (ProviderError, Refused):
            if len(self._race.failures) == before:
                raise
            return None, []
        try:
            return leg, [event async for event in leg.events()]
        except (ProviderError, Refused) as error:
            self._race.failures.append((candidate, error))
            return None, []
        finally:
            await leg.close()

    def _counted(self, leg: Leg) -> None:
        failed = ((other.endpoint.name, named(error)) for other, error in self._race.failures)
        self._directory.figures.answered(leg.candidate, failed)

    def _routed(self, leg: Leg, reason: str) -> RoutedGeneration:
        self._counted(leg)
        return RoutedGeneration(leg, self._bill, self._served(leg, reason), self._deadline)

    def _served(self, leg: Leg, reason: str) -> Served:
        return Served(leg.candidate.endpoint.name, leg.candidate.model, len(self._race.asked), reason)

    def _decision(self) -> str:
        """For the ledger: what has been tried before this attempt."""
        failed = {candidate.name: named(error) for candidate, error in self._race.failures}
        asked = [leg.candidate.name for leg in self._race.asked]
        return msgspec.json.encode({"asked": asked, "failed": failed}).decode() if asked else ""

    def _reason(self, leg: Leg, candidates: int) -> str:
        if self._race.failures:
            failed = "; ".join(f"{candidate.name}: {named(error)}" for candidate, error in self._race.failures)
            return f"after {failed}"
        slower = [other.candidate.name for other in self._race.asked if other is not leg]
        return f"faster than {', '.join(slower)}" if slower else f"first of {candidates}"

    def _together(self, error: Failure) -> Failure:
        """What to answer when everybody failed: ``error``, with what the others said."""
        failures = self._race.failures
        told = [failure for _, failure in failures]
        if len(told) < 2 or error not in told or isinstance(error, Refused):
            return error
        said = " ".join(f"[{candidate.name}] {failure.message}" for candidate, failure in failures)
        message = f"No candidate answered. {said}"
        return ProviderError(
            error.kind,
            message,
            pointer=error.pointer,
            param=error.param,
            tool=error.tool,
            retry_after=error.retry_after,
        )

    @asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout_at(self._deadline):
                yield
        except TimeoutError:
            raise late() from None


def nobody(selection: Selection, redaction: Redaction) -> ProviderError:
    """Why nobody may answer: every candidate with the rules against it."""
    reasons = [f"{c.name}: {'; '.join(o.reason for o in against)}" for c, against in selection.excluded]
    reasons += [f"{c.name}: {redaction.reason}" for c in selection.allowed if redaction.keeps_from(c)]
    message = f"Nobody may answer this request under its policy. {'. '.join(reasons)}."
    return ProviderError("policy", message, param=POLICY_FIELD)
