"""Every Triton kernel compiles ahead of time for sm_90, spills next to nothing and fits in shared memory.

Compiled in a process of its own: here Triton's decorators may have made kernels for its interpreter.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from bench.aot_kernels import KERNELS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Triton's compiler is for Linux")

SHARED_LIMIT = 227 << 10
"""What a program on sm_90 can have."""

EXACTNESS = """
import re, sys
from bench.aot import compile_instance
from bench.aot_kernels import KERNELS
for instance in KERNELS:
    if instance.name in ("sampling.scan.bf16", "sampling.penalise.fp32", "sampling.search.fp32"):
        ptx = compile_instance(instance).asm["ptx"]
        for inexact in ("fma.", "div.full", ".approx", ".ftz", "div.approx"):
            assert inexact not in ptx, (instance.name, inexact)
        print(instance.name)
"""


def python(*arguments: str) -> str:
    environment = {**os.environ, "TRITON_INTERPRET": "0"}
    return subprocess.run(
        [sys.executable, *arguments], check=True, capture_output=True, text=True, env=environment
    ).stdout


@pytest.mark.slow
def test_every_kernel_compiles_for_hopper() -> None:
    found = [json.loads(line) for line in python("-m", "bench.aot", "--json").splitlines()]
    assert [one["name"] for one in found] == [instance.name for instance in KERNELS]
    for one in found:
        assert one["registers"] <= 255, one
        assert one["spilled_bytes"] <= 256, one
        assert one["shared_bytes"] <= SHARED_LIMIT, one


def test_bit_equal_kernels_have_no_fused_or_approximate_operations() -> None:
    assert len(python("-c", EXACTNESS).splitlines()) == 3
