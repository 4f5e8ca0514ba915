"""What a model is: the facts one configurable decoder is built from.

Families differ in a few switches, and this is all of them:

    llama      (Llama 2 and 3, SmolLM2)  RMS norm, rotary positions, grouped-query attention, SwiGLU
    mistral    + a sliding window in every layer
    qwen2      + biases on queries, keys and values
    qwen3      + a norm over every query and key head
    smollm3    + layers without positions
    phi3       (Phi-3 and 4)  + a head that turns in part; projections stored fused
    gemma2     GeGLU, norms on both sides of a block, soft caps, windows in every other layer, a scaled embedding
    gemma3     as Gemma 2 without caps, with head norms, and another rotation in the layers that have a window

`engine.model.folder_config` and `engine.model.gguf_config` read them. What would change the computation and is not
known here is refused by name when the model is opened: a model either runs as its authors meant it, or not at all.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from engine.model.errors import ModelFileError
from engine.model.rotary import Rotary

Activation = Literal["silu", "gelu_tanh"]


class ModelConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A decoder. Sizes count elements; token ids are None or empty where the files name none."""

    family: str = "llama"
    """The table's name for it: how the files store the weights; nothing else depends on it."""
    vocab_size: int
    """Rows of the embedding and length of a logits row; may exceed the tokenizer's vocabulary."""
    hidden: int
    ffn: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    context_length: int
    norm_eps: float
    rotaries: tuple[Rotary, ...]
    """The rotations that layers use."""
    layer_rotary: tuple[int, ...] = ()
    """[layers] which of `rotaries` a layer uses; empty: the first everywhere."""
    windows: tuple[int, ...] = ()
    """[layers] keys a query sees, itself included; 0 for all, and empty for all everywhere."""
    activation: Activation = "silu"
    tied_embeddings: bool = False
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    """RMS norm of each query and key head, before rotation."""
    post_norms: bool = False
    """RMS norms of what attention and the MLP add to the residual stream."""
    embedding_scale: float = 1.0
    query_scale: float | None = None
    """Factor of attention scores; None for head_dim ** -0.5."""
    attention_cap: float = 0.0
    """c in c · tanh(score / c); 0 for none."""
    logit_cap: float = 0.0
    bos_id: int | None = None
    eos_ids: tuple[int, ...] = ()

    @property
    def attention_scale(self) -> float:
        return self.head_dim**-0.5 if self.query_scale is None else self.query_scale

    @property
    def mlp_norm(self) -> str:
        """The name of the norm before the MLP; after attention's own norm where there are norms on both sides."""
        return "pre_feedforward_layernorm" if self.post_norms else "post_attention_layernorm"

    def window(self, layer: int) -> int:
        return self.windows[layer] if self.windows else 0

    def rotary(self, layer: int) -> int:
        """Which of `rotaries` the layer uses."""
        return self.layer_rotary[layer] if self.layer_rotary else 0

    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """Every weight of the model by its Hugging Face name, with its shape; linear weights are [outputs, inputs].

        Projections that some files fuse have a name each, as most families have them.
        """
        shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (self.vocab_size, self.hidden)}
        for layer in range(self.layers):
            prefix = f"model.layers.{layer}."
            shapes |= {f"{prefix}{name}.weight": (size,) for name, size in self._norms().items()}
            for name, (outputs, inputs, bias) in self._linears().items():
                shapes[f"{prefix}{name}.weight"] = (outputs, inputs)
                if bias:
                    shapes[f"{prefix}{name}.bias"] = (outputs,)
        shapes["model.norm.weight"] = (self.hidden,)
        if not self.tied_embeddings:
            shapes["lm_head.weight"] = (self.vocab_size, self.hidden)
        return shapes

    def _norms(self) -> dict[str, int]:
        norms = {"input_layernorm": self.hidden, "post_attention_layernorm": self.hidden}
        if self.post_norms:
            norms |= {"pre_feedforward_layernorm": self.hidden, "post_feedforward_layernorm": self.hidden}
        if self.qk_norm:
            norms |= {"self_attn.q_norm": self.head_dim, "self_attn.k_norm": self.head_dim}
        return norms

    def _linears(self) -> dict[str, tuple[int, int, bool]]:
        """Outputs, inputs, and whether there is a bias."""
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        return {
            "self_attn.q_proj": (queries, self.hidden, self.qkv_bias),
            "self_attn.k_proj": (keys, self.hidden, self.qkv_bias),
            "self_attn.v_proj": (keys, self.hidden, self.qkv_bias),
            "self_attn.o_proj": (self.hidden, queries, self.output_bias),
            "mlp.gate_proj": (self.ffn, self.hidden, self.mlp_bias),
            "mlp.up_proj": (self.ffn, self.hidden, self.mlp_bias),
            "mlp.down_proj": (self.hidden, self.ffn, self.mlp_bias),
        }


SIZES = ("vocab_size", "hidden", "ffn", "layers", "heads", "kv_heads", "head_dim", "context_length")


def checked(config: ModelConfig, path: str) -> ModelConfig:
    """The same, if its parts fit together; ModelFileError, naming ``path``, if not."""
    for name in SIZES:
        if getattr(config, name) < 1:
            raise ModelFileError(f"{path}: {name} is {getattr(config, name)}, but must be at least 1")
    if config.heads % config.kv_heads:
        raise ModelFileError(f"{path}: {config.heads} heads cannot be shared by {config.kv_heads} key heads")
    for rotary in config.rotaries:
        if config.head_dim % 2 or rotary.dim % 2 or not 0 <= rotary.dim <= config.head_dim:
            raise ModelFileError(f"{path}: {rotary.dim} of a head of {config.head_dim} cannot be rotated in pairs")
        divisors = getattr(rotary.scaling, "divisors", None)
        if divisors is not None and len(divisors) != rotary.dim // 2:
            raise ModelFileError(f"{path}: {len(divisors)} rotary factors for {rotary.dim} rotated numbers of a head")
    for name in ("windows", "layer_rotary"):
        if len(getattr(config, name)) not in (0, config.layers):
            raise ModelFileError(f"{path}: {len(getattr(config, name))} {name} for {config.layers} layers")
    for name, token_id in (("bos", config.bos_id), *(("eos", token_id) for token_id in config.eos_ids)):
        if token_id is not None and not 0 <= token_id < config.vocab_size:
            raise ModelFileError(f"{path}: {name} token id {token_id} is outside the vocabulary of {config.vocab_size}")
    return config


def layer_windows(window: int | None, sliding: list[bool], context_length: int) -> tuple[int, ...]:
    """`ModelConfig.windows` of layers that have the window where ``sliding`` says so; one that never cuts is none."""
    if window is None or window >= context_length or not any(sliding):
        return ()
    return tuple(window if slides else 0 for slides in sliding)
