"""Precision "reference" on the embedded model: logits against transformers, on the same dequantized weights.

Every prompt is teacher-forced: each of its tokens is a place where the logits are compared. The tolerance is for
float32 sums taken in another order; tokens must agree wherever transformers itself is surer than the tolerance.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import LlamaConfig, LlamaForCausalLM

from engine.decoder import TorchRunner
from engine.model.config import ModelConfig
from engine.model.weights import Weights
from tests.engine.decoding import LONGEST, MODEL, Cursor, Feeder, embedded_model, needs_model, real_prompts

TOLERANCE = 5e-4
"""Largest difference of a logit: five times the worst that was measured over all prompts and modes (1e-4)."""

pytestmark = needs_model


def oracle(config: ModelConfig, weights: Weights) -> LlamaForCausalLM:
    """transformers' own decoder with our weights in it."""
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.hidden,
            intermediate_size=config.ffn,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.kv_heads,
            max_position_embeddings=config.context_length,
            rms_norm_eps=config.norm_eps,
            rope_parameters={"rope_type": "default", "rope_theta": config.rotaries[0].theta},
            tie_word_embeddings=config.tied_embeddings,
        )
    )
    state = {name: torch.from_numpy(weights[name]) for name in weights}
    state["lm_head.weight"] = state.get("lm_head.weight", state["model.embed_tokens.weight"])
    model.load_state_dict(state, strict=True)
    return model.eval()


class Reference:
    """The runner under test, the prompts, and transformers' answer to each prompt."""

    def __init__(self) -> None:
        files = embedded_model()
        self.prompts = real_prompts(files.tokenizer())
        self.runner = TorchRunner.load(files, num_blocks=640)
        self.model = oracle(files.config, files.weights())
        self._hidden: dict[int, torch.Tensor] = {}

    @torch.inference_mode()
    def expected(self, prompt: int) -> NDArray[np.float32]:
        """[tokens, vocab]; the last hidden states are kept, the logits would be 1 GB."""
        if prompt not in self._hidden:
            self._hidden[prompt] = self.model.model(torch.tensor([self.prompts[prompt]])).last_hidden_state[0]
        return self.model.lm_head(self._hidden[prompt]).numpy()

    def check(self, prompts: Sequence[int], answers: Sequence[NDArray[np.float32]], skip: int = 0) -> None:
        """``answers`` hold the logits of each prompt's tokens from ``skip`` on."""
        for prompt, found in zip(prompts, answers, strict=True):
            wanted = self.expected(prompt)[skip:]
            assert found.shape == wanted.shape
            assert np.abs(found - wanted).max() <= TOLERANCE, f"prompt {prompt}"
            first, second = torch.from_numpy(wanted).topk(2).values.T.numpy()
            sure = first - second > TOLERANCE
            assert (found.argmax(-1) == wanted.argmax(-1))[sure].all(), f"prompt {prompt}"


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference()


def test_the_prompts_are_what_is_claimed(reference: Reference) -> None:
    lengths = [len(prompt) for prompt in reference.prompts]
    assert len(lengths) == 20 and min(lengths) == 5 and max(lengths) == LONGEST


def alone(reference: Reference, prompts: Sequence[int]) -> None:
    for prompt in prompts:
        tokens = reference.prompts[prompt]
        reference.check([prompt], Feeder(reference.runner, seed=prompt).run([tokens], [len(tokens)]))


def chunked_side_by_side(reference: Reference, prompts: Sequence[int], seed: int) -> None:
    """Chunks differ by sequence, down to single tokens as in decoding, so that every step is ragged."""
    feeder = Feeder(reference.runner, seed)
    longest = max(len(reference.prompts[prompt]) for prompt in prompts)
    chunks = [feeder.random.choice([1, 7, 32, 200] if longest < 100 else [31, 64, 200, 512]) for _ in prompts]
    reference.check(prompts, feeder.run([reference.prompts[prompt] for prompt in prompts], chunks))


def cached(reference: Reference, prompts: Sequence[int]) -> None:
    """A prefix is in the cache already, ending inside a block; two sequences go on from it in one batch."""
    for prompt in prompts:
        tokens = reference.prompts[prompt]
        split = len(tokens) * 2 // 3
        feeder = Feeder(reference.runner, seed=prompt)
        first = Cursor()
        feeder.step([(first, tokens[:split])])
        second = feeder.fork(first)
        answers = feeder.step([(first, tokens[split:]), (second, tokens[split:])])
        reference.check([prompt, prompt], answers, skip=split)


def test_short_prompts_alone(reference: Reference) -> None:
    alone(reference, [0, 4, 7])


def test_short_prompts_in_one_batch(reference: Reference) -> None:
    chunked_side_by_side(reference, range(10), seed=1)


def test_a_document_with_its_prefix_cached(reference: Reference) -> None:
    cached(reference, [9, 12])


@pytest.mark.slow
def test_all_prompts_alone(reference: Reference) -> None:
    alone(reference, range(20))


@pytest.mark.slow
def test_all_prompts_in_one_batch(reference: Reference) -> None:
    chunked_side_by_side(reference, range(20), seed=2)


@pytest.mark.slow
def test_all_prompts_with_their_prefix_cached(reference: Reference) -> None:
    cached(reference, range(20))


@pytest.mark.slow
def test_transformers_reads_the_same_weights_from_the_file(reference: Reference) -> None:
    """Its own GGUF loader, against our dequantized weights in Hugging Face order: equal bit for bit."""
    loaded = LlamaForCausalLM.from_pretrained(MODEL.parent, gguf_file=MODEL.name, dtype=torch.float32).state_dict()
    ours = reference.model.state_dict()
    assert loaded.keys() == ours.keys()
    for name, tensor in ours.items():
        assert torch.equal(loaded[name], tensor), name
