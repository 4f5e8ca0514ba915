"""The router that the settings describe."""

from __future__ import annotations

from gateway.policy.facts import Endpoint
from gateway.routing.directory import Directory, Member, local_member
from gateway.routing.ledger import Ledger
from gateway.routing.policies import Policies
from gateway.routing.router import Router
from providers.base import Enforcement, GenerateRequest, Provider
from providers.remote.provider import RemoteProvider, open_providers
from providers.remote.recognition import Recogniser
from schemas.config import Settings
from schemas.providers import ProviderSettings


def open_router(local: Provider, settings: Settings, ledger: Ledger, recogniser: Recogniser) -> Router:
    """Over the engine in this server and the settings' providers. ``recogniser`` is closed by the caller."""
    remote = open_providers(settings.providers, recogniser)
    members = [_remote_member(provider, told) for provider, told in zip(remote, settings.providers, strict=True)]
    directory = Directory([local_member(local), *members], settings.routes, settings.facts, settings.prices)
    return Router(directory, ledger, Policies(settings.policy, settings.policies))


class RemoteJudge:
    """`gateway.routing.directory.Judge` of a remote provider."""

    def __init__(self, provider: RemoteProvider) -> None:
        self._provider = provider

    def unfit(self, request: GenerateRequest) -> str:
        return " ".join(self._provider.supports(request))

    async def enforcement(self, request: GenerateRequest) -> Enforcement | None:
        return await self._provider.enforcement(request)


def _remote_member(provider: RemoteProvider, told: ProviderSettings) -> Member:
    return Member(
        Endpoint(told.name, told.hosting, told.url),
        provider,
        RemoteJudge(provider),
        upstreams={model.name: model.upstream for model in told.models if model.upstream is not None},
        max_outputs={model.name: model.max_output for model in told.models if model.max_output is not None},
    )
