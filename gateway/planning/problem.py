"""What a plan cannot be made from."""

from __future__ import annotations


class PlanProblem(ValueError):
    """The message is a sentence for whoever asked."""
