"""What is settled about tenants beside others, where they share an engine."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct


class Tenant(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``weight``: its share of the tokens that an engine computes, where several tenants want more than there is; 1 for
    tenants that are not named. ``cache_group``: tenants of one group find each other's cached prefixes, and so can tell
    by the time an answer takes what the others have asked; absent: nobody finds theirs."""

    name: Annotated[str, Meta(min_length=1, max_length=200)]
    weight: Annotated[float, Meta(ge=0.001, le=1000)] = 1.0
    cache_group: Annotated[str, Meta(min_length=1, max_length=200)] | None = None


class PinnedPrefix(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A beginning of prompts whose KV blocks are kept for good, from the server's start on: of chats that begin with
    the system message ``system``, or with that of the UTF-8 file ``file``. ``tenant``: whose requests find it, and
    those of its group; absent, those of an open server."""

    model: Annotated[str, Meta(min_length=1, max_length=200)]
    tenant: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    system: str | None = None
    file: str | None = None

    def __post_init__(self) -> None:
        if (self.system is None) == (self.file is None):
            raise ValueError("a pinned prefix is given by `system` or by `file`")
