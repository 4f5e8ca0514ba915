"""`kernels/sampling.py` in torch, step by step and without tricks: what every sampling kernel is tested against.

Sorts, cumulates and compares in float64 on whole rows. `weight`, `log` and `philox` repeat the arithmetic of
`kernels/cpu/noise.py` operation by operation, so that results agree to the bit; on a GPU that holds as long as products
and sums are not fused, which eager torch does not do.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fsm.rows import RowPool
from kernels.sampling import GREEDY_BELOW, SamplingBatch, SamplingResult

MASK32 = 0xFFFFFFFF


def philox(token: Tensor, position: int, choice: int, seed: int) -> Tensor:
    """The 32 random bits of each token id, int64[...] in 0..2^32-1: Philox4x32-10, word id % 4 of counter id // 4."""
    c0 = token >> 2
    c1, c2, c3 = (torch.full_like(c0, value & MASK32) for value in (position, choice, 0))
    k0, k1 = seed & MASK32, seed >> 32
    for _ in range(10):
        high0, low0 = _multiply(0xD2511F53, c0)
        high1, low1 = _multiply(0xCD9E8D57, c2)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + 0x9E3779B9) & MASK32, (k1 + 0xBB67AE85) & MASK32
    return torch.stack((c0, c1, c2, c3)).gather(0, (token & 3)[None])[0]


def _multiply(multiplier: int, x: Tensor) -> tuple[Tensor, Tensor]:
    """Upper and lower 32 bits of a product of two uint32, in int64 arithmetic by halves of the multiplier."""
    low = (multiplier & 0xFFFF) * x
    middle = (multiplier >> 16) * x + (low >> 16)
    return middle >> 16, ((middle & 0xFFFF) << 16) | (low & 0xFFFF)


def log(x: Tensor) -> Tensor:
    """Natural logarithm of normal positive float64: 2 atanh((m - 1) / (m + 1)) + e ln 2, x = m 2^e."""
    bits = x.view(torch.int64)
    exponent = (bits >> 52) - 1023
    m = ((bits & 0xFFFFFFFFFFFFF) | (1023 << 52)).view(torch.float64)
    large = m > 1.4142135623730951
    m = torch.where(large, m * 0.5, m)
    exponent = exponent + large
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    t = torch.full_like(x, 1.0 / 23)
    for k in range(10, 0, -1):
        t = t * z + 1.0 / (2 * k + 1)
    t = t * z
    return exponent.double() * 0.6931471805599453 + (2.0 * s + 2.0 * s * t)


def gumbel(lane: Tensor) -> Tensor:
    """The noise of uniform 32-bit integers, float64."""
    return -log(-log(1.0 - (lane.double() + 0.5) * 2.0**-32))


def weight(d: Tensor) -> Tensor:
    """exp of float32 d <= 0 (Cephes expf), rounded to multiples of 2^-34; float64."""
    d = torch.where(d > -87.0, d, -87.0)
    magic = 1.5 * 2**23
    n = (d * 1.44269504088896341 + magic) - magic
    r = d - n * 0.693359375
    r = r - n * -2.12194440e-4
    t = torch.full_like(d, 1.98756915e-4)
    for term in (1.39819995e-3, 8.33345191e-3, 4.16657959e-2, 1.66666655e-1, 0.5):
        t = t * r + term
    e = t * (r * r) + r + 1.0
    scale = ((n.int() + 127) << 23).view(torch.float32)
    e = e * scale
    return torch.where(e > 2.0**-11, e, (e + 2.0**-11) - 2.0**-11).double()


def clean(x: Tensor) -> Tensor:
    """NaN as -inf, +inf as the largest float, -0 as 0."""
    return torch.where(x.isnan(), -math.inf, x + 0.0).clamp(max=torch.finfo(torch.float32).max)


