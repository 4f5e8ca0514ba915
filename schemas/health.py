"""The body of ``GET /health``."""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET, Struct, UnsetType


class SettingsHealth(Struct, omit_defaults=True):
    """``status``: what became of the settings when they last changed; "refused": those before are in force, and
    ``reason`` says why to whoever has a key. ``waiting_for_restart``: settings, as ``section.key``, that changed and
    are not in force yet."""

    status: Literal["in_force", "refused"]
    reason: str | UnsetType = UNSET
    waiting_for_restart: tuple[str, ...] = ()


class Health(Struct, omit_defaults=True):
    """``settings``: where there is something to say about them."""

    status: Literal["ok"]
    settings: SettingsHealth | UnsetType = UNSET
