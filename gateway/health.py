"""``GET /health``: the server runs. Settings that could not be taken up are told beside: they are no reason to restart
it."""

from __future__ import annotations

import msgspec
from msgspec import UNSET

from gateway.reloading import Reloading
from schemas.health import Health, SettingsHealth


def health_of(reloading: Reloading | None, *, knows: bool) -> bytes:
    """``knows``: whoever asks may use this server, so that what a settings file says is told."""
    if reloading is None or not (reloading.problem or reloading.waiting):
        return msgspec.json.encode(Health("ok"))
    if not reloading.problem:
        return msgspec.json.encode(Health("ok", SettingsHealth("in_force", waiting_for_restart=reloading.waiting)))
    reason = reloading.problem if knows else UNSET
    return msgspec.json.encode(Health("ok", SettingsHealth("refused", reason, reloading.waiting)))
