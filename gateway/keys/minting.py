"""What a key looks like: ``sk-sluice-LOOKUP-SECRET``. The lookup finds the key's row and is no secret; the rest is 256
random bits, so that a fast hash of the whole protects it."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass

PREFIX = "sk-sluice-"
LOOKUP_BYTES = 6
SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class Minted:
    """``key`` is shown once; ``lookup`` and ``sha256`` (hex) are what is kept."""

    key: str
    lookup: str
    sha256: str


def mint() -> Minted:
    lookup = secrets.token_hex(LOOKUP_BYTES)
    key = f"{PREFIX}{lookup}-{secrets.token_urlsafe(SECRET_BYTES)}"
    return Minted(key, lookup, digest(key).hex())


def digest(key: str) -> bytes:
    """SHA-256 of a key."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def lookup_of(key: str) -> str:
    """The public part of a key; of anything else, some text."""
    return key.removeprefix(PREFIX).partition("-")[0]
