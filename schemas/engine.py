"""Messages between the HTTP side and the engine process: msgpack frames (4-byte little-endian length, then the body).

    HTTP → engine   Submit, Score, Pin, Inspect, Cancel, Probe, Drain
    engine → HTTP   Ready or StartFailed (once), Started, Tokens, Finished, Failed, Scored, Pinned, Inspected, Report

A request lives: Submit → (Failed | Started → Tokens* → Finished per choice). `Failed` before `Started` is the caller's
fault and becomes a 4xx; after it, an internal error. One frame from the engine carries a list of events (all of one
step). Token ids travel as lists of int; msgspec encodes them in one pass.
"""

from __future__ import annotations

import msgspec

from schemas.constraint import ConstraintSpec


class Sampling(msgspec.Struct, frozen=True, omit_defaults=True):
    """How to draw a token. Neutral values by OpenAI's and vLLM's definitions; ranges are checked on the HTTP side.

    temperature 0 = greedy. top_k 0 = off. seed None = the engine draws one. logit_bias: token id → bias, finite.
    logprobs None = none; k = the sampled token's log-probability and the k most likely ones (the model's own, before
    mask, bias and temperature).
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: dict[int, float] | None = None
    logprobs: int | None = None


class Submit(msgspec.Struct, tag="submit", omit_defaults=True):
    """A generation. ``prompt``: token ids. ``max_tokens``: per choice, already cut to the context. ``tenant`` salts the
    prefix cache. ``track_complete``: `Tokens.complete` is wanted. ``close``: the text is complete within
    ``max_tokens``, or the request fails before its first token."""

    id: str
    model: str
    prompt: list[int]
    max_tokens: int
    n: int = 1
    sampling: Sampling = Sampling()
    constraint: ConstraintSpec | None = None
    stop_token_ids: list[int] = []
    ignore_eos: bool = False
    tenant: str = ""
    priority: int = 0
    track_complete: bool = False
    close: bool = False


class Score(msgspec.Struct, tag="score", omit_defaults=True):
    """Ask how likely each of ``candidates`` (token ids) is to come next after ``prompt``: `Scored`, or `Failed`."""

    id: str
    model: str
    prompt: list[int]
    candidates: list[int]
    tenant: str = ""
    priority: int = 0


class Pin(msgspec.Struct, tag="pin", omit_defaults=True):
    """Compute ``prompt`` (token ids) and keep its full KV blocks for good, where requests of ``tenant`` find them:
    `Pinned`, or `Failed`."""

    id: str
    model: str
    prompt: list[int]
    tenant: str = ""


class Inspect(msgspec.Struct, tag="inspect"):
    """Compile a constraint for a model and say what it promises: `Inspected`, or `Failed`."""

    id: str
    model: str
    constraint: ConstraintSpec


class Cancel(msgspec.Struct, tag="cancel"):
    """Stop a request (``choice`` None) or one of its choices, free its blocks within one step. Unknown ids are
    ignored."""

    id: str
    choice: int | None = None


class Probe(msgspec.Struct, tag="probe"):
    """Ask for a Report."""

    id: str


class Drain(msgspec.Struct, tag="drain"):
    """Finish what runs, accept nothing new, exit."""


class ModelCard(msgspec.Struct):
    """What the HTTP side must know of a served model. ``source``: path its tokenizer and chat template are read from.
    ``kv_tokens``: tokens that all KV blocks hold together, which no single request can exceed."""

    name: str
    source: str
    context_length: int
    kv_tokens: int
    vocab_size: int
    eos_ids: list[int]
    precision: str


class Ready(msgspec.Struct, tag="ready"):
    models: list[ModelCard]


class StartFailed(msgspec.Struct, tag="start_failed"):
    """Instead of Ready, the last message: why the models cannot be served."""

    message: str


class Started(msgspec.Struct, tag="started"):
    """The constraint is compiled and the request admitted to the queue. ``contract``: "exact", "sound_subset" or "" (no
    constraint)."""

    id: str
    contract: str = ""
    reasons: list[str] = []


class TokenLogprobs(msgspec.Struct, array_like=True):
    """Of one sampled token: its log-probability and the most likely ids with theirs, best first."""

    logprob: float
    top_ids: list[int]
    top_logprobs: list[float]


class Tokens(msgspec.Struct, tag="tokens", omit_defaults=True):
    """New tokens of one choice (usually one). ``cached``: prompt tokens served from the prefix cache, ``restored``:
    those of them that came back from the host's memory; on the first frame only. ``complete``: for each token, whether
    the constrained text that ends with it is a complete sentence; if it was asked for."""

    id: str
    choice: int
    ids: list[int]
    logprobs: list[TokenLogprobs] | None = None
    cached: int = 0
    complete: list[bool] | None = None
    restored: int = 0


class Finished(msgspec.Struct, tag="finished"):
    """A choice ended. ``reason``: "stop" (end of sequence or stop token), "length" or "cancelled".
    ``complete``: the constrained text is a complete sentence (always true without a constraint)."""

    id: str
    choice: int
    reason: str
    complete: bool = True


class Scored(msgspec.Struct, tag="scored"):
    """Natural logarithms of the candidates' probabilities, the model's own. ``cached``: as `Tokens.cached`."""

    id: str
    logprobs: list[float]
    cached: int


class Pinned(msgspec.Struct, tag="pinned"):
    """``tokens`` of the prefix are kept: all of its full blocks."""

    id: str
    tokens: int


class Failed(msgspec.Struct, tag="failed"):
    """``kind``: "invalid_constraint", "unsupported_constraint", "unsatisfiable_constraint", "constraint_too_large",
    "invalid_request", "overloaded" (queue full), "unknown_model" or "internal". ``pointer``: place inside the schema,
    regex or grammar."""

    id: str
    kind: str
    message: str
    pointer: str = ""


class Inspected(msgspec.Struct, tag="inspected"):
    """What a constraint promises: its contract, the reasons why it is no exact one, and the limits up to which it
    holds. ``seconds`` that compiling took, 0 where it was known."""

    id: str
    contract: str
    reasons: list[str]
    limits: dict[str, int | str]
    seconds: float


class Report(msgspec.Struct, tag="report"):
    """Figures for /metrics and /ready: plain gauges and counters by name, histograms as lists of new observations
    (seconds)."""

    id: str
    gauges: dict[str, float]
    counters: dict[str, float]
    observations: dict[str, list[float]]


ToEngine = Submit | Score | Pin | Inspect | Cancel | Probe | Drain
Event = Ready | StartFailed | Started | Tokens | Finished | Failed | Scored | Pinned | Inspected | Report
