"""Remote providers as an operator configures them: ``[[providers]]`` of the settings.

Where requests may go is said here and nowhere else: no request can name an address, and no redirect is followed. Keys
are not written here; they are read from an environment variable, or from a file that is read again when it changes, so
that a key is rotated without a restart.
"""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

Positive = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Name = Annotated[str, Meta(min_length=1, max_length=200)]
Label = Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9._-]{0,63}$")]

Kind = Literal["openai", "openai-responses", "anthropic", "gemini", "openai-compatible"]

Profile = Literal[
    "openai",
    "openai-responses",
    "anthropic",
    "gemini",
    "openai-compatible",
    "sluice",
    "vllm",
    "sglang",
    "llama-cpp",
    "llama-cpp-python",
    "ollama",
    "tgi",
    "groq",
    "together",
    "openrouter",
    "json-mode",
    "text",
]
"""The rows of the capability table."""

BASE_URLS: dict[Kind, str] = {
    "openai": "https://api.openai.com/v1",
    "openai-responses": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com/v1",
    "gemini": "https://generativelanguage.googleapis.com/v1beta",
}
"""Where each API is served by who made it. What is only compatible with one has no such place."""


class Capabilities(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an API takes and what it enforces. The rows for known ones are in `providers/remote/capabilities.toml`.

    ``structured``: what holds an answer to a schema: "schema" (a response format with one), "json" (JSON mode), or
    "none". ``schema_type``: the type of the response format that takes one, where that is chat completions'; "json" is
    TGI's. ``json_mode``: there is a response format for any object.
    ``native``: constraints besides schemas that vLLM's ``structured_outputs`` takes. ``keywords`` (None: all)
    and ``formats``: what a schema sent there may have; the rest is told to the model in words, and checked afterwards.
    ``contract``: the API promises that answers hold to all of a schema that it takes. ``parameters``: sampling
    parameters by their names in `schemas.engine.Sampling`, and "stop", "stop_token_ids", "ignore_eos", "close" (within
    ``max_tokens``, as Sluice does). ``explicit``:
    sampling parameters are sent even where they have OpenAI's default, since the server's may differ. ``store``: the
    API must be told to keep nothing. ``names``: turns may have a speaker's name. ``require_parameters``: the API is a
    router, which must be told to pass a request on to those alone who take all of it.

    The remaining fields are quirks of schemas: ``root_object`` (the root is an object), ``all_required`` (every
    property is), ``closed`` (``additionalProperties`` is false everywhere), ``recursion``, ``typed`` (every place has a
    type), ``exact_enums`` (enumerated strings come back letter by letter), ``small_min_items`` (``minItems`` is at most
    1), and limits (0: none) on properties, depth, values of all enumerations, characters of names and values, optional
    properties, and unions.
    """

    structured: Literal["schema", "json", "none"] = "schema"
    schema_type: Literal["json_schema", "json_object", "json"] = "json_schema"
    json_mode: bool = True
    beside_tools: bool = True
    native: tuple[Literal["regex", "choice", "grammar", "structural_tag"], ...] = ()
    contract: bool = False
    tools: bool = True
    strict_tools: bool = False
    max_strict_tools: int = 128
    parallel_tools: bool = True
    choices: Positive = 128
    parameters: tuple[str, ...] = ()
    explicit: bool = False
    max_stops: int = 4
    max_temperature: float = 2.0
    seed_bits: int = 63
    max_logprobs: int = 20
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    stream_usage: bool = True
    store: bool = False
    names: bool = True
    require_parameters: bool = False
    keywords: tuple[str, ...] | None = None
    formats: tuple[str, ...] | None = None
    root_object: bool = False
    all_required: bool = False
    closed: bool = False
    recursion: bool = True
    typed: bool = False
    exact_enums: bool = True
    small_min_items: bool = False
    max_properties: int = 0
    max_depth: int = 0
    max_enum_values: int = 0
    max_characters: int = 0
    max_optional: int = 0
    max_unions: int = 0


class RemoteModel(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A model behind a provider. ``name``: what requests call it. ``upstream``: what the provider calls it (absent: the
    same). ``context_length`` and ``max_output``: tokens; Anthropic's API needs the latter. ``stream``: answers are
    asked for as streams, which some accounts may not for some models. ``capabilities``: overrides the provider's."""

    name: Name
    upstream: Name | None = None
    context_length: Positive = 128_000
    max_output: Positive | None = None
    stream: bool = True
    capabilities: dict[str, Any] = {}

    def __post_init__(self) -> None:
        check_overrides(self.capabilities)


class Timeouts(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Seconds: to connect, until an answer begins, between two pieces of it, and for all of one call."""

    connect_s: Seconds = 5.0
    first_byte_s: Seconds = 120.0
    idle_s: Seconds = 60.0
    total_s: Seconds = 600.0


class Retries(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``attempts``: calls that one answer may take where the provider turns them away. ``base_s``, ``max_s``: the
    waits before them, drawn evenly from 0 to a bound that doubles up to the last; a provider that asks for a longer
    wait than ``max_s`` is not asked again. ``repairs``: how often an invalid answer is sent back with its errors."""

    attempts: Annotated[int, Meta(ge=1, le=10)] = 3
    base_s: Seconds = 0.5
    max_s: Seconds = 8.0
    repairs: Annotated[int, Meta(ge=0, le=5)] = 1


class Breaker(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``failures`` in a row after which a provider is left alone, for ``open_s`` seconds; then one call probes it."""

    failures: Positive = 5
    open_s: Seconds = 30.0


class Limits(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``concurrency``: calls at a time. ``waiting``: those that may wait for one of them to end. ``event_bytes``: of
    one event of a stream; ``answer_bytes``: of a whole answer."""

    concurrency: Positive = 64
    waiting: Positive = 256
    event_bytes: Positive = 1_048_576
    answer_bytes: Positive = 33_554_432


class ProviderSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A remote API. ``profile``: the row of the capability table (absent: the one of its kind). ``hosting``:
    "self_hosted" servers may be reached by plain HTTP and without a key."""

    name: Label
    kind: Kind
    models: Annotated[tuple[RemoteModel, ...], Meta(min_length=1)]
    base_url: str | None = None
    hosting: Literal["managed", "self_hosted"] = "managed"
    key_env: Name | None = None
    key_file: Name | None = None
    profile: Profile | None = None
    capabilities: dict[str, Any] = {}
    timeouts: Timeouts = Timeouts()
    retries: Retries = Retries()
    breaker: Breaker = Breaker()
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        check_overrides(self.capabilities)
        if self.name == "local":
            raise ValueError("`local` is the engine in this server: a provider needs another name")
        names = [model.name for model in self.models]
        if len(set(names)) < len(names):
            raise ValueError(f"provider `{self.name}` gives two models one name")
        if self.key_env and self.key_file:
            raise ValueError(f"provider `{self.name}` has `key_env` and `key_file`: its key comes from one of them")
        if self.hosting == "managed" and not (self.key_env or self.key_file):
            raise ValueError(f"provider `{self.name}` is managed and has neither `key_env` nor `key_file`")
        if self.kind == "anthropic" and any(model.max_output is None for model in self.models):
            raise ValueError(f"provider `{self.name}`: each model of Anthropic's API needs a `max_output`")
        _check_address(self)

    @property
    def url(self) -> str:
        """Where it is, without a slash at the end."""
        return (self.base_url or BASE_URLS[self.kind]).rstrip("/")


def _check_address(provider: ProviderSettings) -> None:
    if provider.base_url is None:
        if provider.kind not in BASE_URLS:
            raise ValueError(f"provider `{provider.name}` needs a `base_url`")
        return
    url = urlsplit(provider.base_url)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError(f"provider `{provider.name}`: `base_url` is no http:// or https:// address")
    if url.username or url.password or url.query or url.fragment:
        raise ValueError(f"provider `{provider.name}`: `base_url` holds more than a host, a port and a path")
    if url.scheme == "http" and provider.hosting != "self_hosted" and not _is_loopback(url.hostname):
        raise ValueError(f"provider `{provider.name}`: plain http is for self-hosted providers and loopback only")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_overrides(overrides: dict[str, Any]) -> None:
    """ValueError for what is no capability, or not of its type."""
    try:
        msgspec.convert(overrides, Capabilities)
    except msgspec.ValidationError as error:
        raise ValueError(f"`capabilities`: {error}") from None
