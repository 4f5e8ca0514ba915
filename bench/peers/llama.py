"""llama.cpp, measured in its own environment by `bench/engine.py`: one JSON request a line in, one JSON answer a line
out.

    {"op": "prefill", "tokens": 512}                       → {"seconds": ...}
    {"op": "decode", "batch": 8, "tokens": 64}             → {"seconds": ..., "tokens": ...}   free, greedy
    {"op": "constrained", "schema": {...}, "tokens": 64}   → the same, under llama.cpp's own grammar

Batches go through the C API as llama.cpp's server drives it: all sequences in one llama_decode a step.
"""

from __future__ import annotations

import json
import sys
import time

import llama_cpp  # pyright: ignore[reportMissingImports]
import numpy as np


class Peer:
    def __init__(self, path: str, threads: int, batch: int) -> None:
        self.llm = llama_cpp.Llama(
            path, n_ctx=2048, n_threads=threads, n_threads_batch=threads, n_batch=2048, n_ubatch=512, verbose=False
        )
        # The high-level class allows one sequence only; batches get a context of their own over the same model.
        options = llama_cpp.llama_context_default_params()
        options.n_ctx, options.n_seq_max, options.n_batch, options.n_ubatch = (
            min(8192, 256 * batch + 1024),
            batch,
            2048,
            512,
        )
        options.n_threads = options.n_threads_batch = threads
        options.kv_unified = True
        self.ctx = llama_cpp.llama_init_from_model(self.llm._model.model, options)
        self.memory = llama_cpp.llama_get_memory(self.ctx)
        self.vocab = self.llm.n_vocab()

    def _decode(self, tokens: list[tuple[int, int, int, bool]]) -> None:
        """One llama_decode of (token, position, sequence, wants logits)."""
        batch = llama_cpp.llama_batch_init(len(tokens), 0, 1)
        batch.n_tokens = len(tokens)
        for i, (token, position, sequence, logits) in enumerate(tokens):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, position, 1, logits
            batch.seq_id[i][0] = sequence
        assert llama_cpp.llama_decode(self.ctx, batch) == 0
        llama_cpp.llama_batch_free(batch)

    def _greedy(self, row: int) -> int:
        logits = llama_cpp.llama_get_logits_ith(self.ctx, row)
        return int(np.ctypeslib.as_array(logits, (self.vocab,)).argmax())

    def prefill(self, prompt: list[int]) -> dict[str, float]:
        llama_cpp.llama_memory_clear(self.memory, True)
        began = time.perf_counter()
        self._decode([(token, i, 0, i == len(prompt) - 1) for i, token in enumerate(prompt)])
        self._greedy(len(prompt) - 1)
        return {"seconds": time.perf_counter() - began}

    def decode(self, prompts: list[list[int]], steps: int) -> dict[str, float]:
        llama_cpp.llama_memory_clear(self.memory, True)
        current = []
        for sequence, prompt in enumerate(prompts):
            self._decode([(token, i, sequence, i == len(prompt) - 1) for i, token in enumerate(prompt)])
            current.append(self._greedy(len(prompt) - 1))
        began = time.perf_counter()
        for step in range(steps):
            self._decode([(token, len(prompts[s]) + step, s, True) for s, token in enumerate(current)])
            current = [self._greedy(s) for s in range(len(prompts))]
        return {"seconds": time.perf_counter() - began, "tokens": steps * len(prompts)}

    def constrained(self, prompt: list[int], steps: int, schema: object) -> dict[str, float]:
        grammar = llama_cpp.LlamaGrammar.from_json_schema(json.dumps(schema), verbose=False)
        self.llm.reset()
        stream = self.llm.generate(prompt, temp=0.0, grammar=grammar)
        next(stream)  # the prompt's time is not the decode's
        began, made = time.perf_counter(), 0
        for _ in stream:
            made += 1
            if made == steps:
                break
        return {"seconds": time.perf_counter() - began, "tokens": made}


def main() -> None:
    path, threads, batch = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    peer = Peer(path, threads, batch)
    print(json.dumps({"version": llama_cpp.__version__}), flush=True)
    for line in sys.stdin:
        ask = json.loads(line)
        if ask["op"] == "prefill":
            answer = peer.prefill(ask["prompt"])
        elif ask["op"] == "decode":
            answer = peer.decode(ask["prompts"], ask["tokens"])
        else:
            answer = peer.constrained(ask["prompt"], ask["tokens"], ask["schema"])
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
