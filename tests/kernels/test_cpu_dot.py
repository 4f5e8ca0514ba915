"""Packed weights and their integer dot products: against the gguf package, numpy, and each instruction path."""

from __future__ import annotations

import ctypes
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest
from gguf import GGMLQuantizationType
from gguf.quants import dequantize
from gguf.quants import quantize as ggml_quantize
from llvmlite import ir
from numba import njit
from numpy.typing import NDArray

from kernels.cpu import vector as v
from kernels.cpu.blocks import PackedMatrix, pack, quantize, unpack
from kernels.cpu.dot import ACTIVATION, BLOCK, Q4, Q8, emit_tile, project, tile

TYPES = {"Q4_0": GGMLQuantizationType.Q4_0, "Q4_1": GGMLQuantizationType.Q4_1, "Q8_0": GGMLQuantizationType.Q8_0}


def weights(name: str, rows: int, columns: int, seed: int = 0) -> PackedMatrix:
    values = np.random.default_rng(seed).normal(size=(rows, columns)).astype(np.float32)
    return pack(name, ggml_quantize(values, TYPES[name]), columns)


def activations(columns: int, blocks: int, seed: int = 1, extreme: bool = False) -> NDArray[np.uint8]:
    """[columns, blocks · 48]: activation blocks as the kernels lay them out."""
    random = np.random.default_rng(seed)
    numbers = random.integers(-127, 128, (columns, blocks, BLOCK))
    if extreme:
        numbers = np.where(numbers < 0, -127, 127)
    scales = random.random((columns, blocks), dtype=np.float32)
    out = np.zeros((columns, blocks, ACTIVATION), np.uint8)
    out[..., :32] = numbers.astype(np.int8).view(np.uint8)
    out[..., 32:36] = scales[..., None].view(np.uint8)
    out[..., 36:40] = (scales * numbers.sum(-1).astype(np.float32))[..., None].view(np.uint8)
    out[..., 40:44] = numbers.sum(-1).astype(np.int32)[..., None].view(np.uint8)
    return out.reshape(columns, -1)


def values_of(blocks: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The numbers that activation blocks stand for."""
    cut = blocks.reshape(len(blocks), -1, ACTIVATION)
    scales = np.ascontiguousarray(cut[..., 32:36]).view(np.float32).astype(np.float64)
    return (cut[..., :32].view(np.int8) * scales).reshape(len(blocks), -1)


def projected(
    matrix: PackedMatrix, x: NDArray[np.uint8], out: NDArray[np.float32], first: int, last: int, add: bool
) -> None:
    blocks = matrix.records.shape[1]
    source, target = (x.ctypes.data, x.strides[0], len(x)), (out.ctypes.data, out.strides[0])
    project(matrix.kind, matrix.records.ctypes.data, first, last, blocks, *source, *target, add)


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("rows", [1, 8, 13])
def test_packed_blocks_stand_for_the_numbers_of_the_file(name: str, rows: int) -> None:
    random = np.random.default_rng(3)
    raw = ggml_quantize(random.normal(size=(rows, 96)).astype(np.float32), TYPES[name])
    matrix = pack(name, raw, 96)
    np.testing.assert_allclose(unpack(matrix), dequantize(raw, TYPES[name]), rtol=0, atol=1e-6)
    assert matrix.records.shape[0] == -(-rows // 8)


def test_float_matrices_are_quantized_as_ggml_does() -> None:
    values = np.random.default_rng(4).normal(size=(11, 64)).astype(np.float32)
    values[3, 32:] = 0
    wanted = pack("Q8_0", ggml_quantize(values, TYPES["Q8_0"]), 64)
    np.testing.assert_array_equal(quantize(values).records, wanted.records)


def test_what_cannot_be_packed_is_refused() -> None:
    with pytest.raises(ValueError, match="Q6_K"):
        pack("Q6_K", np.zeros((1, 210), np.uint8), 256)
    with pytest.raises(ValueError, match="64 numbers is 40 bytes, not 20"):
        pack("Q4_1", np.zeros((1, 20), np.uint8), 64)
    with pytest.raises(ValueError, match="33 numbers"):
        quantize(np.zeros((1, 33), np.float32))


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("columns", [1, 2, 3, 4, 5, 8, 9, 33])
def test_project_is_the_product_of_the_packed_numbers(name: str, columns: int) -> None:
    matrix = weights(name, 40, 160)
    x = activations(columns, 5)
    wanted = values_of(x) @ unpack(matrix).astype(np.float64).T
    out = np.full((columns, 40), 7, np.float32)
    projected(matrix, x, out, 1, 4, add=False)
    scale = np.abs(wanted).max()
    np.testing.assert_allclose(out[:, 8:32], wanted[:, 8:32], rtol=0, atol=1e-6 * scale)
    assert (out[:, :8] == 7).all() and (out[:, 32:] == 7).all(), "rows outside the range were written"
    projected(matrix, x, out, 0, 5, add=True)
    np.testing.assert_allclose(out[:, 8:32], 2 * wanted[:, 8:32], rtol=0, atol=2e-6 * scale)
    np.testing.assert_allclose(out[:, :8], 7 + wanted[:, :8], rtol=0, atol=1e-6 * scale)


@pytest.mark.parametrize("kind", [Q4, Q8])
def test_the_largest_products_do_not_overflow(kind: int) -> None:
    """-128 · ±127 and 15 · ±127 all along: where 16-bit sums are at their limit."""
    matrix = weights("Q4_1" if kind == Q4 else "Q8_0", 8, 64)
    factors_at = 128 if kind == Q4 else 256
    matrix.records[..., :factors_at] = 0xFF if kind == Q4 else 0x80
    for x in (activations(3, 2, extreme=True), activations(3, 2)):
        x.reshape(3, 2, ACTIVATION)[1, :, :44] = x.reshape(3, 2, ACTIVATION)[0, :, :44]
        out = np.zeros((3, 8), np.float32)
        projected(matrix, x, out, 0, 1, add=False)
        wanted = values_of(x) @ unpack(matrix).astype(np.float64).T
        np.testing.assert_allclose(out, wanted, rtol=0, atol=1e-6 * np.abs(wanted).max())


def test_a_column_does_not_depend_on_its_neighbours() -> None:
    for name in ("Q4_1", "Q8_0"):
        matrix, x = weights(name, 16, 96), activations(7, 3)
        together, alone = np.zeros((7, 16), np.float32), np.zeros((7, 16), np.float32)
        projected(matrix, x, together, 0, 2, add=False)
        for c in range(7):
            projected(matrix, x[c : c + 1], alone[c : c + 1], 0, 2, add=False)
        np.testing.assert_array_equal(together, alone)


# ------------------------------------------------------------------------------------------- other instruction paths


@pytest.mark.parametrize("kind", [Q4, Q8])
def test_the_portable_path_gives_the_same_bits(kind: int) -> None:
    portable = tile(kind, 3, "portable")

    @njit("void(int64, int64, int64, int64, int64, int64, boolean)")
    def run(w, x, stride, blocks, out, out_stride, add):  # type: ignore[no-untyped-def]
        portable(w, x, stride, blocks, out, out_stride, add)

    _assert_same_bits(kind, run)


MODEL_OF_VPDPBUSD = """
define <8 x i32> @model(<8 x i32> %sums, <8 x i32> %u, <8 x i32> %s) {
  %ub = bitcast <8 x i32> %u to <32 x i8>
  %sb = bitcast <8 x i32> %s to <32 x i8>
  %uw = zext <32 x i8> %ub to <32 x i32>
  %sw = sext <32 x i8> %sb to <32 x i32>
  %p = mul <32 x i32> %uw, %sw
"""


def _model_of_vpdpbusd() -> str:
    """LLVM code that does what Intel's manual says of vpdpbusd: four u8·s8 products added to each 32-bit lane."""
    text = MODEL_OF_VPDPBUSD
    before = "%sums"
    for i in range(4):
        picks = ", ".join(f"i32 {4 * lane + i}" for lane in range(8))
        text += f"  %q{i} = shufflevector <32 x i32> %p, <32 x i32> %p, <8 x i32> <{picks}>\n"
        text += f"  %t{i} = add <8 x i32> {before}, %q{i}\n"
        before = f"%t{i}"
    return text + f"  ret <8 x i32> {before}\n}}\n"


def _vnni_code(kind: int, columns: int) -> str:
    module = ir.Module("vnni")
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [v.I64] * 6 + [v.I1]), "tile")
    builder = ir.IRBuilder(function.append_basic_block())
    emit_tile(builder, kind, columns, "vnni", list(function.args))
    builder.ret_void()
    return str(module)


