"""Who answered, as an answer's headers, its field ``sluice`` and the log say it."""

from __future__ import annotations

from typing import Any

import msgspec

from providers.base import Served
from schemas.extension import AnswerExtension
from schemas.money import usd_text

MAX_REASON = 500
"""Characters of a reason that a header carries."""


def served_headers(served: Served) -> dict[str, str]:
    """What is known before the answer: of a stream this is all that headers can say."""
    return {
        "x-sluice-provider": served.provider,
        "x-sluice-model": _ascii(served.model),
        "x-sluice-attempts": str(served.attempts),
        "x-sluice-route-reason": _ascii(served.reason),
    }


def cost_header(served: Served) -> dict[str, str]:
    """What all attempts cost, once the answer is whole; nothing where a price is not known."""
    cost = cost_text(served)
    return {} if cost is None else {"x-sluice-cost-usd": cost}


def cost_text(served: Served) -> str | None:
    """Dollars; None where they are not known, or not yet."""
    return None if served.nano_usd is None else usd_text(served.nano_usd)


def served_by(about: AnswerExtension, served: Served) -> AnswerExtension:
    """``about`` with who answered; what it cost comes later."""
    return msgspec.structs.replace(
        about,
        provider=served.provider,
        model=served.model,
        attempts=served.attempts,
        route_reason=served.reason,
    )


def served_fields(served: Served) -> dict[str, Any]:
    """For the log and the trace."""
    return {
        "provider": served.provider,
        "served_model": served.model,
        "attempts": served.attempts,
        "cost_usd": cost_text(served),
    }


def _ascii(text: str) -> str:
    """Names of models may be of any script; headers are not."""
    return text.encode("ascii", "backslashreplace").decode()[:MAX_REASON].replace("\n", " ")
