"""What can be wrong with a batch of the command line."""

from __future__ import annotations


class BatchProblem(Exception):
    """Files that cannot be used, or nobody who answers. The message is for the user."""
