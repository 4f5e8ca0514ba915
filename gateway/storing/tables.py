"""The tables of stored responses and conversations: what was asked and answered, for those who ask to keep it."""

from __future__ import annotations

from advanced_alchemy.base import DefaultBase
from sqlalchemy import BigInteger, Boolean, Index, String, Text, false
from sqlalchemy.orm import Mapped, mapped_column


class StoredResponse(DefaultBase):
    """``context``: JSON, the items of the whole conversation, with this answer's own at its end. ``body``: JSON, as it
    was answered. ``rules``: JSON, the part of its policy that lasts (`gateway.policy.lasting`). ``worker``: the process
    that is making it, "" once it is made. ``streamed``: its events are kept too. Times: microseconds since 1970."""

    __tablename__ = "responses"

    id: Mapped[str] = mapped_column(String(100), primary_key=True)
    tenant: Mapped[str] = mapped_column(String(200))
    context: Mapped[str] = mapped_column(Text)
    body: Mapped[str] = mapped_column(Text)
    rules: Mapped[str] = mapped_column(Text, server_default="{}")
    created_at: Mapped[int] = mapped_column(BigInteger)
    expires_at: Mapped[int] = mapped_column(BigInteger, index=True)
    worker: Mapped[str] = mapped_column(String(40), server_default="")
    streamed: Mapped[bool] = mapped_column(Boolean, server_default=false())


class ResponseEvents(DefaultBase):
    """Events of a stored stream, as they were sent. ``last``: the sequence number of the last of them in ``data``."""

    __tablename__ = "response_events"

    response: Mapped[str] = mapped_column(String(100), primary_key=True)
    last: Mapped[int] = mapped_column(primary_key=True)
    data: Mapped[str] = mapped_column(Text)


class StoredConversation(DefaultBase):
    """``labels``: JSON. It lives as long as it is used, and the settings' days longer."""

    __tablename__ = "conversations"

    id: Mapped[str] = mapped_column(String(100), primary_key=True)
    tenant: Mapped[str] = mapped_column(String(200))
    labels: Mapped[str] = mapped_column(Text)
    created_at: Mapped[int] = mapped_column(BigInteger)
    expires_at: Mapped[int] = mapped_column(BigInteger, index=True)


class StoredItem(DefaultBase):
    """An item by its id. ``owner``: the response that it was asked or answered with, or the conversation that it is in,
    with which it goes. ``position``: among the owner's. ``rules``: as of `StoredResponse`. ``data``: JSON."""

    __tablename__ = "items"
    __table_args__ = (Index("ix_items_tenant", "tenant", "id"),)

    owner: Mapped[str] = mapped_column(String(100), primary_key=True)
    id: Mapped[str] = mapped_column(String(100), primary_key=True)
    tenant: Mapped[str] = mapped_column(String(200))
    position: Mapped[int]
    rules: Mapped[str] = mapped_column(Text)
    data: Mapped[str] = mapped_column(Text)
