"""What a server can be told: `Settings`, one Struct a section of the TOML file (`gateway.config` reads and merges it).

Unknown keys are refused. Absent keys take the defaults below, which serve the embedded model on loopback. No value is a
secret: API keys stand here as hashes, and credentials of other services come from those services' own environment
variables.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal
from urllib.parse import urlsplit

from msgspec import Meta, Struct

from schemas.limits import ScopedLimit
from schemas.policy import LOCAL, Policy
from schemas.providers import ProviderSettings
from schemas.routing import Fact, Price, Route, ScopedPolicy
from schemas.tenants import PinnedPrefix, Tenant

EMBEDDED_MODEL = "smollm2-135m-instruct"

Port = Annotated[int, Meta(ge=0, le=65535)]
Positive = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Name = Annotated[str, Meta(min_length=1, max_length=200)]
Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


def _refuse_twins(values: Iterable[str], what: str) -> None:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            raise ValueError(f"{what} `{value}` is given twice")
        seen.add(value)


class Server(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``port`` 0 = any free one. ``max_body_bytes``: larger request bodies get a 413. ``max_queue``: requests that may
    wait for the engine before further ones get a 429. ``drain_seconds``: time that running requests have to finish
    after SIGTERM. ``watch``: take the settings file up when it changes, as on SIGHUP."""

    host: Name = "127.0.0.1"
    port: Port = 8000
    max_body_bytes: Positive = 4 * 1024 * 1024
    max_queue: Positive = 256
    drain_seconds: Seconds = 30.0
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    watch: bool = False


class ApiKey(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A key that may call the API. ``sha256``: hash of the key, in hex (``sluice config hash-key``). ``tenant``: whose
    requests these are; several keys may share one."""

    name: Name
    sha256: Sha256
    tenant: Name


class Auth(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Without keys, here or in the database, the server is open, and then listens on loopback only. ``required``: it is
    never open, so that all keys may be in the database (``sluice keys create``)."""

    required: bool = False
    keys: tuple[ApiKey, ...] = ()

    def __post_init__(self) -> None:
        _refuse_twins((key.name for key in self.keys), "key name")
        _refuse_twins((key.sha256 for key in self.keys), "key hash")


class ModelSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A served model. ``name``: what requests call it. ``path``: a built-in name, a GGUF file, a safetensors folder, or
    a hub id ``org/repo`` or ``org/repo:file``; relative paths start at the working directory. ``precision``: "auto" is
    the fastest one that the device has, "reference" is fp32. ``context_length``: tokens, at most the model's own (the
    default)."""

    name: Name
    path: Name
    precision: Literal["auto", "reference", "quantized"] = "auto"
    context_length: Positive | None = None


class Engine(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``memory_mb``: MiB that weights and KV caches of all models may take together (absent: no limit); a server that
    would need more does not start. ``kv_memory_mb``: MiB of KV cache of each model. ``max_sequences``: sequences that
    one step runs. ``max_batch_tokens``: tokens that one step runs, which bounds prefill chunks. ``threads``: of the CPU
    kernels (absent: one a core). ``block_size``: tokens a KV block. ``host_kv_memory_mb``: MiB of the host's memory,
    for each model, that keep what KV blocks held when they were reused; it is copied back where it is asked for again
    (absent: none). ``device``: "cuda" runs models of any precision but "reference" on the GPU in bf16, GGUF's blocks
    packed as they are. ``skip_forced``: where a constraint leaves no
    choice, its text is appended without asking the model."""

    memory_mb: Positive | None = None
    kv_memory_mb: Positive = 1024
    host_kv_memory_mb: Positive | None = None
    max_sequences: Positive = 64
    max_batch_tokens: Positive = 512
    threads: Positive | None = None
    block_size: Annotated[int, Meta(ge=1, le=256)] = 16
    device: Literal["cpu", "cuda"] = "cpu"
    skip_forced: bool = True

    def __post_init__(self) -> None:
        if self.host_kv_memory_mb is not None and self.device == "cpu":
            raise ValueError(
                "`host_kv_memory_mb` is for device 'cuda'; with 'cpu' all KV memory is the host's: raise `kv_memory_mb`"
            )


