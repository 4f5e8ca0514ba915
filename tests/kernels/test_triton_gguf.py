"""Linear layers from GGUF blocks: the reference against the gguf package, the kernel against the reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kernels.matmul_gguf import BLOCKS, GgufWeight, dequantize_reference, linear_gguf, linear_gguf_reference

HALVES = {"Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,), "Q4_1": (0, 2), "Q5_1": (0, 2)}
"""Where a block's float16 numbers are; elsewhere at 0."""


def random_weight(kind: str, n: int, blocks: int, device: torch.device, bias: bool = False) -> GgufWeight:
    """Any bytes are valid blocks, but for infinite and huge scales."""
    generator = np.random.default_rng(n + blocks)
    size = BLOCKS[kind][1]
    raw = generator.integers(0, 256, (n, blocks, size), dtype=np.uint8)
    for at in HALVES.get(kind, (0,)):
        raw[..., at : at + 2] = generator.normal(0, 0.01, (n, blocks, 1)).astype(np.float16).view(np.uint8)
    added = torch.from_numpy(generator.normal(size=n).astype(np.float32)).to(device) if bias else None
    return GgufWeight(kind, torch.from_numpy(raw.reshape(n, -1)).to(device), added)


@pytest.mark.parametrize("kind", BLOCKS)
def test_the_reference_reads_blocks_as_ggml_does(kind: str) -> None:
    gguf = pytest.importorskip("gguf")
    weight = random_weight(kind, 5, 3, torch.device("cpu"))
    expected = gguf.quants.dequantize(weight.raw.numpy(), gguf.GGMLQuantizationType[kind])
    np.testing.assert_allclose(dequantize_reference(weight).numpy(), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize(("m", "n"), [(1, 70), (18, 5)])
def test_linear(kind: str, m: int, n: int, half: torch.dtype, device: torch.device) -> None:
    weight = random_weight(kind, n, 3 if BLOCKS[kind][0] == 256 else 17, device, bias=m == 1)
    x = torch.randn(m, weight.columns, generator=torch.Generator().manual_seed(m)).to(device, half)
    expected = linear_gguf_reference(x, weight)
    found = linear_gguf(x, weight, torch.float32)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    assert linear_gguf(x[:0], weight).shape == (0, n)


def test_what_does_not_fit_is_refused(device: torch.device) -> None:
    with pytest.raises(ValueError, match="IQ2_XS"):
        GgufWeight("IQ2_XS", torch.zeros(1, 18, dtype=torch.uint8))
    with pytest.raises(ValueError, match="no rows of Q4_0 blocks"):
        GgufWeight("Q4_0", torch.zeros(1, 19, dtype=torch.uint8))
    with pytest.raises(ValueError, match="32 inputs"):
        linear_gguf(torch.zeros(1, 64, device=device), random_weight("Q4_0", 2, 1, device))
