"""The quantized CPU runner: against its own arithmetic in numpy, full precision, and itself in other batches."""

from __future__ import annotations

import gc
import threading
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf.quants import quantize as ggml_quantize
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine.base import StepBatch
from engine.cpu_runner import CpuRunner
from engine.decoder import TorchRunner
from engine.model.config import ModelConfig
from engine.model.errors import UnsupportedModelError
from engine.model.files import ModelFiles, open_model
from kernels.cpu.blocks import quantize, unpack
from tests.engine.decoding import Cursor, Feeder, embedded_model, needs_model, real_prompts
from tests.engine.test_decoder import saved, small_llama

VOCAB = 99
"""No multiple of 8, so that the last group of output rows is padded."""
CONFIG = {"hidden": 64, "ffn": 96, "layers": 2, "heads": 6, "kv_heads": 2, "head_dim": 32}
TYPES = {
    "token_embd": "Q4_1",
    "output": "F16",
    "attn_q": "Q4_0",
    "attn_k": "Q8_0",
    "attn_v": "BF16",
    "attn_output": "Q4_1",
    "ffn_gate": "Q8_0",
    "ffn_up": "Q4_1",
    "ffn_down": "Q4_0",
}
"""Every type with a kernel, and neighbours of different types."""


def small_gguf(path: Path, types: dict[str, str] = TYPES) -> ModelFiles:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(CONFIG["layers"])
    writer.add_context_length(512)
    writer.add_embedding_length(CONFIG["hidden"])
    writer.add_feed_forward_length(CONFIG["ffn"])
    writer.add_head_count(CONFIG["heads"])
    writer.add_head_count_kv(CONFIG["kv_heads"])
    writer.add_key_length(CONFIG["head_dim"])
    writer.add_value_length(CONFIG["head_dim"])
    writer.add_rope_dimension_count(CONFIG["head_dim"])
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(100.0)
    random = np.random.default_rng(7)
    hidden, ffn = CONFIG["hidden"], CONFIG["ffn"]
    queries, keys = (CONFIG[name] * CONFIG["head_dim"] for name in ("heads", "kv_heads"))
    layer = {
        "attn_q": (queries, hidden),
        "attn_k": (keys, hidden),
        "attn_v": (keys, hidden),
        "attn_output": (hidden, queries),
        "ffn_gate": (ffn, hidden),
        "ffn_up": (ffn, hidden),
        "ffn_down": (hidden, ffn),
    }
    shapes = {"token_embd": (VOCAB, hidden), "output": (VOCAB, hidden)}
    shapes |= {f"blk.{i}.{name}": shape for i in range(CONFIG["layers"]) for name, shape in layer.items()}
    for name, shape in shapes.items():
        kind = gguf.GGMLQuantizationType[types[name.rpartition(".")[2]]]
        values = (random.normal(size=shape) * 0.2).astype(np.float32)
        writer.add_tensor(f"{name}.weight", ggml_quantize(values, kind), raw_dtype=kind)
    for name in ["output_norm", *(f"blk.{i}.{n}_norm" for i in range(CONFIG["layers"]) for n in ("attn", "ffn"))]:
        writer.add_tensor(f"{name}.weight", (1 + 0.3 * random.normal(size=hidden)).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return open_model(path)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    return small_gguf(tmp_path_factory.mktemp("model") / "small.gguf")


def prompts(lengths: list[int], seed: int = 1) -> list[list[int]]:
    random = np.random.default_rng(seed)
    return [random.integers(0, VOCAB, length).tolist() for length in lengths]


# ----------------------------------------------------------------------------------------- the same arithmetic in numpy


class Numpy:
    """A Llama decoder over one sequence, with the roundings that the kernels make and no others."""

    def __init__(self, files: ModelFiles) -> None:
        self.config: ModelConfig = files.config
        self.weights = files.weights()

    def matrix(self, name: str) -> NDArray[np.float64]:
        values = self.weights[name + ".weight"]
        packed = files_type(self.weights, name + ".weight") in ("Q4_0", "Q4_1", "Q8_0")
        return (values if packed else unpack(quantize(values))).astype(np.float64)

    def product(self, x: NDArray[np.float64], name: str) -> NDArray[np.float64]:
        blocks = x.reshape(len(x), -1, 32)
        scale = np.abs(blocks).max(-1, keepdims=True) / 127
        return (np.rint(blocks / scale) * scale).reshape(x.shape) @ self.matrix(name).T

    def norm(self, x: NDArray[np.float64], name: str) -> NDArray[np.float64]:
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.config.norm_eps) * self.weights[name + ".weight"]

    def turned(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        frequencies = self.config.rotaries[0].frequencies(self.config.head_dim)
        angles = np.arange(len(x))[:, None, None] * frequencies.astype(np.float64)
        left, right = np.split(x, 2, axis=-1)
        cos, sin = np.cos(angles), np.sin(angles)
        return np.concatenate((left * cos - right * sin, right * cos + left * sin), -1)

    def logits(self, tokens: list[int]) -> NDArray[np.float64]:
        config, count = self.config, len(tokens)
        x = self.matrix("model.embed_tokens")[tokens]
        for layer in range(config.layers):
            at = f"model.layers.{layer}."
            normed = self.norm(x, at + "input_layernorm")
            q, k, v = (
                self.product(normed, f"{at}self_attn.{name}_proj").reshape(count, -1, config.head_dim) for name in "qkv"
            )
            q, k, v = self.turned(q), self.turned(k).astype(np.float16), v.astype(np.float16)
            group = config.heads // config.kv_heads
            k, v = (np.repeat(part.astype(np.float64), group, axis=1) for part in (k, v))
            scores = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(config.head_dim)
            scores[:, np.triu(np.ones((count, count), bool), 1)] = -np.inf
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            weights /= weights.sum(-1, keepdims=True)
            mixed = np.einsum("hqk,khd->qhd", weights, v).reshape(count, -1)
            x = x + self.product(mixed, at + "self_attn.o_proj")
            normed = self.norm(x, at + "post_attention_layernorm")
            gate, up = (self.product(normed, f"{at}mlp.{name}_proj") for name in ("gate", "up"))
            x = x + self.product(gate / (1 + np.exp(-gate)) * up, at + "mlp.down_proj")
        head = "model.embed_tokens" if config.tied_embeddings else "lm_head"
        return self.product(self.norm(x, "model.norm"), head)


def files_type(weights: Any, name: str) -> str:
    return weights.packed(name).type if hasattr(weights, "packed") else "F32"


def assert_same_arithmetic(found: NDArray[np.float32], wanted: NDArray[np.float64]) -> None:
    """Equal but for activations so near the middle of two steps that float32 rounds them the other way."""
    error = np.abs(found - wanted)
    spread = wanted.std()
    assert np.median(error) < 1e-4 * spread and error.max() < 0.05 * spread


def test_logits_are_those_of_the_same_arithmetic(files: ModelFiles) -> None:
    runner = CpuRunner.load(files, num_blocks=64, threads=2)
    tokens = prompts([5, 1, 140, 33, 16, 64])
    for found, prompt in zip(Feeder(runner).run(tokens, [2, 1, 50, 33, 1, 17]), tokens, strict=True):
        assert_same_arithmetic(found, Numpy(files).logits(prompt))


def test_float_weights_become_blocks_of_eight_bits(tmp_path: Path) -> None:
    """Safetensors: equal to the reference of the quantized arithmetic, and near full precision."""
    model = small_llama(tie_word_embeddings=True, intermediate_size=96, head_dim=32)
    files = open_model(saved(model, tmp_path))
    (prompt,) = prompts([70])
    prompt = [token % files.config.vocab_size for token in prompt]
    (found,) = Feeder(CpuRunner.load(files, num_blocks=16)).run([prompt], [70])
    assert_same_arithmetic(found, Numpy(files).logits(prompt))
    (full,) = Feeder(TorchRunner.load(files, num_blocks=16)).run([prompt], [70])
    assert np.abs(found - full).mean() < 0.05 * full.std()


# ----------------------------------------------------------------------------------------- one answer however it is cut


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 90), min_size=1, max_size=9),
    chunk=st.data(),
    block_size=st.sampled_from([16, 32, 48]),
    threads=st.integers(1, 3),
)
def test_bits_do_not_depend_on_batch_chunks_blocks_or_threads(
    files: ModelFiles, lengths: list[int], chunk: st.DataObject, block_size: int, threads: int
) -> None:
    tokens = prompts(lengths)
    alone = Feeder(CpuRunner.load(files, num_blocks=8, threads=1))
    wanted = [alone.run([prompt], [len(prompt)])[0] for prompt in tokens]
    runner = CpuRunner.load(files, num_blocks=9 * 6, block_size=block_size, threads=threads)
    cuts = [chunk.draw(st.integers(1, length)) for length in lengths]
    for found, expected in zip(Feeder(runner, seed=len(lengths)).run(tokens, cuts), wanted, strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 9, 33])
