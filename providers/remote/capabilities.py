"""The capability table (capabilities.toml): what known APIs take and enforce, and what an operator knows better."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import msgspec

from schemas.providers import Capabilities, ProviderSettings, RemoteModel


def _read() -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    text = files("providers.remote").joinpath("capabilities.toml").read_text(encoding="utf-8")
    rows = msgspec.toml.decode(text, type=dict[str, dict[str, Any]])
    return rows, {name: row.pop("source") for name, row in rows.items()}


_ROWS, SOURCES = _read()
"""The rows, and where each was read."""


def profiles() -> list[str]:
    """The names of all rows."""
    return list(_ROWS)


def capabilities_of(provider: ProviderSettings, model: RemoteModel) -> Capabilities:
    """The row of the provider, under its overrides, under the model's."""
    row = _ROWS[provider.profile or provider.kind]
    return msgspec.convert({**row, **provider.capabilities, **model.capabilities}, Capabilities)
