"""What `bench.kernels` times: every kernel at the shapes of a served model, beside what torch has for the same work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.nn.functional import linear as dense_linear
from torch.nn.functional import rms_norm as torch_rms_norm
from torch.nn.functional import scaled_dot_product_attention

from fsm.rows import RowPool
from kernels.device_rows import DeviceRows
from kernels.gate import gated, gated_reference
from kernels.gpu_sampler import GpuSampler
from kernels.matmul import Weight, linear
from kernels.matmul_gguf import BLOCKS, GgufWeight, linear_gguf
from kernels.norm import rms_norm
from kernels.paged_attention import Plan, attend, tiles
from kernels.rotary import Cache, rotate_and_write
from kernels.sampling import SamplingBatch


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a decoder."""

    name: str
    hidden: int
    ffn: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int


SHAPES = (
    Shape("Llama-3.1-8B", 4096, 14336, 32, 8, 128, 128_256),
    Shape("Qwen3-0.6B", 1024, 3072, 16, 8, 128, 151_936),
    Shape("SmolLM2-135M", 576, 1536, 9, 3, 64, 49_152),
)


@dataclass(frozen=True, slots=True)
class Case:
    """One thing to time. ``bytes`` and ``flops``: what its bound counts; ``peers``: others that do the same."""

    name: str
    call: Callable[[], Any]
    bytes: int = 0
    flops: int = 0
    peers: dict[str, Callable[[], Any]] = field(default_factory=dict)


def sampling_batch(rows: int, **given: Any) -> SamplingBatch:
    """Neutral parameters but for what is given."""
    columns: dict[str, Any] = {name: np.zeros(rows, np.int32) for name in ("mask_rows", "top_k", "choice")}
    columns |= {name: np.zeros(rows, np.float32) for name in ("min_p", "presence", "frequency")}
    columns |= {name: np.ones(rows, np.float32) for name in ("temperature", "top_p", "repetition")}
    batch = SamplingBatch(
        **columns,
        seed=np.arange(rows, dtype=np.uint64),
        position=np.arange(rows, dtype=np.int32),
        history_start=np.zeros(rows + 1, np.int32),
        history_ids=np.zeros(0, np.int32),
        history_counts=np.zeros(0, np.int32),
        bias_start=np.zeros(rows + 1, np.int32),
        bias_ids=np.zeros(0, np.int32),
        bias=np.zeros(0, np.float32),
        n_logprobs=np.full(rows, -1, np.int32),
    )  # fmt: skip
    for name, value in given.items():
        getattr(batch, name)[:] = value
    return batch


