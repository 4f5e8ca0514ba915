"""Whose policies hold for a request: the server's, the route's, the tenant's, the key's, and its own."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.policy.merging import merged
from providers.base import ANYBODY, GenerateRequest
from schemas.policy import Policy
from schemas.routing import ScopedPolicy


class Policies:
    """``server`` holds for everybody, each of ``scoped`` for its tenant or its key."""

    def __init__(self, server: Policy = ANYBODY, scoped: Iterable[ScopedPolicy] = ()) -> None:
        self._server = server
        self._tenants: dict[str, list[Policy]] = {}
        self._keys: dict[str, list[Policy]] = {}
        for one in scoped:
            if one.tenant is not None:
                self._tenants.setdefault(one.tenant, []).append(one.policy)
            else:
                self._keys.setdefault(one.key or "", []).append(one.policy)

    def effective(self, request: GenerateRequest, route: Policy | None) -> Policy:
        """All that hold, as one."""
        tenant, key = self._tenants.get(request.tenant, []), self._keys.get(request.key, [])
        held = [self._server, route or ANYBODY, *tenant, *key, request.policy]
        told = [policy for policy in held if policy != ANYBODY]
        return merged(told) if told else ANYBODY