def test_decoding_side_by_side(files: ModelFiles, count: int) -> None:
    """Batches that meet every width of tile; contexts that end before, at and after block and chunk borders."""
    runner = CpuRunner.load(files, num_blocks=6 * 33, threads=2)
    lengths = [(1, 15, 16, 17, 31, 63, 64, 65)[i % 8] for i in range(count)]
    tokens = prompts([length + 2 for length in lengths])
    feeder = Feeder(runner)
    cursors = [Cursor() for _ in tokens]
    for cursor, prompt in zip(cursors, tokens, strict=True):
        feeder.step([(cursor, prompt[:-2])])
    for at in (-2, -1):
        found = feeder.step([(c, [t[at]]) for c, t in zip(cursors, tokens, strict=True)])
    alone = Feeder(CpuRunner.load(files, num_blocks=8, threads=1))
    for logits, prompt in zip(found, tokens, strict=True):
        np.testing.assert_array_equal(logits[0], alone.run([prompt], [len(prompt)])[0][-1])


def test_only_the_rows_asked_for(files: ModelFiles) -> None:
    runner = CpuRunner.load(files, num_blocks=16)
    (tokens,) = prompts([40])
    (wanted,) = Feeder(runner).run([tokens], [40])
    batch = Feeder(runner).batch([(Cursor(), tokens)])
    for rows in ([], [0], [3, 17, 39]):
        batch.logit_rows = np.array(rows, np.int32)
        found = runner.forward(batch)
        assert found.flags.c_contiguous and found.dtype == np.float32
        np.testing.assert_array_equal(found, wanted[rows])


