"""The seam between the gateway and whoever can answer: requests go in as text or tokens, text-level events come out.

    Provider.generate(GenerateRequest) ──▶ Generation ──▶ (Thought | Delta | CallBegun | CallDelta | Finished)* , Usage
            └─ ProviderError: refused before anything was generated

A provider renders chat templates, tokenises, detokenises, finds stop strings, and writes and reads tool calls the way
the model was trained to. The gateway knows neither tokenizers nor templates, and a provider knows no HTTP. A request
lives: `generate` returns once the constraint is compiled and the request admitted (that is what a status line and
headers can still report), then the generation is iterated, and `aclose` is called in every case.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from schemas.constraint import ConstraintSpec, LarkSpec, RegexSpec
from schemas.engine import Inspected, ModelCard, Report, Sampling
from schemas.policy import Enforcement, Policy

ErrorKind = Literal[
    "invalid_constraint",
    "unsupported_constraint",
    "unsatisfiable_constraint",
    "constraint_too_large",
    "invalid_request",
    "context_length",
    "unknown_model",
    "overloaded",
    "unavailable",
    "internal",
    "invalid_answer",
    "declined",
    "policy",
    "deadline",
]
"""The kinds of `schemas.engine.Failed`; what is found out before the engine is asked: "context_length" (the prompt
leaves no room for an answer) and "unavailable" (no engine to ask: it is starting, draining or gone); what only remote
APIs do: "invalid_answer" (what came back breaks the constraint, or is no answer) and "declined" (the API's own content
rules); and of routing: "policy" (nobody may answer under the request's policy) and "deadline" (nobody did in its
time)."""


class ProviderError(Exception):
    """A request that is refused or has failed.

    ``message`` is a sentence for the caller, without secrets. ``pointer``: the place inside the constraint (a JSON
    pointer or line:column). ``param``: the request field it is about, when the provider knows better than the gateway
    ("messages[2].content"). ``tool``: the constraint at fault is the schema of that tool, an index into
    `Tools.offered`. ``elsewhere``: another provider may well answer the same request. ``retry_after``: seconds after
    which this one may, if it said so.
    """

    def __init__(
        self,
        kind: ErrorKind,
        message: str,
        *,
        pointer: str = "",
        param: str | None = None,
        tool: int | None = None,
        elsewhere: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.kind: ErrorKind = kind
        self.message = message
        self.pointer = pointer
        self.param = param
        self.tool = tool
        self.elsewhere = elsewhere
        self.retry_after = retry_after


class Leg(Protocol):
    """One call to a remote API, as whoever pays for it sees it. Exactly one method is called, once."""

    async def settle(self, usage: Usage) -> None:
        """It was executed, and said what it used."""
        ...

    async def release(self) -> None:
        """It was not sent, or was turned away unexecuted."""
        ...

    async def unknown(self) -> None:
        """It may have been executed, wholly or in part; nobody said what it used."""
        ...


class Meter(Protocol):
    """Who is told of every call that a request causes, retries, repairs and several choices included, before it is
    sent."""

    async def leg(self) -> Leg:
        """Raises `ProviderError`: the call must not be made."""
        ...


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call of an earlier answer; ``arguments``: the decoded JSON object."""

    id: str
    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn for the chat template: ``role`` is "system", "user", "assistant" or "tool"; ``content`` is text.

    ``calls``: of an assistant. ``call_id``: of a tool's turn, the call whose result ``content`` is. ``thoughts``: those
    with which an assistant came to its answer.
    """

    role: str
    content: str
    name: str | None = None
    calls: tuple[Call, ...] = ()
    call_id: str = ""
    thoughts: str = ""


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that may be called. ``parameters``: JSON text of the schema of its arguments, which admits objects
    only. ``custom``: its argument is a text, which matches ``grammar`` if there is one (`providers.custom_tools`).
    ``degrades``: where the schema cannot be enforced, arguments may be checked after the fact; ``enforced`` is then the
    weaker schema that is."""

    name: str
    parameters: str
    description: str | None = None
    custom: bool = False
    grammar: RegexSpec | LarkSpec | None = None
    degrades: bool = False
    enforced: str | None = None


@dataclass(frozen=True, slots=True)
class Tools:
    """``offered`` are described to the model, ``callable`` (names, not empty) are those that it may call now.

    ``required``: the answer is calls. Otherwise it is text in which calls may come, or with a constraint either calls
    or a text under that constraint. ``parallel``: there may be several calls, else at most one.
    """

    offered: tuple[Tool, ...]
    callable: tuple[str, ...]
    required: bool = False
    parallel: bool = True


