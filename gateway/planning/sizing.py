"""What a model needs of a machine, as ``sluice plan fit`` says it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct

from engine.model.config import ModelConfig, checked
from engine.model.errors import ModelFileError
from engine.model.footprint import Device, KvFormat, kv_bytes_per_token, parameters, weight_bytes
from gateway.planning.fitting import Room
from gateway.planning.machines import GIB, Machine
from gateway.planning.problem import PlanProblem

SHORTEST = 1024
"""Tokens: of the contexts that are looked at where none is named."""

ALONGSIDE = (1, 8, 32, 128)
"""Sequences whose longest context is looked at."""

MIB = 1 << 20


class FitLine(Struct, frozen=True, kw_only=True):
    """``sequences``: that have room with ``context`` tokens each. ``tokens_per_s``: the bound for all of them together,
    and ``alone_tokens_per_s`` for one; 0 where the machine's bandwidth is not known."""

    context: int
    sequences: int
    tokens_per_s: float
    alone_tokens_per_s: float


class Longest(Struct, frozen=True, kw_only=True):
    """The longest ``context`` of so many ``sequences`` at once, at most the model's own."""

    sequences: int
    context: int


class Fit(Struct, frozen=True, kw_only=True):
    """``token_bytes``: of the cache, a token. ``kv_memory_mb``: what `engine.kv_memory_mb` can be."""

    machine: str
    memory_gib: float
    parameters: int
    weights_gib: float
    reserve_gib: float
    cache_gib: float
    token_bytes: int
    kv_memory_mb: int
    lines: list[FitLine]
    longest: list[Longest]


def fit(
    config: ModelConfig,
    stored: Callable[[str], str],
    machine: Machine,
    *,
    device: Device,
    kv: KvFormat,
    block_size: int,
    reserve: int,
    contexts: Sequence[int] = (),
) -> Fit:
    """``stored`` as of `engine.model.footprint.weight_bytes`; ``contexts``: tokens. Raises `PlanProblem`."""
    if kv in ("int8", "fp8") and device != "cuda":
        raise PlanProblem(f"only the GPU's cache can be {kv}")
    weights = weight_bytes(config, device, stored)
    room = Room(machine, weights, kv_bytes_per_token(config, kv), block_size, reserve)
    looked_at = contexts or _doubling(SHORTEST, config.context_length)
    return Fit(
        machine=machine.name,
        memory_gib=machine.memory / GIB,
        parameters=parameters(config),
        weights_gib=weights.total / GIB,
        reserve_gib=reserve / GIB,
        cache_gib=room.blocks * block_size * room.token_bytes / GIB,
        token_bytes=room.token_bytes,
        kv_memory_mb=room.free // MIB,
        lines=[_line(room, context) for context in looked_at],
        longest=[
            Longest(sequences=count, context=min(room.context(count), config.context_length)) for count in ALONGSIDE
        ],
    )


def _line(room: Room, context: int) -> FitLine:
    sequences = room.sequences(context)
    return FitLine(
        context=context,
        sequences=sequences,
        tokens_per_s=room.tokens_per_s(sequences, context),
        alone_tokens_per_s=room.tokens_per_s(1, context) if sequences else 0.0,
    )


def _doubling(first: int, last: int) -> Iterable[int]:
    found = [last]
    while found[0] > 2 * first:
        found.insert(0, 1 << (found[0] - 1).bit_length() - 1)
    return found


SIZES = ("layers", "hidden", "ffn", "heads", "kv_heads", "head_dim", "vocab_size")


def shaped(text: str) -> ModelConfig:
    """A model by its sizes: ``layers=32,hidden=4096,ffn=14336,heads=32,kv_heads=8,head_dim=128,vocab_size=128256``,
    with ``context_length=8192`` and ``tied_embeddings=1`` if need be. Raises `PlanProblem`."""
    sizes = {"context_length": 131_072, "tied_embeddings": 0}
    for part in text.split(","):
        name, _, value = part.strip().partition("=")
        if name not in (*SIZES, *sizes) or not value.isdecimal():
            raise PlanProblem(f"'{part}' is no size: give {', '.join((*SIZES, *sizes))}, each as NAME=NUMBER")
        sizes[name] = int(value)
    if missing := [name for name in SIZES if name not in sizes]:
        raise PlanProblem(f"of the sizes of the model there is no {', '.join(missing)}")
    config = ModelConfig(
        layers=sizes["layers"],
        hidden=sizes["hidden"],
        ffn=sizes["ffn"],
        heads=sizes["heads"],
        kv_heads=sizes["kv_heads"],
        head_dim=sizes["head_dim"],
        vocab_size=sizes["vocab_size"],
        context_length=sizes["context_length"],
        tied_embeddings=bool(sizes["tied_embeddings"]),
        norm_eps=1e-5,
        rotaries=(),
    )
    try:
        return checked(config, "--shape")
    except ModelFileError as error:
        raise PlanProblem(str(error)) from None
