"""The table of stored responses: the one place where Sluice keeps what was asked and answered, for those who ask it
to."""

from __future__ import annotations

from advanced_alchemy.base import DefaultBase
from sqlalchemy import BigInteger, String, Text
from sqlalchemy.orm import Mapped, mapped_column


class StoredResponse(DefaultBase):
    """``context``: JSON, the items of the whole conversation, with this answer's own at its end. ``body``: JSON, as it
    was answered. ``rules``: JSON, the part of its policy that lasts (`gateway.policy.lasting`). ``worker``: the process
    that is making it, "" once it is made. Times: microseconds since 1970."""

    __tablename__ = "responses"

    id: Mapped[str] = mapped_column(String(100), primary_key=True)
    tenant: Mapped[str] = mapped_column(String(200))
    context: Mapped[str] = mapped_column(Text)
    body: Mapped[str] = mapped_column(Text)
    rules: Mapped[str] = mapped_column(Text, server_default="{}")
    created_at: Mapped[int] = mapped_column(BigInteger)
    expires_at: Mapped[int] = mapped_column(BigInteger, index=True)
    worker: Mapped[str] = mapped_column(String(40), server_default="")
