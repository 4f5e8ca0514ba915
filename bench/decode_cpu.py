"""The quantized CPU runner beside llama.cpp, on the same file with the same number of threads: speed and accuracy.

    python -m bench.decode_cpu --peer-python .venv-bench/bin/python [--threads 2] [--rounds 5] [--accuracy-tokens 4096]

Speed: a prompt of 512 tokens, and decode steps of 1, 8 and 32 sequences whose contexts begin at 64 tokens. The two take
turns within every round, the peer in a process of its own under the interpreter given, and medians over all rounds are
printed: a machine that others use slows both. Bandwidth counts the weights once a step, whatever the batch, and stands
beside what the same threads read from memory with nothing else to do.

Accuracy: KL divergence to float32 on the same dequantized weights and agreement of the likeliest token, over the
language reference that Python's standard library ships, cut into windows of 256 tokens. `--accuracy-tokens 0` leaves it
out.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

MODEL = Path.home() / ".cache/sluice/models/SmolLM2-135M-Instruct.Q4_1.gguf"
PROMPT, CONTEXT, STEPS, WINDOW = 512, 64, 16, 256
BATCHES = (1, 8, 32)
TOKEN = 1000
"""Any token will do where only time is looked at."""


class Engine(Protocol):
    def prefill(self) -> float:
        """Seconds for a prompt of PROMPT tokens, logits of the last."""
        ...

    def decode(self, batch: int) -> list[float]:
        """Seconds of each of STEPS steps of ``batch`` sequences."""
        ...

    def logits(self, tokens: list[int]) -> NDArray[np.float32]:
        """[tokens, vocabulary], from an empty context."""
        ...


class Sluice:
    """`CpuRunner`, or with ``reference`` the float32 runner."""

    def __init__(self, model: Path, threads: int, reference: bool = False) -> None:
        from engine.cpu_runner import CpuRunner
        from engine.decoder import TorchRunner
        from engine.model.files import open_model

        files = open_model(model)
        self.tokenizer = files.tokenizer()
        began = time.perf_counter()
        if reference:
            self.runner = TorchRunner.load(files, num_blocks=WINDOW // 16)
        else:
            self.runner = CpuRunner.load(files, num_blocks=max(BATCHES) * 16, threads=threads)
        self.load_seconds = time.perf_counter() - began

    def _step(self, sequences: int, first: int, tokens: list[int], wanted: list[int]) -> float:
        """Seconds of a step that appends ``tokens`` to each sequence, which holds ``first`` already."""
        from engine.base import StepBatch

        count = len(tokens)
        blocks = (first + count + 15) // 16 if sequences == 1 else 16
        tables = np.arange(sequences * blocks, dtype=np.int32).reshape(sequences, blocks)
        positions = np.tile(np.arange(first, first + count, dtype=np.int32), sequences)
        owners = np.repeat(np.arange(sequences), count)
        batch = StepBatch(
            tokens=np.array(tokens * sequences, np.int32),
            positions=positions,
            slots=(tables[owners, positions // 16] * 16 + positions % 16)[None],
            query_start=np.arange(0, sequences * count + 1, count, dtype=np.int32),
            context_lens=np.full(sequences, first + count, np.int32),
            block_tables=tables[None],
            logit_rows=np.array(wanted, np.int32),
        )
        began = time.perf_counter()
        self.found = self.runner.forward(batch)
        return time.perf_counter() - began

    def prefill(self) -> float:
        return self._step(1, 0, [TOKEN] * PROMPT, [PROMPT - 1])

    def decode(self, batch: int) -> list[float]:
        rows = list(range(batch))
        self._step(batch, 0, [TOKEN] * CONTEXT, [])
        return [self._step(batch, CONTEXT + i, [TOKEN], rows) for i in range(STEPS)]

    def logits(self, tokens: list[int]) -> NDArray[np.float32]:
        self._step(1, 0, tokens, list(range(len(tokens))))
        return self.found


class LlamaCpp:
    """llama.cpp through llama-cpp-python's C bindings, one batch for all sequences."""

    def __init__(self, model: Path, threads: int) -> None:
        import llama_cpp  # type: ignore[import-not-found]

        self.lib: Any = llama_cpp
        self._quiet = self.lib.llama_log_callback(lambda level, text, data: None)
        self.lib.llama_log_set(self._quiet, ctypes.c_void_p(0))
        self.lib.llama_backend_init()
        self.model = self.lib.llama_model_load_from_file(str(model).encode(), self.lib.llama_model_default_params())
        options = self.lib.llama_context_default_params()
        options.n_ctx = max(BATCHES) * 256
        options.n_batch = options.n_ubatch = 2048
        options.n_threads = options.n_threads_batch = threads
        options.n_seq_max = max(BATCHES)
        options.kv_unified = True
        self.context = self.lib.llama_init_from_model(self.model, options)
        self.vocab_size = self.lib.llama_vocab_n_tokens(self.lib.llama_model_get_vocab(self.model))

    def _clear(self) -> None:
        self.lib.llama_memory_clear(self.lib.llama_get_memory(self.context), True)

    def _step(self, sequences: int, first: int, tokens: list[int], wanted: set[int]) -> float:
        total = sequences * len(tokens)
        batch = self.lib.llama_batch_init(total, 0, 1)
        batch.n_tokens = total
        for i in range(total):
            sequence, at = divmod(i, len(tokens))
            batch.token[i], batch.pos[i] = tokens[at], first + at
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
            batch.logits[i] = i in wanted
        began = time.perf_counter()
        status = self.lib.llama_decode(self.context, batch)
        self.lib.llama_synchronize(self.context)
        seconds = time.perf_counter() - began
        self.lib.llama_batch_free(batch)
        if status:
            raise RuntimeError(f"llama_decode returned {status}")
        return seconds

    def prefill(self) -> float:
        self._clear()
        return self._step(1, 0, [TOKEN] * PROMPT, {PROMPT - 1})

    def decode(self, batch: int) -> list[float]:
        self._clear()
        rows = set(range(batch))
        self._step(batch, 0, [TOKEN] * CONTEXT, {batch * CONTEXT - 1})
        return [self._step(batch, CONTEXT + i, [TOKEN], rows) for i in range(STEPS)]

    def logits(self, tokens: list[int]) -> NDArray[np.float32]:
        self._clear()
        self._step(1, 0, tokens, set(range(len(tokens))))
        found = self.lib.llama_get_logits(self.context)
        return np.ctypeslib.as_array(found, (len(tokens), self.vocab_size)).copy()


