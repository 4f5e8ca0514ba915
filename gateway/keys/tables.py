"""The table of API keys that were made by ``sluice keys create``."""

from __future__ import annotations

from advanced_alchemy.base import DefaultBase
from sqlalchemy import BigInteger, String, Text
from sqlalchemy.orm import Mapped, mapped_column


class StoredKey(DefaultBase):
    """``name``: never used again, so that usage stays one key's. ``lookup``: the public part of the key; ``sha256``: of
    the whole key, in hex. ``limits``: JSON, a list of `schemas.limits.Limit`. Times: microseconds since 1970.
    ``revision`` grows with every change of any key: who has seen one asks for those above it."""

    __tablename__ = "keys"

    name: Mapped[str] = mapped_column(String(200), primary_key=True)
    lookup: Mapped[str] = mapped_column(String(32), unique=True)
    sha256: Mapped[str] = mapped_column(String(64))
    tenant: Mapped[str] = mapped_column(String(200))
    limits: Mapped[str] = mapped_column(Text)
    created_at: Mapped[int] = mapped_column(BigInteger)
    revoked_at: Mapped[int | None] = mapped_column(BigInteger)
    revision: Mapped[int] = mapped_column(BigInteger, unique=True)
