"""Decisions as legs of the ledger: what `gateway.routing` does for answers, for what is weighed instead."""

from __future__ import annotations

from gateway.ledger.ledger import Ledger
from gateway.ledger.reservation import Reservation
from providers.base import ProviderError, Usage, Weighed, Weigher, WeighRequest
from schemas.policy import LOCAL

TEMPLATE_TOKENS = 1_000
"""More than what a chat template writes around a prompt."""


class AccountedWeigher:
    """Weighs for the gateway, with an engine that is not paid."""

    def __init__(self, weigher: Weigher, ledger: Ledger) -> None:
        self._weigher = weigher
        self._ledger = ledger

    async def weigh(self, request: WeighRequest) -> Weighed:
        """Raises `ProviderError`, and what the ledger refuses with."""
        most = Usage(_most(request), 0, 0)
        asked = Reservation(request.id, request.tenant, request.key, LOCAL, request.model, 0, most.prompt)
        leg = await self._ledger.reserve(asked)
        try:
            weighed = await self._weigher.weigh(request)
        except ProviderError:
            await leg.release()
            raise
        except BaseException:
            # Cut short: nobody has counted what was computed until then.
            await leg.estimate(most, 0)
            raise
        await leg.settle(weighed.usage, 0)
        return weighed


def _most(request: WeighRequest) -> int:
    """Tokens that are certainly enough: a token has at least a byte."""
    texts = [turn.content for turn in request.prompt] + [question.text for question in request.questions]
    return TEMPLATE_TOKENS + sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
