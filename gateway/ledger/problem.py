"""What can be wrong with what an operator asks of the ledger."""

from __future__ import annotations


class LedgerProblem(ValueError):
    """A leg that cannot be settled. The message is a sentence for whoever asked."""
