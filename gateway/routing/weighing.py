"""Decisions on their way: who may weigh under a request's policies, at what price, and in which time.

    policies ─▶ candidates ─▶ selection ─▶ personal data ─▶ reserved ─▶ weighed ─▶ settled

Only the engine of this server can weigh, so there is nobody to race, to fall back to, or to hide anything from: of the
engine's models behind a name, the first that the policies leave is asked. A decision begins to be answered when all of
it is there, so both of a policy's bounds on time are bounds on the whole.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from gateway.policy.pii.redaction import Place
from gateway.policy.prices import Tokens
from gateway.policy.selection import Candidate
from gateway.routing.answering import late
from gateway.routing.bill import Bill
from gateway.routing.directory import Directory
from gateway.routing.ledger import Ledger
from providers.base import GenerateRequest, Message, ProviderError, Served, Usage, Weighed, Weigher, WeighRequest
from schemas.money import nano_usd
from schemas.policy import Policy

TEMPLATE_TOKENS = 1_000
"""More than what a chat template writes around a prompt."""
CANNOT_WEIGH = "only the engine of this server can weigh answers"


def as_generation(request: WeighRequest) -> GenerateRequest:
    """The request as policies and the ledger know requests: its questions as turns, and no answer."""
    turns = (*request.prompt, *(Message("user", question.text) for question in request.questions))
    return GenerateRequest(
        request.id, request.model, turns, max_tokens=1, tenant=request.tenant, key=request.key, policy=request.policy
    )


async def weighing(directory: Directory, request: WeighRequest) -> tuple[Candidate, ...]:
    """Whoever stands behind the request's model. Raises `ProviderError` "unknown_model"."""
    found = await directory.candidates(as_generation(request), enforcement=False)
    return tuple(_judged(directory, candidate, request) for candidate in found)


def _judged(directory: Directory, candidate: Candidate, request: WeighRequest) -> Candidate:
    provider = directory.members[candidate.endpoint.name].provider
    cost = directory.cost(candidate, most_tokens(request))
    unfit = candidate.unfit if isinstance(provider, Weigher) else CANNOT_WEIGH
    return replace(candidate, max_nano_usd=cost, unfit=unfit)


def most_tokens(request: WeighRequest) -> Tokens:
    """Certainly enough: a token has at least a byte."""
    texts = [turn.content for turn in request.prompt] + [question.text for question in request.questions]
    size = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
    return Tokens(TEMPLATE_TOKENS + size, 0, 0)


def places(request: WeighRequest) -> list[Place]:
    """Every text that the client wrote, where it wrote it."""
    asked = [Place(question.place, question.text, False) for question in request.questions]
    return [Place(request.place, request.prompt[-1].content, False), *asked]


async def weigh(
    directory: Directory, ledger: Ledger, request: WeighRequest, policy: Policy, candidate: Candidate
) -> Weighed:
    """Ask ``candidate``, and account for it. Raises `ProviderError`, and what the ledger refuses with."""
    provider = directory.members[candidate.endpoint.name].provider
    assert isinstance(provider, Weigher), "a candidate that cannot weigh is asked to"
    most = most_tokens(request)
    bound = None if policy.max_usd is None else nano_usd(policy.max_usd)
    bill = Bill(ledger, as_generation(request), directory.cost, bound)
    bounds = [seconds for seconds in (policy.max_ttft_s, policy.max_total_s) if seconds is not None]
    try:
        async with asyncio.timeout(min(bounds, default=None)):
            call = await bill.call(candidate, most, "")
            try:
                weighed = await provider.weigh(replace(request, model=candidate.model))
            except ProviderError as error:
                directory.figures.failed(candidate, error.kind)
                await call.release()
                raise
            except BaseException:
                # Cut short: nobody has counted what was computed until then.
                await call.estimate(Usage(most.prompt, 0, 0))
                raise
            await call.settle(weighed.usage)
            directory.figures.answered(candidate, ())
    except TimeoutError:
        raise late() from None
    served = Served(candidate.endpoint.name, candidate.model, 1, "decisions are made here", bill.nano_usd)
    return replace(weighed, served=served, allowances=bill.allowances)
