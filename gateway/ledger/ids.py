"""Ids of legs. They begin with the time, so that legs lie in the order in which they were reserved, and those of a span
of time are found without an index of their own."""

from __future__ import annotations

import secrets

DAY_MICROSECONDS = 86_400 * 1_000_000


def new_id(reserved_at: int) -> str:
    """``reserved_at``: microseconds since 1970."""
    return f"{first_id(reserved_at)}{secrets.token_hex(6)}"


def first_id(reserved_at: int) -> str:
    """Not after any id of what is reserved then or later.

    >>> new_id(1) < first_id(2) < new_id(2)
    True
    """
    return f"leg_{reserved_at:014x}"