@pytest.mark.parametrize("kind", [Q4, Q8])
def test_the_vnni_path_gives_the_same_bits(kind: int) -> None:
    """Run on any CPU: the one instruction is replaced by a model of it."""
    name = '"llvm.x86.avx512.vpdpbusd.256"'
    code = "\n".join(
        line for line in _vnni_code(kind, 3).splitlines() if not (line.startswith("declare") and name in line)
    )
    module = llvm.parse_assembly(code.replace(name, '"model"') + _model_of_vpdpbusd())
    target = llvm.Target.from_default_triple()
    machine = target.create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten()
    )
    with llvm.create_mcjit_compiler(module, machine) as engine:
        engine.finalize_object()
        run = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 6, ctypes.c_bool)(engine.get_function_address("tile"))
        _assert_same_bits(kind, run)


@pytest.mark.skipif(not llvm.get_default_triple().startswith("x86_64"), reason="LLVM for another architecture")
@pytest.mark.parametrize(("cpu", "features"), [("icelake-server", ""), ("alderlake", "+avxvnni")])
def test_the_vnni_path_becomes_the_instruction(cpu: str, features: str) -> None:
    machine = llvm.Target.from_default_triple().create_target_machine(cpu=cpu, features=features, opt=3)
    for kind in (Q4, Q8):
        assembly = machine.emit_assembly(llvm.parse_assembly(_vnni_code(kind, 4)))
        assert assembly.count("vpdpbusd") == 32
        assert "call" not in assembly


@pytest.mark.parametrize(
    ("features", "wanted"),
    [
        ({"avx2", "avx512vnni", "avx512vl"}, "vnni"),
        ({"avx2", "avxvnni"}, "vnni"),
        ({"avx2", "avx512vnni"}, "avx2"),
        ({"sse2"}, "portable"),
    ],
)
def test_path_follows_the_features(features: set[str], wanted: str) -> None:
    assert v.choose_path(frozenset(features)) == wanted


def _assert_same_bits(kind: int, run: Any) -> None:
    matrix, x = weights("Q4_1" if kind == Q4 else "Q8_0", 8, 192), activations(3, 6)
    wanted, found = np.zeros((3, 8), np.float32), np.zeros((3, 8), np.float32)
    projected(matrix, x, wanted, 0, 1, add=False)
    run(matrix.records.ctypes.data, x.ctypes.data, x.strides[0], 6, found.ctypes.data, found.strides[0], False)
    np.testing.assert_array_equal(found, wanted)
