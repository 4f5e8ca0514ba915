"""Keys in the database: made, listed, revoked. A running server takes every change up within a second
(`gateway.keys.stored`)."""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.database.database import Database
from gateway.keys.minting import Minted, mint
from gateway.keys.problem import KeyProblem
from gateway.keys.tables import StoredKey
from schemas.config import ApiKey
from schemas.limits import Limit

MAX_NAME = 200
"""Characters, as in the settings."""


async def create_key(
    database: Database, name: str, tenant: str, limits: Sequence[Limit] = (), configured: Sequence[ApiKey] = ()
) -> Minted:
    """``configured``: the keys of the settings. Raises `KeyProblem` for a name that a key has or had, or that is
    none."""
    for what, text in (("name", name), ("tenant", tenant)):
        if not (0 < len(text) <= MAX_NAME and text.isprintable()):
            raise KeyProblem(f"the {what} of a key has 1 to {MAX_NAME} printable characters, not {text[:MAX_NAME]!r}")
    if any(key.name == name for key in configured):
        raise KeyProblem(f"the settings have a key '{name}'")
    minted = mint()
    row = StoredKey(
        name=name,
        lookup=minted.lookup,
        sha256=minted.sha256,
        tenant=tenant,
        limits=msgspec.json.encode(limits).decode(),
        created_at=_now(),
    )
    try:
        async with database.session() as session:
            if await session.get(StoredKey, name) is not None:
                raise KeyProblem(f"there is or was a key '{name}'; a name is used once, so that usage stays one key's")
            row.revision = await _next_revision(session)
            session.add(row)
    except IntegrityError:
        raise KeyProblem("another key was changed at the same moment; try again") from None
    return minted


async def list_keys(database: Database) -> list[StoredKey]:
    """All keys there are or were, by name."""
    async with database.reading() as session:
        return list(await session.scalars(select(StoredKey).order_by(StoredKey.name)))


async def revoke_key(database: Database, name: str) -> None:
    """Raises `KeyProblem` where there is no such key, or none any more."""
    try:
        async with database.session() as session:
            row = await session.get(StoredKey, name)
            if row is None or row.revoked_at is not None:
                raise KeyProblem(f"there is no key '{name}'" if row is None else f"the key '{name}' is revoked already")
            row.revoked_at = _now()
            row.revision = await _next_revision(session)
    except IntegrityError:
        raise KeyProblem("another key was changed at the same moment; try again") from None


async def changed_keys(database: Database, since: int) -> list[StoredKey]:
    """Keys made or revoked after revision ``since``, the oldest change first. Revisions are unique, so no change can
    become visible after a later one."""
    async with database.reading() as session:
        changed = select(StoredKey).where(StoredKey.revision > since).order_by(StoredKey.revision)
        return list(await session.scalars(changed))


def limits_of(key: StoredKey) -> tuple[Limit, ...]:
    return msgspec.json.decode(key.limits, type=tuple[Limit, ...])


async def _next_revision(session: AsyncSession) -> int:
    return (await session.scalar(select(func.max(StoredKey.revision))) or 0) + 1


def _now() -> int:
    return int(time.time() * 1e6)
