"""Lists that are read page by page, as OpenAI's are: ``after``, ``limit`` and ``order``.

Ids of what is listed sort by the time it was made, so a page begins after an id, whether or not that still exists.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, Select
from sqlalchemy.orm import InstrumentedAttribute

from gateway.errors import invalid

Order = Literal["asc", "desc"]
MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True)
class Page:
    """``limit`` entries after the one called ``after``, the oldest first if ``ascending``."""

    after: str | None
    limit: int
    ascending: bool

    def of(self, rows: Select[Any], id: InstrumentedAttribute[str]) -> Select[Any]:
        """One more than fits, so that it can be told whether there are more."""
        beyond: list[ColumnElement[bool]] = []
        if self.after is not None:
            beyond.append(id > self.after if self.ascending else id < self.after)
        return rows.where(*beyond).order_by(id.asc() if self.ascending else id.desc()).limit(self.limit + 1)


def read_page(
    asked: Mapping[str, str], *, default: int, most: int, order: Order = "desc", others: Sequence[str] = ()
) -> Page:
    """From the parameters of a query, which may have ``others`` too. Raises `ApiError`."""
    for name in asked:
        if name not in ("after", "limit", "order", *others):
            raise invalid(f"Unknown parameter: '{name}'.", name, "unknown_parameter")
    limit, wanted = asked.get("limit", str(default)), asked.get("order", order)
    if not (limit.isascii() and limit.isdigit() and len(limit) < 10 and 1 <= int(limit) <= most):
        raise invalid(f"Invalid value for 'limit': '{limit[:40]}' is not one of 1 to {most}.", "limit")
    if wanted not in ("asc", "desc"):
        raise invalid(f"Invalid value for 'order': '{wanted[:40]}' is neither 'asc' nor 'desc'.", "order")
    return Page(asked.get("after") or None, int(limit), wanted == "asc")


def timed_id(prefix: str, now: float | None = None) -> str:
    """An id that sorts by time. ``now``: seconds since 1970."""
    return f"{prefix}{int((now or time.time()) * MICROSECONDS):014x}{secrets.token_hex(6)}"