def test_an_empty_batch_is_a_step_without_work(files: ModelFiles) -> None:
    none = np.zeros(0, np.int32)
    tables = np.zeros((1, 0, 0), np.int32)
    batch = StepBatch(none, none, none[None], np.zeros(1, np.int32), none, tables, none)
    assert CpuRunner.load(files, num_blocks=1, threads=2).forward(batch).shape == (0, VOCAB)


def test_a_copied_block_answers_as_its_source(files: ModelFiles) -> None:
    feeder = Feeder(CpuRunner.load(files, num_blocks=16))
    (tokens,) = prompts([41])
    first = Cursor()
    feeder.step([(first, tokens[:40])])
    second = feeder.fork(first)
    found, copied = feeder.step([(first, tokens[40:]), (second, tokens[40:])])
    np.testing.assert_array_equal(found, copied)
    assert first.blocks[-1] != second.blocks[-1]


# ------------------------------------------------------------------------------------------ memory, threads, refusals


def test_memory_is_accounted(files: ModelFiles) -> None:
    runner = CpuRunner.load(files, num_blocks=10, block_size=32)
    config = files.config
    assert runner.nbytes()["kv"] == 4 * config.layers * config.kv_heads * config.head_dim * 320
    elements = sum(np.prod(shape) for shape in config.weight_shapes().values())
    assert elements * 0.5 < runner.nbytes()["weights"] < elements * 1.2


def test_threads_end_with_their_runner(files: ModelFiles) -> None:
    def alive() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name.startswith("cpu-kernel")]

    gc.collect()
    before = len(alive())
    runner = CpuRunner.load(files, num_blocks=4, threads=3)
    Feeder(runner).run(prompts([30]), [30])
    assert len(alive()) == before + 2
    del runner
    gc.collect()
    assert len(alive()) == before


def narrow(tmp_path: Path) -> ModelFiles:
    return open_model(saved(small_llama(), tmp_path))


def test_sizes_without_a_kernel_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="ffn is 80"):
        CpuRunner.load(narrow(tmp_path), num_blocks=4)


def test_parameters_out_of_range_are_refused(files: ModelFiles) -> None:
    with pytest.raises(ValueError, match="block_size is 24"):
        CpuRunner.load(files, num_blocks=4, block_size=24)
    with pytest.raises(ValueError, match="threads is 0"):
        CpuRunner.load(files, num_blocks=4, threads=0)


# ------------------------------------------------------------------------------------------------------- the real model


@needs_model
def test_the_embedded_model_is_near_full_precision() -> None:
    """Mean KL divergence to float32 on the same weights below 0.01 (a few prompts here; bench/decode_cpu.py has 4,096
    tokens)."""
    files = embedded_model()
    tokens = [prompt[:120] for prompt in real_prompts(files.tokenizer())[6:12]]
    chunk = [len(prompt) for prompt in tokens]
    found = np.concatenate(Feeder(CpuRunner.load(files, num_blocks=64)).run(tokens, chunk)).astype(np.float64)
    full = np.concatenate(Feeder(TorchRunner.load(files, num_blocks=64)).run(tokens, chunk)).astype(np.float64)
    p, q = (x - np.logaddexp.reduce(x, axis=1, keepdims=True) for x in (full, found))
    assert (np.exp(p) * (p - q)).sum(1).mean() < 0.01
    assert (full.argmax(1) == found.argmax(1)).mean() > 0.95
