"""What can be wrong with a key that somebody wants made or revoked."""

from __future__ import annotations


class KeyProblem(ValueError):
    """A key that cannot be made or revoked. The message is a sentence for whoever asked."""
