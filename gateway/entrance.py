"""Who may come in: the keys of the settings and those of the database, or everybody of this machine where there are
none."""

from __future__ import annotations

from typing import Any

from litestar.connection import ASGIConnection

from gateway.access import record_of
from gateway.auth import Caller, KeyRing, bearer_token
from gateway.errors import ApiError
from gateway.keys.stored import StoredKeys
from gateway.visitors import refuse_pages

Connection = ASGIConnection[Any, Any, Any, Any]


class Entrance:
    def __init__(self, ring: KeyRing, stored: StoredKeys) -> None:
        self._ring = ring
        self._stored = stored

    def admit(self, connection: Connection) -> None:
        """Write down whose the request is. Raises `ApiError` for who may not come in."""
        record = record_of(connection.scope)
        if record.caller is None:
            record.caller = self._caller(connection)

    def knows(self, connection: Connection) -> bool:
        """Whether whoever sends this may come in."""
        try:
            self._caller(connection)
        except ApiError:
            return False
        return True

    def goes_on(self, caller: Caller) -> bool:
        """Whether what ``caller`` has begun may go on: their key is not revoked, or an open server is still open."""
        return self._ring.holds(caller) or self._stored.holds(caller) or (not caller.name and self._open)

    @property
    def _open(self) -> bool:
        return self._ring.open and not self._stored.exist

    def _caller(self, connection: Connection) -> Caller:
        if self._open:
            refuse_pages(connection.headers)
            return Caller()
        key = bearer_token(connection.headers.get("authorization", "")) or connection.headers.get("x-api-key")
        headers = {"www-authenticate": "Bearer"}
        if not key:
            message = "You did not provide an API key: send it as 'Authorization: Bearer KEY' or as 'x-api-key: KEY'."
            raise ApiError(401, message, code="missing_api_key", headers=headers)
        caller = self._ring.caller(key) or self._stored.caller(key)
        if caller is None:
            raise ApiError(401, "Incorrect API key provided.", code="invalid_api_key", headers=headers)
        return caller
