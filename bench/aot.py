"""Compiles every Triton kernel ahead of time for sm_90, without a GPU, and says what each one takes.

    python -m bench.aot [--json] [--only NAME]

Registers and spills are ptxas's own figures for the PTX that Triton made; shared memory is what the kernel is launched
with. Argument types are those of a served model: bf16 logits and activations, unit strides, sizes that are multiples of
16 where real ones are. Nothing is run.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import get_ptxas
from triton.compiler import ASTSource

from bench.aot_kernels import KERNELS, Instance

HOPPER = 90


@dataclass(frozen=True, slots=True)
class Resources:
    """What one compiled kernel takes."""

    name: str
    warps: int
    registers: int
    """32-bit, a thread."""
    spilled_bytes: int
    """Stored to local memory, a thread."""
    shared_bytes: int
    """A program."""
    wgmma: bool
    """Whether it runs on Hopper's warpgroup matrix units."""


def compile_instance(instance: Instance) -> Any:
    """Triton's compiled kernel; its ``asm`` holds "ptx" and "cubin"."""
    kernel = instance.kernel
    types = instance.types.split()
    names = [name for name in kernel.arg_names if name not in instance.constants]
    if len(names) != len(types):
        raise ValueError(f"{instance.name}: {len(types)} types for the {len(names)} arguments {names}")
    signature: dict[str, str] = {}
    constants: dict[str, Any] = dict(instance.constants)
    divisible: dict[tuple[int, ...], list[list[Any]]] = {}
    given = dict(zip(names, types, strict=True))
    for place, name in enumerate(kernel.arg_names):
        kind = given.get(name, "constexpr")
        if kind == "1":
            signature[name], constants[name] = "constexpr", 1
        else:
            signature[name] = kind.removesuffix(":16")
        if kind.endswith(":16"):
            divisible[(place,)] = [["tt.divisibility", 16]]
    by_place = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
    source = ASTSource(fn=kernel, signature=signature, constexprs=by_place, attrs=divisible)
    return triton.compile(source, target=GPUTarget("cuda", HOPPER, 32), options=instance.options)


def measure(instance: Instance, compiled: Any) -> Resources:
    """ptxas's figures for a compiled instance."""
    ptx = compiled.asm["ptx"]
    target = re.search(r"\.target (\w+)", ptx)
    assert target is not None
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "kernel.ptx"
        source.write_text(ptx)
        said = subprocess.run(
            [get_ptxas(HOPPER).path, "-v", "--gpu-name", target[1], source, "-o", source.with_suffix(".cubin")],
            check=True, capture_output=True, text=True,
        ).stderr  # fmt: skip
    return Resources(
        instance.name,
        compiled.metadata.num_warps,
        _figure(r"Used (\d+) registers", said),
        _figure(r"(\d+) bytes spill stores", said),
        compiled.metadata.shared,
        "wgmma.mma_async" in ptx,
    )


def _figure(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    if found is None:
        raise ValueError(f"ptxas said nothing like {pattern!r}: {text}")
    return int(found[1])


def resources(only: str = "") -> Iterator[Resources]:
    """Compile the kernels whose names contain ``only``, one after the other."""
    for instance in KERNELS:
        if only in instance.name:
            yield measure(instance, compile_instance(instance))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON line a kernel")
    parser.add_argument("--only", default="", help="kernels whose names contain this")
    asked = parser.parse_args()
    if not asked.json:
        print(f"triton {triton.__version__}, sm_90")
        print(f"{'kernel':44}{'warps':>6}{'registers':>11}{'spilled B':>11}{'shared B':>10}  wgmma")
    for one in resources(asked.only):
        if asked.json:
            print(json.dumps(asdict(one)))
        else:
            print(
                f"{one.name:44}{one.warps:6}{one.registers:11}{one.spilled_bytes:11}{one.shared_bytes:10}"
                f"  {'yes' if one.wgmma else '-'}"
            )
        sys.stdout.flush()


if __name__ == "__main__":
    main()