def adjust(x: Tensor, batch: SamplingBatch, r: int) -> Tensor:
    """Row ``r``'s logits float32[V] after its penalties and bias (steps 2 and 3)."""
    x = x.clone()
    history = slice(int(batch.history_start[r]), int(batch.history_start[r + 1]))
    ids = torch.from_numpy(batch.history_ids[history]).long()
    counts = torch.from_numpy(batch.history_counts[history]).float()
    repetition = torch.tensor(batch.repetition[r])
    y = torch.where(x[ids] > 0, x[ids] / repetition, x[ids] * repetition)
    penalised = (y - torch.tensor(batch.frequency[r]) * counts) - torch.tensor(batch.presence[r])
    x[ids] = clean(torch.where(counts > 0, penalised, y))
    biased = slice(int(batch.bias_start[r]), int(batch.bias_start[r + 1]))
    ids = torch.from_numpy(batch.bias_ids[biased]).long()
    x[ids] = clean(x[ids] + torch.from_numpy(batch.bias[biased]))
    return x


def cut(x: Tensor, w: Tensor, top_k: int, top_p: float, min_p: float) -> Tensor:
    """Whether each id is left by top-k, top-p and min-p (steps 7 to 9), bool[V]; x float32[V], w float64[V]."""
    order = torch.sort(x, descending=True, stable=True).indices
    order = order[x[order] > -math.inf]
    if 0 < top_k:
        order = order[:top_k]
    if top_p < 1.0:
        before = w[order].cumsum(0) - w[order]
        order = order[(before < top_p * w[order].sum()) | (torch.arange(len(order)) == 0)]
    kept = torch.zeros(len(x), dtype=torch.bool)
    kept[order[w[order] >= min_p]] = True
    return kept


def draw(logits: Tensor, pool: RowPool, batch: SamplingBatch, r: int) -> int:
    """The token of row ``r`` (steps 2 to 10); -1 where the mask allows nothing."""
    words = torch.from_numpy(pool.mask(int(batch.mask_rows[r])).astype("int64"))
    allowed = ((words[:, None] >> torch.arange(32)) & 1).flatten()[: len(logits)].bool()
    x = torch.where(allowed, adjust(clean(logits), batch, r), -math.inf)
    top = x.max()
    if top == -math.inf:
        return int(allowed.nonzero()[0]) if bool(allowed.any()) else -1
    temperature = torch.tensor(batch.temperature[r])
    if temperature < GREEDY_BELOW:
        return int((x == top).nonzero()[0])
    w = weight((x - top) * (1.0 / temperature))
    left = cut(x, w, int(batch.top_k[r]), float(batch.top_p[r]), float(batch.min_p[r]))
    lane = philox(torch.arange(len(x)), int(batch.position[r]), int(batch.choice[r]), int(batch.seed[r]))
    noisy = (x.double() - top.double()) / temperature.double() + gumbel(lane)
    noisy = torch.where(left & (x > -math.inf), noisy, -math.inf)
    return int((noisy == noisy.max()).nonzero()[0])


def logprobs(logits: Tensor) -> Tensor:
    """The model's own log-probabilities, float32[V]."""
    x = clean(logits)
    top = x.max()
    if top == -math.inf:
        return x
    normaliser = top.double() + weight(x - top).sum().log()
    return (x.double() - normaliser).float()


def sample(logits: Tensor, pool: RowPool, batch: SamplingBatch, out: SamplingResult) -> None:
    """As `kernels.cpu.sampling.CpuSampler.sample`, for ``logits`` float32[R, V] on the CPU."""
    for r, row in enumerate(logits):
        token = out.token[r] = draw(row, pool, batch, r)
        n_top = int(batch.n_logprobs[r])
        if n_top >= 0:
            own = logprobs(row)
            out.logprob[r] = own[token] if token >= 0 else -math.inf
            best = torch.sort(clean(row), descending=True, stable=True).indices[:n_top]
            out.top_ids[r, :n_top] = best.numpy()
            out.top_logprobs[r, :n_top] = own[best].numpy()