class Peer:
    """An engine in another process: one JSON line asks, one answers; logits travel in a file."""

    def __init__(self, python: str, model: Path, threads: int) -> None:
        command = [python, "-P", __file__, "--as-peer", "--model", str(model), "--threads", str(threads)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def _ask(self, *request: Any) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def prefill(self) -> float:
        return self._ask("prefill")

    def decode(self, batch: int) -> list[float]:
        return self._ask("decode", batch)

    def logits(self, tokens: list[int]) -> NDArray[np.float32]:
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "logits.npy")
            self._ask("logits", tokens, path)
            return np.load(path)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def answer(model: Path, threads: int) -> None:
    """The peer's process: serve requests until the other side closes."""
    engine = LlamaCpp(model, threads)
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        if name == "logits":
            np.save(arguments[1], engine.logits(arguments[0]))
            result: Any = None
        else:
            result = getattr(engine, name)(*arguments)
        print(json.dumps(result), flush=True)


def speeds(engines: dict[str, Engine], rounds: int) -> dict[str, dict[str, float]]:
    """Engine → case → median tokens a second; the first round warms up and is thrown away."""
    prefill: dict[str, list[float]] = {name: [] for name in engines}
    decode: dict[tuple[str, int], list[float]] = {(name, batch): [] for name in engines for batch in BATCHES}
    for count in range(rounds + 1):
        order = list(engines.items())[:: 1 if count % 2 else -1]
        seconds = {name: engine.prefill() for name, engine in order}
        steps = {(name, batch): engine.decode(batch) for batch in BATCHES for name, engine in order}
        if count:
            for name, value in seconds.items():
                prefill[name].append(value)
            for key, values in steps.items():
                decode[key] += values
    return {
        name: {"prefill": PROMPT / statistics.median(prefill[name])}
        | {f"decode {batch}": batch / statistics.median(decode[name, batch]) for batch in BATCHES}
        for name in engines
    }


