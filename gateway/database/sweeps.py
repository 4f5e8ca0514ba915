"""All sweeps there are. Files and batches are swept by who runs batches (`gateway.batches.runner`)."""

from __future__ import annotations

from gateway.database.sweeping import Sweep
from gateway.ledger.forgetting import Forgetting
from gateway.storing.conversation_store import forget_conversations
from gateway.storing.response_store import forget_expired as forget_responses


def sweeps(legs: Forgetting) -> dict[str, Sweep]:
    """By what they delete."""
    return {"legs": legs, "responses": forget_responses, "conversations": forget_conversations}
