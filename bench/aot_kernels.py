"""The instances in which Triton kernels are compiled ahead of time (`bench.aot`).

``types`` are those of the arguments that are no constants, in their order: "*bf16:16" is a pointer to aligned bf16,
"i32:16" a number divisible by 16, "1" a stride that is 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from kernels import (
    gate,
    logprobs,
    matmul,
    matmul_gguf,
    norm,
    paged_attention,
    rotary,
    sampling_decide,
    sampling_scan,
    sampling_search,
    sampling_values,
)
from kernels.noise import EXACT


@dataclass(frozen=True, slots=True)
class Instance:
    """One compilation of one kernel."""

    name: str
    kernel: Any
    types: str
    constants: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)


def _sampling() -> list[Instance]:
    exact = {**EXACT, "num_warps": 8}
    row = "*{0}:16 i32:16 1 i32:16 i32:16 *i32:16"
    ints, floats, keys = "*i32:16", "*fp32:16", "*i64:16"
    scratch = f"{floats} {ints}"
    slices = f"{floats} {ints} {floats} {floats} {ints} {ints} {keys}"
    out: list[Instance] = []
    for dtype in ("bf16", "fp32"):
        at = row.format(dtype)
        change = f"*{dtype}:16 i32:16 1 {ints} {ints} {{0}}:16 {scratch} i32:16 i32:16"
        out += [
            Instance(
                f"sampling.penalise.{dtype}", sampling_values.penalise, change.format("*i32"), {"TILE": 1024}, EXACT
            ),
            Instance(
                f"sampling.add_bias.{dtype}", sampling_values.add_bias, change.format("*fp32"), {"TILE": 1024}, EXACT
            ),
            Instance(
                f"sampling.scan.{dtype}", sampling_scan.scan, f"{at} {ints} {ints} {ints} {scratch} {slices}",
                {"TILE": 4096, "CAPACITY": 256}, exact,
            ),
            Instance(
                f"sampling.decide.{dtype}", sampling_decide.decide,
                f"{at} {ints} {ints} {ints} {ints} {ints} {scratch} i32 {slices} {keys} {ints} {ints}",
                {"SLICES": 32, "TILE": 4096, "CAPACITY": 256, "LIMIT": 1024, "PART": 1024}, exact,
            ),
            Instance(
                f"sampling.search.{dtype}", sampling_search.search,
                f"{at} {ints} {ints} {ints} {scratch} {ints} {ints}", {"TILE": 1024}, exact,
            ),
            Instance(
                f"sampling.scan_own.{dtype}", logprobs.scan_own,
                f"*{dtype}:16 i32:16 1 i32:16 {ints} i32 {floats} {floats} {keys}", {"TILE": 4096, "TOP": 32}, exact,
            ),
            Instance(
                f"sampling.report.{dtype}", logprobs.report,
                f"*{dtype}:16 i32:16 1 {ints} i32 i32 {floats} {floats} {keys} {ints} {floats} {ints} {floats}",
                {"SLICES": 32, "TOP": 32}, EXACT,
            ),
        ]  # fmt: skip
    return out


def _layers() -> list[Instance]:
    """Llama-3.1-8B's shapes."""
    out: list[Instance] = []
    for quantize in (False, True):
        kind = "*i8:16" if quantize else "*bf16:16"
        out += [
            Instance(
                "norm.rms_norm" + quantize * "_int8", norm._rms_norm,
                f"*bf16:16 *bf16:16 *bf16:16 {kind} *fp32:16 i32:16 fp32",
                {"RESIDUAL": True, "QUANTIZE": quantize, "TILE": 4096}, EXACT,
            ),
            Instance(
                "gate.gated" + quantize * "_int8", gate._gate_int8 if quantize else gate._gate,
                f"*bf16:16 {kind} {quantize * '*fp32:16'} i32:16",
                {"GELU": False, "TILE": 4096 if quantize else 1024}, {**EXACT, "num_warps": 8} if quantize else {},
            ),
        ]  # fmt: skip
    return out + [
        Instance(
            f"rotary.rotate_and_write.{dtype}", rotary._rotate_and_write,
            f"*bf16:16 *fp32:16 *fp32:16 *i32:16 *i32:16 *bf16:16 *{dtype}:16 *{dtype}:16 *fp32:16 *fp32:16 "
            "i32:16 i32 i32:16",
            {"HALF": 64, "TILE": 64, "LARGEST": largest}, {**EXACT, "num_warps": 1},
        )
        for dtype, largest in (("bf16", 0.0), ("i8", 127.0), ("fp8e4nv", 448.0))
    ]  # fmt: skip


