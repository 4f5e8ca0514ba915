"""Every Triton kernel on the device, against its bound and against torch.

    python -m bench.kernels [--json FILE] [--only NAME] [--seconds 200]

The ceiling is measured first: a copy of 1 GiB for bytes, a bf16 product of 8,192³ for FLOPs. A kernel's time is the
median of launches after the caches have been flushed (`triton.testing.do_bench`); its share is that of the bound which
it meets first, "reads" how many times the bound it took. Figures are JSON lines, each written when it is known
(`bench.figures`). Needs a CUDA device; makes all data itself.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from triton.testing import do_bench

from bench import kernel_cases
from bench.figures import Figures, Target
from bench.kernel_cases import Case, Shape

ONE_READ, TWO_READS = Target("reads", most=1.3), Target("reads", most=2.0)
TARGETS = {
    ("Llama-3.1-8B", "sampling greedy"): ONE_READ,
    ("Llama-3.1-8B", "sampling temperature"): ONE_READ,
    ("Llama-3.1-8B", "sampling masked, mixed formats"): ONE_READ,
    ("Llama-3.1-8B", "sampling top-p 0.9"): TWO_READS,
}
"""At batch 256: how many times one read of the logits a launch may take."""


def seconds(call: Callable[[], Any]) -> float:
    """Median of a call's time on the device."""
    took: Any = do_bench(call, warmup=10, rep=50, return_mode="median")
    return took * 1e-3


def ceiling(device: torch.device) -> tuple[float, float]:
    """Bytes a second of a copy, read and written, and FLOPs a second of a large bf16 product."""
    source = torch.empty(1 << 30, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    left, right = torch.randn(2, 8192, 8192, device=device).to(torch.bfloat16)
    return 2 * source.nbytes / seconds(lambda: target.copy_(source)), 2 * 8192**3 / seconds(lambda: left @ right)


def cases(shape: Shape, device: torch.device) -> list[Callable[[], Iterator[Case]]]:
    """All there is to time of a model, in families that do not fall with one another: what has a target comes first."""
    half = torch.bfloat16
    asked = [(1, 8192, 1, half), (64, 2048, 1, half), (64, 2048, 1, torch.int8), (64, 2048, 1, torch.float8_e4m3fn)]
    return [
        partial(kernel_cases.sampling, shape.vocab, 256, device),
        *(partial(kernel_cases.matmuls, shape, rows, device, half) for rows in (1, 16, 2048)),
        *(
            partial(kernel_cases.attention, shape, sequences, context, new, device, cached, half)
            for sequences, context, new, cached in [*asked, (2, 2048, 2048, half)]
        ),
        *(partial(kernel_cases.layers, shape, rows, device, half) for rows in (1, 256)),
    ]


def measured(model: str, case: Case, bandwidth: float, rate: float) -> dict[str, Any]:
    """One line of the result."""
    took = seconds(case.call)
    bound = max(case.bytes / bandwidth, case.flops / rate)
    peers = {name: seconds(call) for name, call in case.peers.items()}
    return {
        "model": model,
        "kernel": case.name,
        "us": took * 1e6,
        "gb_per_s": case.bytes / took * 1e-9,
        "tflop_per_s": case.flops / took * 1e-12,
        "share_of_bound": bound / took,
        "reads": took / bound,
        "times_faster_than": {name: other / took for name, other in peers.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", help="file to write all figures to, a line each")
    parser.add_argument("--seconds", type=float, default=200.0, help="no kernel is begun after that")
    parser.add_argument("--only", default="", help="kernels whose names contain this")
    asked = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("there is no CUDA device")
    device = torch.device("cuda")
    figures = Figures(asked.json, asked.seconds)
    bandwidth, rate = ceiling(device)
    figures.write({"device": torch.cuda.get_device_name(), "bytes_per_s": bandwidth, "flop_per_s": rate})

    def measure(model: str, case: Case) -> None:
        if asked.only in case.name:
            figures.write(measured(model, case, bandwidth, rate), TARGETS.get((model, case.name)))

    for shape in kernel_cases.SHAPES:
        for family in cases(shape, device):
            figures.each({"model": shape.name}, family, partial(measure, shape.name))
            torch.cuda.empty_cache()
    sys.exit(figures.failed > 0)


if __name__ == "__main__":
    main()
