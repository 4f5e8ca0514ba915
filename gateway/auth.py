"""API keys. Only SHA-256 digests are kept: keys are long and random, so a fast hash gives nothing away, and a stolen
config gives no key. Every key has a tenant, which goes with the request down to the prefix cache. Keys of the database
are in `gateway.keys`.

Without keys the server is open; `gateway.config` lets that happen on loopback only.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass

from schemas.config import ApiKey


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the key's ``name`` and its ``tenant``; both empty on an open server."""

    name: str = ""
    tenant: str = ""


class KeyRing:
    """The keys of the settings. ``required``: whether a key is needed even where there is none."""

    def __init__(self, keys: Iterable[ApiKey], required: bool = False) -> None:
        self.take(keys, required)

    def take(self, keys: Iterable[ApiKey], required: bool) -> None:
        """Go by these from now on."""
        self._keys = [(bytes.fromhex(key.sha256), Caller(key.name, key.tenant)) for key in keys]
        self._required = required

    @property
    def open(self) -> bool:
        """No key is configured, and none is needed."""
        return not self._keys and not self._required

    def caller(self, key: str) -> Caller | None:
        """Whose ``key`` this is. Compares with every key, in constant time, so that time tells nothing."""
        digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
        found = None
        for known, caller in self._keys:
            if hmac.compare_digest(known, digest):
                found = caller
        return found

    def holds(self, caller: Caller) -> bool:
        """Whether ``caller``, who asked before, has a key still."""
        return any(known == caller for _, known in self._keys)


def bearer_token(authorization: str) -> str | None:
    """The token of an ``Authorization: Bearer`` header (RFC 6750), or None."""
    scheme, _, token = authorization.strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None
