"""A small model whose weights have never been rounded: trained from scratch, kept in bf16, to be quantized.

    python -m bench.small_model FOLDER [--steps 600]
    python -m bench.quantization --model FOLDER --text FOLDER/held-out.txt

The default model's weights lie on a 16-level grid already, which flatters 4 bits and hides what methods are good for.
This one is a Llama of four layers (256 wide, so that every block format and groups of 128 fit), trained on 7/8
of the language reference that comes with Python, with a byte-level BPE of 2,048 tokens learned from the same; the rest
of the text is written beside it. It knows little, but its weights are as training left them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from engine.quantization.command import reference_text

VOCABULARY, END = 2048, "<|end|>"
CONTEXT, BATCH = 512, 4
RATE, WARM = 3e-3, 40
"""The highest learning rate, and the steps that lead up to it."""


def tokenizer_of(text: str) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=[END], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([text], trainer)
    return tokenizer


def trained(ids: Tensor, steps: int) -> LlamaForCausalLM:
    """AdamW under a cosine, on windows drawn anew for every step."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=256, intermediate_size=768, num_hidden_layers=4, num_attention_heads=8,
        num_key_value_heads=4, max_position_embeddings=CONTEXT, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.95), weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.SequentialLR(
        optimizer,
        [
            torch.optim.lr_scheduler.LinearLR(optimizer, 0.01, total_iters=WARM),
            torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps - WARM), RATE / 10),
        ],
        [WARM],
    )
    for step in range(steps):
        starts = torch.randint(len(ids) - CONTEXT, (BATCH,)).tolist()
        window = torch.stack([ids[start : start + CONTEXT] for start in starts])
        loss = model(input_ids=window, labels=window).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 20 == 0 or step + 1 == steps:
            print(f"step {step}: loss {loss.item():.3f}", flush=True)
    return model.to(torch.bfloat16)  # pyright: ignore[reportCallIssue, reportArgumentType]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the model goes")
    parser.add_argument("--steps", type=int, default=600, help="of 2,048 tokens each")
    options = parser.parse_args()
    text = reference_text()
    cut = len(text) * 7 // 8
    tokenizer = tokenizer_of(text[:cut])
    model = trained(torch.tensor(tokenizer.encode(text[:cut]).ids), options.steps)
    model.save_pretrained(options.folder)
    tokenizer.save(str(options.folder / "tokenizer.json"))
    (options.folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": END}))
    (options.folder / "held-out.txt").write_text(text[cut:], encoding="utf-8")


if __name__ == "__main__":
    main()
