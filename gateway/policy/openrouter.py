"""OpenRouter's ``provider`` as a `Policy`. (https://openrouter.ai/docs/guides/routing/provider-selection)

Where its meaning leaves room, the stricter reading is taken: ``data_collection: "deny"`` asks for providers that do not
collect data, so neither train on it nor keep it. ``allow_fallbacks: false`` beside an ``order`` keeps to that list.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from gateway.errors import invalid
from schemas.money import NANO, usd_text
from schemas.policy import Policy, ProviderPreferences


def policy_of(preferences: ProviderPreferences) -> Policy:
    """Raises `ApiError`."""
    denied = preferences.data_collection == "deny"
    listed = preferences.allow_fallbacks is False and preferences.order is not None
    only = preferences.only
    if listed:
        ordered = frozenset(preferences.order or ())
        only = ordered if only is None else only & ordered
    prices = preferences.max_price
    return Policy(
        no_training=denied,
        zero_retention=denied or bool(preferences.zdr),
        allow_providers=only,
        deny_providers=preferences.ignore or frozenset(),
        fallbacks=preferences.allow_fallbacks is not False or listed,
        max_prompt_usd_per_mtok=_price(prices.prompt, "prompt") if prices else None,
        max_completion_usd_per_mtok=_price(prices.completion, "completion") if prices else None,
        order=preferences.order,
        sort=preferences.sort,
    )


def _price(given: float | str | None, name: str) -> str | None:
    if given is None:
        return None
    param = f"provider.max_price.{name}"
    try:
        price = Decimal(str(given))
        fits = 0 <= price < NANO
    except InvalidOperation:
        raise invalid(f"'{param}' is no decimal number of dollars.", param) from None
    if not fits:
        raise invalid(f"'{param}' is between 0 and a billion dollars.", param)
    return usd_text(int(price * NANO))
