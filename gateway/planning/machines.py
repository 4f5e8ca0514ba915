"""What a model may run on: memory, and how fast it is read."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import msgspec

GB = 10**9
GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Machine:
    """``memory``: bytes. ``bandwidth``: bytes a second, 0 where it is not known."""

    name: str
    memory: int
    bandwidth: float


class _Gpu(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    memory_gb: float
    bandwidth_gb_s: float
    source: str


@cache
def known_gpus() -> dict[str, Machine]:
    """Those of `gpus.toml`, by name."""
    text = files("gateway.planning").joinpath("gpus.toml").read_text()
    gpus = msgspec.convert(tomllib.loads(text), dict[str, _Gpu])
    return {name: Machine(name, int(gpu.memory_gb * GB), gpu.bandwidth_gb_s * GB) for name, gpu in gpus.items()}
