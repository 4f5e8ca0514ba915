"""``GET /v1/models`` and ``GET /v1/models/{model}``: what the provider serves."""

from __future__ import annotations

import msgspec

from gateway.errors import ApiError, unknown_model
from providers.base import Provider
from schemas.engine import ModelCard
from schemas.openai.models import Model, ModelList

_encode = msgspec.json.Encoder().encode


def find_model(provider: Provider, name: str) -> ModelCard:
    """Raises `ApiError` 404, naming what there is, or 503 while there is nothing."""
    cards = provider.models()
    for card in cards:
        if card.name == name:
            return card
    if not cards:
        raise ApiError(503, "No model is loaded yet.", code="unavailable", headers={"retry-after": "2"})
    served = ", ".join(f"'{card.name}'" for card in cards)
    raise unknown_model(f"The model '{name}' does not exist here; there is {served}.")


def list_models(provider: Provider, created: int) -> bytes:
    return _encode(ModelList([_model(card, created) for card in provider.models()]))


def show_model(provider: Provider, name: str, created: int) -> bytes:
    """Raises `ApiError` 404."""
    return _encode(_model(find_model(provider, name), created))


def _model(card: ModelCard, created: int) -> Model:
    return Model(card.name, created, "sluice", card.context_length, card.precision)