Prompt = tuple[Message, ...] | str | list[int]
"""Turns for the chat template, raw text, or token ids."""

ANYBODY = Policy()
"""Forbids nothing and prefers nobody."""


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """What to generate.

    ``id`` is unique among all requests of this process. ``prompt``: turns for the chat template, raw text, or token
    ids (each below the model's vocabulary size; never empty). ``max_tokens`` is for each of the ``n`` choices; None =
    as far as the context goes. ``close``: the constraint's text is complete within it, or the request is refused.
    ``tools`` need a prompt of turns. ``stop`` strings end the text before them. Without a constraint they act anywhere;
    with one, only where the text before them is a complete sentence, so that no request can make a finished answer
    invalid. ``clip``: a ``max_tokens`` beyond the context is cut to it, instead of refused.
    ``tenant`` keeps one tenant's cached prefixes from others; ``key`` is the name of the key that asked. ``policy``
    says who may answer: it concerns whoever has others to ask. ``pass_on``: a constrained answer of a remote API is
    given out as it comes and ends with an error if it turns out invalid, instead of being held back until it is
    validated. ``meter``: is told of each call to a remote API. ``degrades``: where the constraint, a JSON Schema,
    cannot be enforced, the answer may be checked after the fact. ``thinking``: whether the model thinks before it
    answers; None = as it does by itself. The constraint is that of the answer in any case.
    """

    id: str
    model: str
    prompt: Prompt
    sampling: Sampling = field(default_factory=Sampling)
    constraint: ConstraintSpec | None = None
    close: bool = False
    tools: Tools | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    max_tokens: int | None = None
    n: int = 1
    ignore_eos: bool = False
    clip: bool = False
    tenant: str = ""
    key: str = ""
    policy: Policy = ANYBODY
    priority: int = 0
    pass_on: bool = False
    meter: Meter | None = None
    degrades: bool = False
    thinking: bool | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A token and its log-probability under the model itself. ``data``: its bytes (of a special token: its name's).
    ``id``: -1 where a remote API does not say."""

    id: int
    data: bytes
    logprob: float


@dataclass(frozen=True, slots=True)
class ScoredToken:
    """A sampled token with the most likely ones at its position, best first."""

    sampled: Candidate
    top: tuple[Candidate, ...] = ()


@dataclass(frozen=True, slots=True)
class Delta:
    """New text of one choice: whole characters only, possibly none when all that is new is held back.

    ``tokens`` are the sampled tokens since the choice's last delta, with scores, when log-probabilities were asked for.
    """

    choice: int
    text: str
    tokens: tuple[ScoredToken, ...] = ()


@dataclass(frozen=True, slots=True)
class Thought:
    """New text of what the model thinks before it answers; it is no part of the answer."""

    choice: int
    text: str


@dataclass(frozen=True, slots=True)
class CallBegun:
    """The model has begun to call ``name``. ``number`` counts the calls of a choice from 0. ``custom``: of a custom
    tool."""

    choice: int
    number: int
    name: str
    custom: bool = False


@dataclass(frozen=True, slots=True)
class CallDelta:
    """New JSON text of the arguments of the choice's call ``number``; of a custom tool, new text of its input."""

    choice: int
    number: int
    arguments: str


@dataclass(frozen=True, slots=True)
class Finished:
    """A choice ended, its last delta given. "stop" with a constraint means that the text is a complete sentence, and
    that every call is complete. ``stop``: the stop string at which it ended."""

    choice: int
    reason: Literal["stop", "length"]
    stop: str | None = None


@dataclass(frozen=True, slots=True)
class CacheHits:
    """Where the engine found tokens of a prompt: in the memory of its device, or in the host's behind it."""

    device: int
    host: int

    def __add__(self, other: CacheHits) -> CacheHits:
        return CacheHits(self.device + other.device, self.host + other.host)


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts over all choices, the last event. ``cached``: those of the prompt taken from a prefix cache;
    ``written``: those written to one, where that has a price; ``reasoning``: those of the completion that are not in
    the answer. ``estimated``: a remote API did not say, and these are a guess from the texts. ``hits``: the cached ones
    by tier, where the cache is ours."""

    prompt: int
    cached: int
    completion: int
    written: int = 0
    reasoning: int = 0
    estimated: bool = False
    hits: CacheHits | None = None

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt + other.prompt,
            self.cached + other.cached,
            self.completion + other.completion,
            self.written + other.written,
            self.reasoning + other.reasoning,
            self.estimated or other.estimated,
            self.hits + other.hits if self.hits and other.hits else self.hits or other.hits,
        )


Spoken = Delta | Thought | CallBegun | CallDelta
GenerationEvent = Spoken | Finished | Usage


@dataclass(slots=True)
class Served:
    """Who answers, where there was a choice. ``attempts``: how many were asked. ``reason``: why this one, in ASCII.
    ``nano_usd``: what all attempts cost, which is known (if ever) once the generation has ended."""

    provider: str
    model: str
    attempts: int
    reason: str
    nano_usd: int | None = None


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a caller has left of ``what`` until ``reset_s`` seconds from now."""

    what: Literal["requests", "tokens"]
    limit: int
    remaining: int
    reset_s: float


@dataclass(frozen=True, slots=True)
class Admission:
    """What is known once a request is admitted. ``enforcement``: how its constraint is held (masked while sampling,
    promised by a remote API, or checked after the fact), None without one. ``contract``: "exact", "sound_subset"
    (narrowed for ``reasons``), or "" where nothing was compiled. ``prompt_tokens``: length of the prompt, 0 where
    only the answer tells. ``allowances``: what the caller's limits have left."""

    prompt_tokens: int
    enforcement: Enforcement | None = None
    contract: str = ""
    reasons: tuple[str, ...] = ()
    served: Served | None = None
    allowances: tuple[Allowance, ...] = ()


class Generation(Protocol):
    """A running request, iterated once, by one task."""

    admission: Admission

    def __aiter__(self) -> AsyncIterator[GenerationEvent]:
        """Deltas, calls and one Finished for each choice, interleaved, then Usage. A failure raises `ProviderError`."""
        ...

    async def aclose(self) -> None:
        """Free the engine side, also half way. Idempotent; nothing is iterated afterwards."""
        ...


@dataclass(frozen=True, slots=True)
class Question:
    """``text`` is put to the model; the answer is one of ``options``, which are different texts. ``place``: where the
    client wrote it, for errors."""

    text: str
    options: tuple[str, ...]
    place: str = ""


@dataclass(frozen=True, slots=True)
class WeighRequest:
    """How likely is each option to be the answer? Each question stands for itself, at the end of the last of the turns
    of ``prompt``, which all of them share. ``place``: where the client wrote that turn. ``id``, ``tenant``, ``key``,
    ``policy``, ``priority``: as of `GenerateRequest`."""

    id: str
    model: str
    prompt: tuple[Message, ...]
    questions: tuple[Question, ...]
    tenant: str = ""
    key: str = ""
    priority: int = 0
    policy: Policy = ANYBODY
    place: str = "input"


@dataclass(frozen=True, slots=True)
class Weighed:
    """For each question the probabilities of its options, which add up to 1: those with which an answer that is drawn
    at temperature 1, and must be one of the options, would be each of them. ``usage``: what is shared counts once.
    ``served``, ``allowances``: as of `Admission`."""

    probabilities: tuple[tuple[float, ...], ...]
    usage: Usage
    served: Served | None = None
    allowances: tuple[Allowance, ...] = ()


@runtime_checkable
class Weigher(Protocol):
    """A provider that can also weigh."""

    async def weigh(self, request: WeighRequest) -> Weighed:
        """Raises `ProviderError`. A caller cancelled in here leaves nothing behind."""
        ...


class Provider(Protocol):
    """Someone who can answer. All methods are called on one event loop."""

    @property
    def ready(self) -> bool:
        """Requests can be answered now."""
        ...

    def models(self) -> list[ModelCard]:
        """The models served, fixed after `start`."""
        ...

    async def start(self) -> None:
        """Return when ready. Raises `ProviderError` "unavailable" when that will not happen."""
        ...

    async def generate(self, request: GenerateRequest) -> Generation:
        """Admit a request. Raises `ProviderError`. A caller cancelled in here leaves nothing behind."""
        ...

    def tokenize(self, model: str, prompt: Prompt, tools: tuple[Tool, ...] = ()) -> list[int]:
        """The ids of a prompt, as `generate` makes them. Raises `ProviderError`."""
        ...

    def detokenize(self, model: str, ids: list[int]) -> str:
        """The text of ids below the model's vocabulary size; special tokens have none. Raises `ProviderError`."""
        ...

    async def inspect(self, model: str, constraint: ConstraintSpec) -> Inspected:
        """What a constraint promises on a model. Raises `ProviderError`, as `generate` would."""
        ...

    async def report(self) -> Report:
        """Figures for /metrics; observations are given out once."""
        ...

    async def aclose(self) -> None:
        """Stop. Generations still running fail with "unavailable"."""
        ...
