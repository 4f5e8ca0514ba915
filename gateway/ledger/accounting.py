"""A provider each of whose answers is a leg of the ledger.

    reserve ─▶ generate ─▶ first text ─▶ Usage: settle
       │          └─ refused: release        └─ cut short: estimate, from the text that there was
       └─ refused by the ledger: nothing was sent

It is for a provider that is paid by the token, if at all, and that stops when it is told to: the local engine.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace

from gateway.ledger.ledger import Ledger
from gateway.ledger.leg import Leg
from gateway.ledger.reservation import Reservation
from providers.base import (
    CallBegun,
    CallDelta,
    Delta,
    GenerateRequest,
    Generation,
    GenerationEvent,
    Message,
    Prompt,
    Provider,
    Tool,
    Usage,
)

LOCAL = "local"

TURN_TOKENS = 32
"""What a chat template may put around a turn or a tool."""
TEMPLATE_TOKENS = 512
"""What it may say by itself."""

NanoUsd = Callable[[Usage], int]


def _free(usage: Usage) -> int:
    return 0


class Accounting:
    """Generates for the gateway. ``nano_usd``: what a usage costs."""

    def __init__(self, provider: Provider, ledger: Ledger, nano_usd: NanoUsd = _free) -> None:
        self._provider = provider
        self._ledger = ledger
        self._nano_usd = nano_usd

    async def generate(self, request: GenerateRequest) -> Generation:
        """Raises `ProviderError`, and what the ledger refuses with."""
        most = self._most(request)
        tokens, cost = most.prompt + most.completion, self._nano_usd(most)
        asked = Reservation(request.id, request.tenant, request.key, LOCAL, request.model, cost, tokens)
        leg = await self._ledger.reserve(asked)
        try:
            generation = await self._provider.generate(request)
        except BaseException:
            await leg.release()
            raise
        leg.admitted(generation.admission.enforcement)
        return AccountedGeneration(generation, leg, self._nano_usd, most.completion)

    def _most(self, request: GenerateRequest) -> Usage:
        """The most that a request can use."""
        context = next((card.context_length for card in self._provider.models() if card.name == request.model), 0)
        completion = min(request.max_tokens or context, context)
        prompt = prompt_bound(request.prompt, request.tools.offered if request.tools else ())
        return Usage(min(prompt, context), 0, completion * request.n)


def prompt_bound(prompt: Prompt, tools: tuple[Tool, ...] = ()) -> int:
    """The most tokens of a prompt, without asking a tokenizer: no token is shorter than a byte."""
    if isinstance(prompt, list):
        return len(prompt)
    if isinstance(prompt, str):
        return TURN_TOKENS + _bytes(prompt)
    offered = sum(TURN_TOKENS + _bytes(tool.name, tool.description or "", tool.parameters) for tool in tools)
    return TEMPLATE_TOKENS + offered + sum(TURN_TOKENS + _turn_bytes(turn) for turn in prompt)


def _turn_bytes(turn: Message) -> int:
    calls = (text for call in turn.calls for text in (call.name, repr(call.arguments)))
    return _bytes(turn.content, turn.name or "", *calls)


def _bytes(*texts: str) -> int:
    return sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)


class AccountedGeneration:
    """A `Generation` that ends its leg, however it ends itself. ``most``: tokens that the answer may have."""

    def __init__(self, generation: Generation, leg: Leg, nano_usd: NanoUsd, most: int) -> None:
        self._generation = generation
        self._leg = leg
        self._nano_usd = nano_usd
        self._most = most
        self._bytes = 0
        self._ended = False
        self.admission = replace(generation.admission, allowances=leg.allowances)

    async def __aiter__(self) -> AsyncIterator[GenerationEvent]:
        async for event in self._generation:
            match event:
                case Delta(text=text) | CallDelta(arguments=text) | CallBegun(name=text):
                    self._bytes += _bytes(text)
                    self._leg.spoken()
                case Usage():
                    # Before it is given out: who has seen a usage can rely on finding it in the ledger.
                    self._ended = True
                    await self._leg.settle(event, self._nano_usd(event))
                case _:
                    pass
            yield event

    async def aclose(self) -> None:
        try:
            await self._generation.aclose()
        finally:
            if not self._ended:
                self._ended = True
                used = Usage(self.admission.prompt_tokens, 0, min(self._bytes, self._most))
                await self._leg.estimate(used, self._nano_usd(used))