class Grammar(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a constraint may cost. ``compile_deadline_s``: seconds, after which its worker is killed. ``fuel``:
    deterministic units of work. ``cache_mb``: MiB of compiled constraints that are kept."""

    compile_deadline_s: Seconds = 30.0
    fuel: Positive = 100_000
    cache_mb: Positive = 256


class Database(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``url``: ``sqlite:///FILE`` (four slashes before an absolute path), or ``postgresql://USER@HOST/NAME``, whose
    password is in ``PGPASSWORD`` or ~/.pgpass. Absent: for ``sluice serve`` a SQLite file in the user's data folder,
    for an embedded application one that goes with it."""

    url: Annotated[str, Meta(pattern="^(sqlite|postgresql)([+][a-z0-9]+)?://")] | None = None

    def __post_init__(self) -> None:
        if self.url is not None and urlsplit(self.url).password:
            raise ValueError("a password does not belong into the settings; PGPASSWORD or ~/.pgpass can hold it")


class Responses(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``store``: keep what is asked of ``/v1/responses`` and what is answered, unless a request says ``store: false``.
    For so many days; nobody but their tenant finds them."""

    store: bool = False
    retention_days: Annotated[float, Meta(gt=0, le=3650)] = 30.0


class Files(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``store``: keep what clients upload to ``/v1/files``, and run batches over it; both in the database. ``max_mb``:
    MiB of one file. ``tenant_mb``: MiB of all files of a tenant. ``retention_days``: of batches, their input and their
    output, where a request does not say otherwise."""

    store: bool = True
    max_mb: Annotated[int, Meta(ge=1, le=10_000)] = 200
    tenant_mb: Positive = 2048
    retention_days: Annotated[float, Meta(gt=0, le=3650)] = 30.0


class Batches(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``concurrency``: lines that one server answers at once, behind all other requests. ``max_lines``: of one batch.
    ``max_unfinished``: batches of one tenant that are not over."""

    concurrency: Annotated[int, Meta(ge=1, le=1000)] = 8
    max_lines: Positive = 50_000
    max_unfinished: Positive = 100


class PersonalData(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How personal data is found. ``presidio``: by Microsoft Presidio's recognisers too (extra ``presidio``), in texts
    of ``language``. ``spacy_model``: an installed package of spaCy's, which finds names (absent: none). ``entities``:
    Presidio's names of what is looked for (absent: what is about persons, and not found without it). ``min_score``: how
    sure Presidio must be."""

    presidio: bool = False
    language: Annotated[str, Meta(pattern="^[a-z]{2,3}$")] = "en"
    spacy_model: Name | None = None
    entities: tuple[Name, ...] | None = None
    min_score: Annotated[float, Meta(gt=0.0, le=1.0)] = 0.5


class Telemetry(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``otlp_endpoint``: URL that OpenTelemetry traces are sent to by OTLP over HTTP; absent = none are made.
    ``by_key``: /metrics counts attempts, tokens and dollars of each tenant and key too, for whoever can read it."""

    otlp_endpoint: Annotated[str, Meta(pattern="^https?://")] | None = None
    service_name: Name = "sluice"
    by_key: bool = False


class Retention(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``ledger_days``: how long legs of the ledger are kept once they have ended; absent = for ever. Usage can be asked
    for as far back as they are. Legs under way and in doubt stay."""

    ledger_days: Annotated[float, Meta(ge=1, le=36_500)] | None = None


class Settings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything together."""

    server: Server = Server()
    auth: Auth = Auth()
    models: Annotated[tuple[ModelSettings, ...], Meta(min_length=1)] = (
        ModelSettings(name=EMBEDDED_MODEL, path=EMBEDDED_MODEL),
    )
    engine: Engine = Engine()
    grammar: Grammar = Grammar()
    tenants: tuple[Tenant, ...] = ()
    pins: tuple[PinnedPrefix, ...] = ()
    limits: tuple[ScopedLimit, ...] = ()
    policy: Policy = Policy()
    policies: tuple[ScopedPolicy, ...] = ()
    routes: tuple[Route, ...] = ()
    facts: tuple[Fact, ...] = ()
    prices: tuple[Price, ...] = ()
    database: Database = Database()
    responses: Responses = Responses()
    files: Files = Files()
    batches: Batches = Batches()
    retention: Retention = Retention()
    pii: PersonalData = PersonalData()
    telemetry: Telemetry = Telemetry()
    providers: tuple[ProviderSettings, ...] = ()

    def __post_init__(self) -> None:
        _refuse_twins((provider.name for provider in self.providers), "provider name")
        _refuse_twins((route.name for route in self.routes), "route name")
        _refuse_twins((tenant.name for tenant in self.tenants), "tenant")
        _refuse_strangers(self)
        _refuse_twins((model.name for model in self.models), "model name")


def _refuse_strangers(settings: Settings) -> None:
    """Routes, facts and prices are about what there is."""
    served = {provider.name: {model.name for model in provider.models} for provider in settings.providers}
    if LOCAL in served:
        raise ValueError(f"a provider cannot be called `{LOCAL}`, which is this server's engine")
    served[LOCAL] = {model.name for model in settings.models}
    for route in settings.routes:
        for target in route.targets:
            if target.model not in served.get(target.provider, ()):
                raise ValueError(f"route `{route.name}`: there is no model `{target.provider}/{target.model}`")
    for pin in settings.pins:
        if pin.model not in served[LOCAL]:
            raise ValueError(f"a prefix is pinned of `{pin.model}`, which is no model of this server's engine")
    for about in (*settings.facts, *settings.prices):
        if about.provider is not None and about.provider not in served:
            raise ValueError(f"there is no provider `{about.provider}`")
