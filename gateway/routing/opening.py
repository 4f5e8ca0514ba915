"""The router that the settings describe."""

from __future__ import annotations

from gateway.routing.directory import Directory, local_member
from gateway.routing.ledger import Ledger
from gateway.routing.policies import Policies
from gateway.routing.router import Router
from providers.base import Provider
from schemas.config import Settings


def open_router(local: Provider, settings: Settings, ledger: Ledger) -> Router:
    """Over the engine in this server and the settings' providers."""
    directory = Directory([local_member(local)], settings.routes, settings.facts, settings.prices)
    return Router(directory, ledger, Policies(settings.policy, settings.policies))