def _attention() -> list[Instance]:
    """32 query heads of 128 over 8 key heads."""
    shape = {"GROUP": 4, "KEYS": 64, "HEAD": 128, "DIM": 128, "BLOCK": 16}
    lists = "*i32:16 *i32:16 *i32:16 *i32:16 i32"
    out: list[Instance] = []
    for dtype in ("bf16", "i8", "fp8e4nv"):
        held = f"*{dtype}:16 *{dtype}:16 *fp32:16 *fp32:16"
        for name, rows, to, warps in (("decode", 16, "fp32", 4), ("prefill", 128, "bf16", 8)):
            out.append(
                Instance(
                    f"attention.{name}.{dtype}",
                    paged_attention._attend,
                    f"*bf16:16 {held} {lists} *{to}:16 *fp32:16 *fp32:16 fp32 fp32 i32:16 i32 i32 i32",
                    {**shape, "ROWS": rows, "QUANTIZED": dtype != "bf16", "CAPPED": False, "SPLIT": name == "decode"},
                    {"num_warps": warps, "num_stages": 3},
                )
            )
    join = "*fp32:16 *fp32:16 *fp32:16 *i32:16 *i32:16 *bf16:16 i32:16 i32"
    capped = [
        replace(one, name=f"{one.name}.capped", constants={**one.constants, "CAPPED": True})
        for one in out
        if one.name.endswith("bf16")
    ]
    return [
        *out,
        *capped,
        Instance("attention.join", paged_attention._join, join, {"SPLITS": 32, "HEAD": 128, "DIM": 128}),
    ]


def _matmul() -> list[Instance]:
    """Decode and prefill tiles of every format, as `kernels.matmul.linear` and `linear_gguf` launch them."""
    out: list[Instance] = []
    tiles = {"decode": (16, 64, 4), "prefill": (128, 128, 8)}
    held = {"int8": "i8", "fp8": "fp8e4nv", "gptq": "i32", "awq": "i32", "w8a8": "i8", "w8a8_fp8": "fp8e4nv"}
    for name, stored in held.items():
        grouped = name in ("gptq", "awq")
        read = stored if name.startswith("w8a8") else "bf16"
        scales = "fp16" if grouped else "fp32"
        for size, (m_tile, n_tile, warps) in tiles.items():
            split = size == "decode"
            out.append(
                Instance(
                    f"matmul.{name}.{size}",
                    matmul._linear,
                    f"*{read}:16 *fp32:16 *{stored}:16 *{scales}:16 *i32:16 *i32:16 *bf16:16 "
                    f"*{'fp32' if split else 'bf16'}:16 {'i32' if split else 'i32:16'} i32:16 i32:16 i32:16 i32",
                    {
                        "FORMAT": name.removesuffix("_fp8"), "ORDERED": False, "BIASED": False, "SPLIT": split,
                        "M_TILE": m_tile, "N_TILE": n_tile, "K_TILE": 64,
                    },
                    {"num_warps": warps, "num_stages": 4},
                )
            )  # fmt: skip
    for name, (numbers, block_bytes) in matmul_gguf.BLOCKS.items():
        for size, m_tile in (("decode", 16), ("prefill", 64)):
            split = size == "decode"
            out.append(
                Instance(
                    f"matmul.{name}.{size}",
                    matmul_gguf._linear,
                    f"*bf16:16 *u8:16 *bf16:16 *{'fp32' if split else 'bf16'}:16 i32 i32:16 i32:16 i32:16 i32",
                    {
                        "TYPE": name, "NUMBERS": numbers, "SIZE": block_bytes, "BIASED": False, "SPLIT": split,
                        "M_TILE": m_tile, "N_TILE": 64,
                    },
                    {"num_warps": 4, "num_stages": 3},
                )
            )  # fmt: skip
    join = "*fp32:16 *bf16:16 *bf16:16 i32 i32:16 i32"
    return [*out, Instance("matmul.join", matmul._join, join, {"BIASED": False, "TILE": 1024})]


KERNELS: list[Instance] = [*_sampling(), *_layers(), *_attention(), *_matmul()]