def sampling(vocab: int, rows: int, device: torch.device) -> Iterator[Case]:
    """Free and masked rows of logits that fall off as a model's do; a quarter of the masked rows of each format."""
    generator = np.random.default_rng(0)
    pool = RowPool(vocab)
    masks = [0]
    for count in (1, min(vocab, 300), vocab // 2):
        bits = np.zeros(pool.words * 32, np.uint8)
        bits[generator.permutation(vocab)[:count]] = 1
        masks.append(pool.intern(np.packbits(bits, bitorder="little").view(np.uint32)))
    mirrored, sampler = DeviceRows(pool, device), GpuSampler(vocab, device)
    logits = torch.randn(rows, vocab, device=device).mul_(2.5).to(torch.bfloat16)
    size = logits.nbytes

    def usual(top_p: float) -> torch.Tensor:
        """What a server does otherwise: softmax, sort, cut, draw."""
        share, order = torch.softmax(logits.float(), -1).sort(-1, descending=True)
        share[share.cumsum(-1) - share > top_p] = 0
        return order.gather(-1, torch.multinomial(share, 1))

    mixed = np.resize(np.array(masks), rows)
    words = np.stack([pool.mask(row) for row in mixed.tolist()])
    bitmask = torch.from_numpy(words.view(np.int32)).to(device)
    masking, apply = bitmask_kernel()
    scratch = torch.empty_like(logits)

    def masked() -> torch.Tensor:
        """What a server with bitmasks does: the mask over a copy of the logits, then the usual sampler."""
        apply(scratch.copy_(logits), bitmask)
        return torch.multinomial(torch.softmax(scratch.float(), -1), 1)

    for name, given, peers in (
        ("greedy", {"temperature": 0.0}, {"torch": lambda: logits.argmax(-1)}),
        ("temperature", {}, {"torch": lambda: torch.multinomial(torch.softmax(logits.float(), -1), 1)}),
        ("top-p 0.9", {"top_p": 0.9}, {"torch": lambda: usual(0.9)}),
        ("top-k 50", {"top_k": 50}, {}),
        ("masked, mixed formats", {"mask_rows": mixed}, {f"{masking}, usual sampler": masked}),
    ):
        batch = sampling_batch(rows, **given)
        yield Case(f"sampling {name}", lambda b=batch: sampler.sample(logits, mirrored, b), size, peers=peers)


def bitmask_kernel() -> tuple[str, Callable[[torch.Tensor, torch.Tensor], Any]]:
    """What puts bitmasks, int32 [rows, words], on logits in place: xgrammar's kernel where it is installed, else the
    same in torch."""
    try:
        from xgrammar import apply_token_bitmask_inplace  # pyright: ignore[reportMissingImports, reportUnknownVariableType]
    except ImportError:
        return "bitmask in torch", _apply_bitmask
    return "xgrammar", apply_token_bitmask_inplace  # pyright: ignore[reportUnknownVariableType]


def _apply_bitmask(logits: torch.Tensor, bitmask: torch.Tensor) -> None:
    bits = torch.arange(32, device=bitmask.device, dtype=torch.int32)
    allowed = (bitmask[..., None] >> bits & 1).flatten(1)[:, : logits.shape[1]].bool()
    logits.masked_fill_(~allowed, -torch.inf)


def layers(shape: Shape, rows: int, device: torch.device, half: torch.dtype) -> Iterator[Case]:
    """Norm, rotation and gate of ``rows`` tokens."""
    x, residual = torch.randn(2, rows, shape.hidden, device=device).to(half)
    weight = torch.ones(shape.hidden, device=device, dtype=half)
    yield Case(
        "rms_norm with residual", lambda: rms_norm(x, weight, 1e-5, residual), 4 * x.nbytes,
        peers={"torch": lambda: torch_rms_norm(residual.add_(x), (shape.hidden,), weight, 1e-5)},
    )  # fmt: skip
    gate_up = torch.randn(rows, 2 * shape.ffn, device=device).to(half)
    yield Case(
        "gated", lambda: gated(gate_up), 3 * gate_up.nbytes // 2, peers={"torch": lambda: gated_reference(gate_up)}
    )
    heads = shape.heads + 2 * shape.kv_heads
    qkv = torch.randn(rows, heads * shape.head_dim, device=device).to(half)
    cos, sin = torch.rand(2, 4096, shape.head_dim // 2, device=device)
    places = torch.arange(rows, dtype=torch.int32, device=device)
    cache = Cache.empty(shape.kv_heads, max(rows, 16), shape.head_dim, half, device)
    yield Case(
        "rotate_and_write", lambda: rotate_and_write(qkv, cos, sin, places, places, cache, shape.heads), 2 * qkv.nbytes
    )


def attention(
    shape: Shape, sequences: int, context: int, new: int, device: torch.device, cached: torch.dtype, half: torch.dtype
) -> Iterator[Case]:
    """``sequences`` of ``context`` tokens, the last ``new`` of each asking."""
    block = 16
    per = -(-context // block)
    cache = Cache.empty(shape.kv_heads, sequences * per * block, shape.head_dim, cached, device)
    start = np.arange(0, sequences * new + 1, new, dtype=np.int32)
    arrays = (
        *tiles(start, shape.heads // shape.kv_heads), start, np.full(sequences, context, np.int32),
        np.arange(sequences * per, dtype=np.int32).reshape(sequences, per),
    )  # fmt: skip
    plan = Plan(*(torch.from_numpy(array).to(device) for array in arrays))
    queries = torch.randn(sequences * new, shape.heads, shape.head_dim, device=device).to(half)
    asked = torch.randn(sequences, shape.heads, new, shape.head_dim, device=device).to(half)
    keys, values = torch.randn(2, sequences, shape.kv_heads, context, shape.head_dim, device=device).to(half)
    pairs = new * (context - new) + new * (new + 1) // 2
    yield Case(
        f"attention {sequences} x {context}, {new} new, {str(cached).removeprefix('torch.')}",
        lambda: attend(queries, cache, plan, block_size=block),
        sequences * context * shape.kv_heads * shape.head_dim * 2 * cache.keys.itemsize,
        4 * sequences * shape.heads * shape.head_dim * pairs,
        {"sdpa": lambda: scaled_dot_product_attention(asked, keys, values, is_causal=new == context, enable_gqa=True)},
    )


def matmuls(shape: Shape, rows: int, device: torch.device, half: torch.dtype) -> Iterator[Case]:
    """The up projection in every format, beside cuBLAS on dense weights."""
    n, k, group = 2 * shape.ffn, shape.hidden, 64 if shape.hidden % 128 else 128
    x = torch.randn(rows, k, device=device).to(half)
    wide = torch.randn(n, k, device=device).to(half)
    flops = 2 * rows * n * k
    dense: dict[str, Callable[[], Any]] = {"cublas": lambda: dense_linear(x, wide)}

    def words(*shape: int) -> torch.Tensor:
        return torch.randint(-(2**31), 2**31 - 1, shape, device=device).to(torch.int32)

    ones = torch.ones(n, device=device)
    scales = torch.ones(k // group, n, device=device, dtype=torch.float16)
    zeros = words(k // group, n // 8)
    integers = torch.randint(-127, 128, (n, k), device=device).to(torch.int8)
    for weight in (
        Weight("int8", n, k, integers, ones),
        Weight("fp8", n, k, integers.to(half).to(torch.float8_e4m3fn), ones),
        Weight("gptq", n, k, words(k // 8, n), scales, zeros),
        Weight("awq", n, k, words(k, n // 8), scales, zeros),
    ):
        yield Case(f"matmul {weight.format}", lambda w=weight: linear(x, w), weight.nbytes(), flops, dense)
    for weight in (
        Weight("w8a8", n, k, integers, ones),
        Weight("w8a8", n, k, integers.to(half).to(torch.float8_e4m3fn), ones),
    ):
        quantized, row_scales = x.to(weight.packed.dtype), torch.ones(rows, device=device)
        yield Case(
            f"matmul w8a8 {str(weight.packed.dtype).removeprefix('torch.')}",
            lambda w=weight, q=quantized, s=row_scales: linear(q, w, x_scales=s, dtype=half),
            weight.nbytes(), flops, dense,
        )  # fmt: skip
    for kind, (numbers, size) in BLOCKS.items():
        if k % numbers == 0:
            raw = torch.zeros(n, k // numbers * size, dtype=torch.uint8, device=device)
            packed = GgufWeight(kind, raw)
            yield Case(f"matmul {kind}", lambda w=packed: linear_gguf(x, w), raw.nbytes, flops, dense)
