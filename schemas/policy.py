"""What a request allows and prefers: who may answer it, for how much, how fast, and under which guarantee.

`Rules` only ever forbid. They come from the settings, from whoever the key belongs to, and from the request, and are
merged to the strictest (`gateway.policy.merging`). `Policy` adds preferences, which choose among what the rules leave.
The same Struct is the body's ``sluice.policy``, the header ``x-sluice-policy`` and the settings' ``[policy]``.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from schemas.money import Usd

MAX_NAMES = 100

ProviderName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
"""A provider of the settings; `LOCAL` is the engine in this server."""

TargetName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}/.{1,200}$")]
"""A model of a provider: ``provider/model``."""

Preferred = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}(/.{1,200})?$")]
"""A provider, or a model of one."""

Region = Annotated[str, Meta(pattern=r"^[a-z]{2,4}(-[a-z0-9-]{1,40})?$")]
"""Where data is processed: "eu", "us", "de", or a cloud's own name, such as "eu-west-1". Compared as written."""

Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Providers = Annotated[frozenset[ProviderName], Meta(max_length=MAX_NAMES)]
Targets = Annotated[frozenset[TargetName], Meta(max_length=MAX_NAMES)]

LOCAL = "local"

Pii = Literal["allow", "redact", "route_local", "block"]
PII_LEVELS: tuple[Pii, ...] = ("allow", "redact", "route_local", "block")
"""From the mildest to the strictest."""

Enforcement = Literal["validated", "provider-strict", "engine"]
ENFORCEMENT_LEVELS: tuple[Enforcement, ...] = ("validated", "provider-strict", "engine")


class Rules(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """What is not allowed. Without any field everything is.

    Privacy. ``local_only``: the engine in this server. ``self_hosted_only``: that, or servers of the operator's own.
    ``no_training``: who does not train on requests. ``zero_retention``: who keeps nothing of them. ``regions``: who
    processes in these only. What is not known of a provider does not satisfy a rule; the local engine satisfies all.
    ``pii``: what becomes of personal data; see docs/routing.md.

    Cost, for one request with all its attempts. ``max_usd``: dollars. ``max_prompt_usd_per_mtok`` and
    ``max_completion_usd_per_mtok``: price of a million tokens.

    Time. ``max_ttft_s``: seconds to the first token of an attempt, which is given up then. ``max_total_s``: seconds for
    all attempts and the whole answer.

    Quality. ``min_tier``: as the settings grade targets. ``allow_*`` and ``deny_*``: lists of providers, or of targets.
    ``require_enforcement``: the least that must hold a constraint. ``fallbacks`` false: only the first candidate is
    asked.
    """

    local_only: bool = False
    self_hosted_only: bool = False
    no_training: bool = False
    zero_retention: bool = False
    regions: Annotated[frozenset[Region], Meta(max_length=MAX_NAMES)] | None = None
    pii: Pii = "allow"
    max_usd: Usd | None = None
    max_prompt_usd_per_mtok: Usd | None = None
    max_completion_usd_per_mtok: Usd | None = None
    max_ttft_s: Seconds | None = None
    max_total_s: Seconds | None = None
    min_tier: Annotated[int, Meta(ge=0, le=9)] = 0
    allow_providers: Providers | None = None
    deny_providers: Providers = frozenset()
    allow_models: Targets | None = None
    deny_models: Targets = frozenset()
    require_enforcement: Enforcement | None = None
    fallbacks: bool = True


class Policy(Rules, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """`Rules`, and what to do with those that they leave.

    ``order``: providers and targets to be asked first, in this order. ``sort``: of the others, the cheapest, the
    quickest to begin or the quickest to go on come first; without it they keep the order of the settings.
    ``hedge_after_s``: seconds after which a second candidate is asked too; the first to answer wins.
    ``cascade_min_confidence``: smaller models are asked first, and an answer is kept if it is complete and its tokens
    had at least this probability (their geometric mean).
    """

    order: Annotated[tuple[Preferred, ...], Meta(max_length=MAX_NAMES)] | None = None
    sort: Literal["price", "latency", "throughput"] | None = None
    hedge_after_s: Seconds | None = None
    cascade_min_confidence: Annotated[float, Meta(gt=0.0, le=1.0)] | None = None


class Prices(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """OpenRouter's ``max_price``: dollars a million tokens, as numbers or decimal text."""

    prompt: float | str | None = None
    completion: float | str | None = None


class ProviderPreferences(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """OpenRouter's ``provider``: the fields that mean the same here. The others are refused by name.

    ``require_parameters`` asks for what is always so: a parameter takes effect, or its candidate is not asked.
    """

    order: Annotated[tuple[ProviderName, ...], Meta(max_length=MAX_NAMES)] | None = None
    only: Providers | None = None
    ignore: Providers | None = None
    allow_fallbacks: bool | None = None
    require_parameters: bool | None = None
    data_collection: Literal["allow", "deny"] | None = None
    zdr: bool | None = None
    max_price: Prices | None = None
    sort: Literal["price", "latency", "throughput"] | None = None
