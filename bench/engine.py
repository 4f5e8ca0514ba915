"""The engine beside its peers on the embedded model: prefill and decode tokens/s at batch 1, 8 and 32, free and
schema-constrained.

    python -m bench.engine [--peer-python .venv-bench/bin/python] [--rounds 5]

Ours is the engine process as the server runs it, asked through `engine.client`; decode is timed while all sequences of
a batch decode, so that admission and prefill are not in it. Peers: llama.cpp through llama-cpp-python on the same file
(bench/peers/llama.py), and transformers' `generate` on the dequantized weights. All are measured in interleaved rounds
of one run, with the same number of threads; the card shows medians. What a constraint costs is measured apart, since it
is smaller than the noise of a busy machine: free and constrained decoding in pairs, now the one first, now the other,
and the median of the pairs' ratios. Text that the constraint forces is asked of the model here, token by token.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.client import EngineClient, EngineGone
from engine.model.files import open_model
from engine.model.store import resolve
from schemas.config import EMBEDDED_MODEL, Engine, ModelSettings, Settings
from schemas.constraint import JsonSchemaSpec
from schemas.engine import Failed, Finished, Sampling, Submit, Tokens

SCHEMA = {
    "type": "array",
    "minItems": 40,
    "items": {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 40},
            "age": {"type": "integer", "minimum": 0, "maximum": 120},
            "tags": {"type": "array", "items": {"type": "string", "maxLength": 16}, "minItems": 1, "maxItems": 3},
        },
        "required": ["name", "age", "tags"],
        "additionalProperties": False,
    },
}
"""Never finished within the tokens measured, so every sequence decodes under masks all the time."""

PROMPT = (
    "The library of the old town opened its doors every morning at eight. Its rooms held maps, letters and ledgers "
    "that told how merchants had lived, what they had paid for salt and wool, and which of their children went to sea. "
)


class Ours:
    """The engine process, in a loop of its own."""

    def __init__(self, path: Path, threads: int) -> None:
        self._loop = asyncio.new_event_loop()
        settings = Settings(
            models=(ModelSettings(name="m", path=str(path)),),
            engine=Engine(threads=threads, kv_memory_mb=1024, skip_forced=False),
        )
        self._client = EngineClient(settings)
        self._loop.run_until_complete(self._client.start())
        self._n = 0

    def close(self) -> None:
        self._loop.run_until_complete(self._client.aclose())

    def prefill(self, prompt: list[int]) -> float:
        """Seconds from submission to the first token."""
        return self._loop.run_until_complete(self._run([prompt], 1, None))[0]

    def decode(self, prompts: list[list[int]], tokens: int, schema: Any = None) -> tuple[int, float]:
        """Tokens made while the whole batch decoded, and the seconds that took."""
        _, made, seconds = self._loop.run_until_complete(self._run(prompts, tokens + 1, schema))
        return made, seconds

    async def _run(self, prompts: list[list[int]], tokens: int, schema: Any) -> tuple[float, int, float]:
        constraint = None if schema is None else JsonSchemaSpec(json.dumps(schema))
        first: dict[int, float] = {}
        ends: list[float] = []
        arrivals: list[tuple[float, int]] = []

        async def follow(i: int, prompt: list[int]) -> None:
            self._n += 1
            request = Submit(
                f"r{self._n}",
                "m",
                prompt,
                tokens,
                sampling=Sampling(temperature=0.0),
                constraint=constraint,
                ignore_eos=constraint is None,
                tenant=f"t{self._n}",
            )
            events = self._client.submit(request)
            while True:
                event = await events.get()
                now = time.perf_counter()
                if isinstance(event, (Failed, EngineGone)):
                    raise RuntimeError(str(event))
                if isinstance(event, Tokens):
                    first.setdefault(i, now)
                    arrivals.append((now, len(event.ids)))
                if isinstance(event, Finished):
                    ends.append(now)
                    break
            self._client.forget(request.id)

        began = time.perf_counter()
        await asyncio.gather(*(follow(i, prompt) for i, prompt in enumerate(prompts)))
        # While every sequence decodes: after the last prompt is computed, until the first sequence ends.
        full, over = max(first.values()), min(ends)
        made = sum(n for when, n in arrivals if full < when <= over)
        return full - began, made, over - full


class Llama:
    """The peer process of bench/peers/llama.py."""

    def __init__(self, python: str, path: Path, threads: int, batch: int) -> None:
        script = Path(__file__).parent / "peers" / "llama.py"
        self._process = subprocess.Popen(
            [python, str(script), str(path), str(threads), str(batch)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        self.version = self._answer()["version"]

    def ask(self, **request: Any) -> dict[str, float]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the llama.cpp peer has ended; is --peer-python the environment of `make bench-setup`?")
        return json.loads(line)


class Transformers:
    """`generate` on the same weights, dequantized to fp32."""

    def __init__(self, path: Path, threads: int) -> None:
        import torch
        import transformers

        torch.set_num_threads(threads)
        files = open_model(path)
        c, weights = files.config, files.weights()
        config = transformers.LlamaConfig.from_dict(
            {
                "vocab_size": c.vocab_size,
                "hidden_size": c.hidden,
                "intermediate_size": c.ffn,
                "num_hidden_layers": c.layers,
                "num_attention_heads": c.heads,
                "num_key_value_heads": c.kv_heads,
                "head_dim": c.head_dim,
                "rms_norm_eps": c.norm_eps,
                "rope_theta": c.rotaries[0].theta,
                "max_position_embeddings": c.context_length,
                "tie_word_embeddings": c.tied_embeddings,
            }
        )
        model: Any = transformers.LlamaForCausalLM(config).eval()
        model.load_state_dict({name: torch.from_numpy(weights[name]) for name in c.weight_shapes()}, strict=False)
        model.tie_weights()
        self._torch, self._model = torch, model

    def prefill(self, prompt: list[int]) -> float:
        return self._generate([prompt], 1)

    def decode(self, prompts: list[list[int]], tokens: int) -> tuple[int, float]:
        short = self._generate(prompts, 1)
        return tokens * len(prompts), self._generate(prompts, tokens + 1) - short

    def _generate(self, prompts: list[list[int]], tokens: int) -> float:
        ids = self._torch.tensor(prompts)
        began = time.perf_counter()
        self._model.generate(
            ids,
            attention_mask=self._torch.ones_like(ids),
            max_new_tokens=tokens,
            min_new_tokens=tokens,
            do_sample=False,
            pad_token_id=0,
        )
        return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", help="Python of an environment with llama-cpp-python (`make bench-setup`)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pairs", type=int, default=12, help="free and constrained decodes that are compared")
    parser.add_argument("--tokens", type=int, default=96, help="tokens decoded by each sequence")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--transformers", action=argparse.BooleanOptionalAction, default=True)
    options = parser.parse_args()

    path = resolve(EMBEDDED_MODEL)
    text = open_model(path).tokenizer().encode(PROMPT * 40)
    ours = Ours(path, options.threads)
    llama = Llama(options.peer_python, path, options.threads, 32) if options.peer_python else None
    hf = Transformers(path, options.threads) if options.transformers else None
    tasks: dict[str, Callable[[], float]] = {}

    def rate(made_in: tuple[float, float]) -> float:
        return made_in[0] / made_in[1]

    def llama_rate(answer: dict[str, float]) -> float:
        return answer["tokens"] / answer["seconds"]

    # Each round takes other parts of the text, so that no prefix cache helps.
    turn = 0

    def prompts(batch: int, length: int = 64) -> list[list[int]]:
        return [text[(start := (turn * 37 + i * 11) % (len(text) - length)) : start + length] for i in range(batch)]

    tasks["sluice prefill 512"] = lambda: 512 / ours.prefill(prompts(1, 512)[0])
    for batch in (1, 8, 32):
        tasks[f"sluice decode {batch}"] = lambda b=batch: rate(ours.decode(prompts(b), options.tokens))
        tasks[f"sluice constrained {batch}"] = lambda b=batch: rate(ours.decode(prompts(b), options.tokens, SCHEMA))
    if llama is not None:
        peer = llama
        tasks["llama.cpp prefill 512"] = lambda: 512 / peer.ask(op="prefill", prompt=prompts(1, 512)[0])["seconds"]
        for batch in (1, 8, 32):
            tasks[f"llama.cpp decode {batch}"] = lambda b=batch: llama_rate(
                peer.ask(op="decode", prompts=prompts(b), tokens=options.tokens)
            )
        tasks["llama.cpp constrained 1"] = lambda: llama_rate(
            peer.ask(op="constrained", prompt=prompts(1)[0], tokens=options.tokens, schema=SCHEMA)
        )
    if hf is not None:
        generate = hf
        tasks["transformers prefill 512"] = lambda: 512 / generate.prefill(prompts(1, 512)[0])
        for batch in (1, 8):
            tasks[f"transformers decode {batch}"] = lambda b=batch: rate(generate.decode(prompts(b), 32))

    results: dict[str, list[float]] = {name: [] for name in tasks}
    for turn in range(options.rounds + 1):
        for name, task in tasks.items():
            if name.startswith("transformers") and turn > 2:
                continue
            value = task()
            if turn:  # the first round warms up
                results[name].append(value)
                print(f"round {turn}: {name}: {value:.1f} tok/s", flush=True)
    medians = {name: statistics.median(values) for name, values in results.items() if values}
    shares: dict[int, float] = {}
    for batch in (1, 8, 32):
        ratios: list[float] = []
        for turn in range(options.pairs):
            order = ("decode", "constrained") if turn % 2 else ("constrained", "decode")
            pair = {kind: tasks[f"sluice {kind} {batch}"]() for kind in order}
            ratios.append(pair["constrained"] / pair["decode"])
        shares[batch] = statistics.median(ratios)
        print(
            f"constrained / free at batch {batch}: {' '.join(f'{ratio:.3f}' for ratio in sorted(ratios))}", flush=True
        )
    print(card(medians, shares, options.threads, llama.version if llama else None))
    line = {"bench": "engine", "threads": options.threads, "tokens_per_second": medians, "constrained_share": shares}
    print(json.dumps(line))
    ours.close()
    if llama is not None:
        llama.close()


def card(medians: dict[str, float], shares: dict[int, float], threads: int, llama_version: str | None) -> str:
    """A table for people: rows are tasks, columns engines, with the ratio to llama.cpp."""
    lines = [f"\n{EMBEDDED_MODEL}, {threads} threads, tokens/s (llama-cpp-python {llama_version})"]
    lines.append(f"{'':18}{'sluice':>10}{'llama.cpp':>12}{'transformers':>14}{'sluice / llama.cpp':>20}")
    for task in (
        "prefill 512",
        "decode 1",
        "decode 8",
        "decode 32",
        "constrained 1",
        "constrained 8",
        "constrained 32",
    ):
        found = [medians.get(f"{who} {task}") for who in ("sluice", "llama.cpp", "transformers")]
        cells = [f"{value:.1f}" if value else "-" for value in found]
        ratio = f"{found[0] / found[1]:.2f}" if found[0] and found[1] else "-"
        lines.append(f"{task:18}{cells[0]:>10}{cells[1]:>12}{cells[2]:>14}{ratio:>20}")
    lines += [f"constrained / free at batch {batch}: {share:.3f}" for batch, share in shares.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
