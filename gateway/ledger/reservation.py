"""What is asked of the ledger before anything is sent to anybody."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reservation:
    """An attempt that is about to be made, at the most that it can come to. ``max_nano_usd``: None where the price is
    not known, which no budget in dollars lets through. ``max_tokens``: of prompt and answer. ``number``: 0 for the
    first attempt at a request, which alone counts as a request. ``decision``: JSON, why it is this provider."""

    request_id: str
    tenant: str
    key: str
    provider: str
    model: str
    max_nano_usd: int | None
    max_tokens: int
    number: int = 0
    decision: str = ""
