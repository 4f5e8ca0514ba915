"""Every Triton kernel on the device, against its bound and against torch.

    python -m bench.kernels [--json FILE] [--only NAME]

The ceiling is measured first: a copy of 1 GiB for bytes, a bf16 product of 8,192³ for FLOPs. A kernel's time is the
median of launches after the caches have been flushed (`triton.testing.do_bench`); its share is that of the bound which
it meets first. Needs a CUDA device; makes all data itself.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

import torch
from triton.testing import do_bench

from bench import kernel_cases
from bench.kernel_cases import Case


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


def cases(device: torch.device) -> Iterator[tuple[str, Case]]:
    """All there is to time, with the name of its model."""
    half = torch.bfloat16
    for shape in kernel_cases.SHAPES:
        for case in chain(
            kernel_cases.sampling(shape.vocab, 256, device),
            kernel_cases.layers(shape, 1, device, half),
            kernel_cases.layers(shape, 256, device, half),
            kernel_cases.attention(shape, 1, 8192, 1, device, half, half),
            kernel_cases.attention(shape, 64, 2048, 1, device, half, half),
            kernel_cases.attention(shape, 64, 2048, 1, device, torch.int8, half),
            kernel_cases.attention(shape, 64, 2048, 1, device, torch.float8_e4m3fn, half),
            kernel_cases.attention(shape, 2, 2048, 2048, device, half, half),
            kernel_cases.matmuls(shape, 1, device, half),
            kernel_cases.matmuls(shape, 16, device, half),
            kernel_cases.matmuls(shape, 2048, device, half),
        ):
            yield shape.name, case


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
        "times_faster_than": {name: other / took for name, other in peers.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", help="file to write all figures to")
    parser.add_argument("--only", default="", help="kernels whose names contain this")
    asked = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("there is no CUDA device")
    device = torch.device("cuda")
    bandwidth, rate = ceiling(device)
    print(f"{torch.cuda.get_device_name()}: copies {bandwidth * 1e-12:.2f} TB/s, bf16 {rate * 1e-12:.0f} TFLOP/s")
    lines: list[dict[str, Any]] = []
    for model, case in cases(device):
        if asked.only in case.name:
            line = measured(model, case, bandwidth, rate)
            lines.append(line)
            ratios = "  ".join(f"{ratio:.2f} x {name}" for name, ratio in line["times_faster_than"].items())
            print(
                f"{model:14}{case.name:44}{line['us']:10.1f} us{line['gb_per_s']:8.0f} GB/s"
                f"{line['tflop_per_s']:8.1f} TFLOP/s{line['share_of_bound']:7.0%}  {ratios}",
                flush=True,
            )
    if asked.json:
        with open(asked.json, "w") as file:
            json.dump({"bandwidth": bandwidth, "flops": rate, "kernels": lines}, file)


if __name__ == "__main__":
    main()