def bandwidth(threads: int) -> float:
    """Bytes a second that as many threads read from memory, the best of some tries."""
    parts = [np.ones(16 << 20, np.uint64) for _ in range(threads)]
    best = 0.0
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(7):
            began = time.perf_counter()
            list(pool.map(np.bitwise_or.reduce, parts))
            best = max(best, sum(part.nbytes for part in parts) / (time.perf_counter() - began))
    return best


def text() -> str:
    """English prose and code of some 100,000 words: the language reference behind Python's `help`."""
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name] for name in sorted(topics))


def accuracy(reference: Engine, engines: dict[str, Engine], tokens: list[int]) -> dict[str, dict[str, float]]:
    """Engine → mean KL divergence from the reference (nats), share of places with the same likeliest token."""
    kl: dict[str, list[float]] = {name: [] for name in engines}
    same: dict[str, list[bool]] = {name: [] for name in engines}
    for at in range(0, len(tokens), WINDOW):
        window = tokens[at : at + WINDOW]
        p = _log_softmax(reference.logits(window))
        for name, engine in engines.items():
            q = _log_softmax(engine.logits(window))
            kl[name] += (np.exp(p) * (p - q)).sum(1, dtype=np.float64).tolist()
            same[name] += (p.argmax(1) == q.argmax(1)).tolist()
    return {name: {"kl": statistics.fmean(kl[name]), "top1": statistics.fmean(same[name])} for name in engines}


def _log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    shifted = logits - logits.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True, dtype=np.float64)).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peer-python", help="interpreter that has llama-cpp-python; without it Sluice runs alone")
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--accuracy-tokens", type=int, default=4096)
    parser.add_argument("--as-peer", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.as_peer:
        answer(given.model, given.threads)
        return

    ours = Sluice(given.model, given.threads)
    engines: dict[str, Engine] = {"sluice": ours}
    peer = Peer(given.peer_python, given.model, given.threads) if given.peer_python else None
    if peer is not None:
        engines["llama.cpp"] = peer
    weights = ours.runner.nbytes()["weights"]
    limit = bandwidth(given.threads)
    result: dict[str, Any] = {
        "bench": "decode_cpu",
        "model": given.model.name,
        "threads": given.threads,
        "weight_bytes": weights,
        "read_gbps": round(limit / 1e9, 1),
        "load_seconds": round(ours.load_seconds, 2),
        "load_average": os.getloadavg()[0],
        "tokens_per_second": speeds(engines, given.rounds),
    }
    if given.accuracy_tokens:
        tokens = ours.tokenizer.encode(text()[: 8 * given.accuracy_tokens])[: given.accuracy_tokens]
        result["accuracy_tokens"] = len(tokens)
        result["accuracy"] = accuracy(Sluice(given.model, given.threads, reference=True), engines, tokens)
    if peer is not None:
        peer.close()

    print(f"{given.model.name}, {given.threads} threads, load {result['load_average']:.1f}; tokens/s")
    rates = result["tokens_per_second"]
    for case, rate in rates["sluice"].items():
        line = f"  {case:10} sluice {rate:8.1f}"
        if peer is not None:
            line += f"   llama.cpp {rates['llama.cpp'][case]:8.1f}   {rate / rates['llama.cpp'][case]:5.2f} x"
        if case.startswith("decode"):
            read = rate / int(case.split()[1]) * weights
            line += f"   weights {read / 1e9:5.1f} GB/s, {100 * read / limit:3.0f} % of {limit / 1e9:.1f}"
        print(line)
    for name, found in result.get("accuracy", {}).items():
        print(f"  {name:10} KL to float32 {found['kl']:.5f}   same top token {100 * found['top1']:.2f} %")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
