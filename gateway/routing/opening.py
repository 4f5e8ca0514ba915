"""The router that the settings describe, and what becomes of it when they change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gateway.policy.facts import Endpoint
from gateway.policy.pii.presidio import finder_of
from gateway.routing.directory import Directory, Member, local_member
from gateway.routing.figures import RoutingFigures
from gateway.routing.ledger import Ledger
from gateway.routing.policies import Policies
from gateway.routing.router import Router
from providers.base import Enforcement, GenerateRequest, Provider
from providers.remote.provider import RemoteProvider
from providers.remote.recognition import Recogniser
from schemas.config import Settings
from schemas.policy import LOCAL
from schemas.providers import ProviderSettings


def open_router(
    local: Provider, settings: Settings, ledger: Ledger, recogniser: Recogniser, figures: RoutingFigures | None = None
) -> Router:
    """Over the engine in this server and the settings' providers. ``recogniser`` is closed by the caller.
    Raises `ConfigError` for what is asked for and not installed."""
    members = _members(local_member(local), settings.providers, recogniser, {})
    directory = Directory(members, settings.routes, settings.facts, settings.prices, figures=figures)
    return Router(directory, ledger, _policies(settings), finder_of(settings.pii))


def succeeding(before: Directory, settings: Settings, recogniser: Recogniser) -> tuple[Directory, Policies]:
    """For `Router.take`: what ``settings`` say. A provider of which they say the same as before stays the same one,
    with its connections, its breaker and what was measured."""
    providers = (member.provider for member in before.members.values())
    running = {provider.name: provider for provider in providers if isinstance(provider, RemoteProvider)}
    members = _members(before.members[LOCAL], settings.providers, recogniser, running)
    directory = Directory(
        members, settings.routes, settings.facts, settings.prices, paces=before.paces, figures=before.figures
    )
    return directory, _policies(settings)


def breakers(router: Router) -> Iterable[tuple[str, str]]:
    """Provider → the state of its circuit breaker."""
    for member in router.directory.members.values():
        if member.breaker is not None:
            yield member.name, member.breaker()


class RemoteJudge:
    """`gateway.routing.directory.Judge` of a remote provider."""

    def __init__(self, provider: RemoteProvider) -> None:
        self._provider = provider

    def unfit(self, request: GenerateRequest) -> str:
        return " ".join(self._provider.supports(request))

    async def enforcement(self, request: GenerateRequest) -> Enforcement | None:
        return await self._provider.enforcement(request)


def _policies(settings: Settings) -> Policies:
    return Policies(settings.policy, settings.policies)


def _members(
    local: Member, told: Iterable[ProviderSettings], recogniser: Recogniser, running: Mapping[str, RemoteProvider]
) -> list[Member]:
    members = [local]
    for one in told:
        before = running.get(one.name)
        provider = before if before is not None and before.settings == one else RemoteProvider(one, recogniser)
        members.append(_remote_member(provider, one))
    return members


def _remote_member(provider: RemoteProvider, told: ProviderSettings) -> Member:
    return Member(
        Endpoint(told.name, told.hosting, told.url),
        provider,
        RemoteJudge(provider),
        upstreams={model.name: model.upstream for model in told.models if model.upstream is not None},
        max_outputs={model.name: model.max_output for model in told.models if model.max_output is not None},
        breaker=lambda: provider.breaker,
    )
