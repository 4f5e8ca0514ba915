"""Other constraint engines, measured in their own environment by `bench/masks.py`: one JSON request a line in, one JSON
answer a line out.

    python masks.py llguidance|xgrammar|outlines TOKENIZER_JSON EOS_ID

    {"schema": {...}, "instances": [[token ids], ...]}
        → {"first": ns, "masks": [ns, ...], "advances": [ns, ...], "accepted": [bool, ...]}
        → {"refused": reason}

``first``: compile, new matcher and its first mask; ``masks`` and ``advances`` at every token of the instances, the end
of sequence included. All in nanoseconds of CPU time of this process, less what the clock itself takes.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

clock = time.process_time_ns


def clock_cost() -> int:
    """What two calls of the clock show when nothing is between them."""
    readings = [clock() for _ in range(2001)]
    return int(np.median(np.diff(readings)))


class Cursor(Protocol):
    def fill(self) -> np.ndarray: ...
    def advance(self, token: int) -> bool: ...


class Engine(Protocol):
    def compile(self, schema: Any) -> Callable[[], Cursor]: ...


class LLGuidance:
    def __init__(self, tokenizer: str, eos: int) -> None:
        import llguidance  # pyright: ignore[reportMissingImports]
        import llguidance.numpy  # pyright: ignore[reportMissingImports]

        self._ll = llguidance
        self._tokenizer = llguidance.LLTokenizer(tokenizer, eos_token=eos)
        self._mask = llguidance.numpy.allocate_token_bitmask(1, self._tokenizer.vocab_size)

    def compile(self, schema: Any) -> Callable[[], Cursor]:
        matcher = self._ll.LLMatcher(self._tokenizer, self._ll.LLMatcher.grammar_from_json_schema(json.dumps(schema)))
        if matcher.get_error():
            raise ValueError(matcher.get_error())
        return lambda: _LLCursor(matcher.deep_copy(), self._ll.numpy.fill_next_token_bitmask, self._mask)


class _LLCursor:
    def __init__(self, matcher: Any, fill: Callable[..., None], mask: np.ndarray) -> None:
        self._matcher, self._fill, self._mask = matcher, fill, mask

    def fill(self) -> np.ndarray:
        self._fill(self._matcher, self._mask, 0)
        return self._mask[0]

    def advance(self, token: int) -> bool:
        return self._matcher.consume_token(token)


class XGrammar:
    def __init__(self, tokenizer: str, eos: int) -> None:
        import xgrammar  # pyright: ignore[reportMissingImports]
        from transformers import PreTrainedTokenizerFast  # pyright: ignore[reportMissingImports]

        self._xgr = xgrammar
        hf = PreTrainedTokenizerFast(tokenizer_file=tokenizer)
        info = xgrammar.TokenizerInfo.from_huggingface(hf, vocab_size=len(hf), stop_token_ids=[eos])
        # No cache between schemas: each is measured as if it were the first.
        self._compiler = xgrammar.GrammarCompiler(info, max_threads=1, cache_enabled=False)
        self._mask = xgrammar.allocate_token_bitmask(1, info.vocab_size)

    def compile(self, schema: Any) -> Callable[[], Cursor]:
        compiled = self._compiler.compile_json_schema(json.dumps(schema), any_whitespace=True, strict_mode=False)
        return lambda: _XGCursor(self._xgr.GrammarMatcher(compiled), self._mask)


class _XGCursor:
    def __init__(self, matcher: Any, mask: Any) -> None:
        self._matcher, self._mask, self._words = matcher, mask, mask.numpy()[0]

    def fill(self) -> np.ndarray:
        self._matcher.fill_next_token_bitmask(self._mask)
        return self._words

    def advance(self, token: int) -> bool:
        return self._matcher.accept_token(token)


class Outlines:
    def __init__(self, tokenizer: str, eos: int) -> None:
        import outlines_core  # pyright: ignore[reportMissingImports]
        from outlines_core.json_schema import (  # pyright: ignore[reportMissingImports]
            WHITESPACE,
            build_regex_from_schema,
        )
        from transformers import PreTrainedTokenizerFast  # pyright: ignore[reportMissingImports]

        self._core, self._regex, self._space = outlines_core, build_regex_from_schema, WHITESPACE
        hf = PreTrainedTokenizerFast(tokenizer_file=tokenizer)
        alphabet = _byte_alphabet()
        tokens: dict[bytes, list[int]] = {}
        special = set(hf.all_special_ids) | {eos}
        for piece, i in hf.get_vocab().items():
            if i not in special and all(c in alphabet for c in piece):
                tokens.setdefault(bytes(alphabet[c] for c in piece), []).append(i)
        self._vocabulary = outlines_core.Vocabulary(eos, tokens)
        self._mask = np.zeros((len(hf) + 31) // 32, np.int32)

    def compile(self, schema: Any) -> Callable[[], Cursor]:
        index = self._core.Index(self._regex(json.dumps(schema), self._space), self._vocabulary)
        return lambda: _OutlinesCursor(self._core.Guide(index), self._mask)


class _OutlinesCursor:
    def __init__(self, guide: Any, mask: np.ndarray) -> None:
        self._guide, self._mask = guide, mask

    def fill(self) -> np.ndarray:
        self._guide.write_mask_into(self._mask.ctypes.data, self._mask.size, self._mask.itemsize)
        return self._mask

    def advance(self, token: int) -> bool:
        self._guide.advance(token, False)
        return True


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's printable alphabet."""
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [b for b in range(256) if b not in visible]
    return {chr(b): b for b in visible} | {chr(0x100 + n): b for n, b in enumerate(hidden)}


def trial(engine: Engine, schema: Any, instances: list[list[int]], eos: int, cost: int) -> dict[str, Any]:
    began = clock()
    try:
        start = engine.compile(schema)
        start().fill()
    except Exception as error:  # whatever a peer raises is its way to refuse
        return {"refused": str(error)[:300]}
    answer: dict[str, Any] = {"first": clock() - began - cost, "masks": [], "advances": [], "accepted": []}
    for tokens in instances:
        cursor = start()
        accepted = True
        for token in [*tokens, eos]:
            t0 = clock()
            mask = cursor.fill()
            t1 = clock()
            answer["masks"].append(max(t1 - t0 - cost, 0))
            accepted = bool(int(mask[token >> 5]) >> (token & 31) & 1)
            if not accepted or token == eos:
                break
            t0 = clock()
            cursor.advance(token)
            t1 = clock()
            answer["advances"].append(max(t1 - t0 - cost, 0))
        answer["accepted"].append(accepted)
    answer["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return answer


def main() -> None:
    name, tokenizer, eos = sys.argv[1], sys.argv[2], int(sys.argv[3])
    engine: Engine = {"llguidance": LLGuidance, "xgrammar": XGrammar, "outlines": Outlines}[name](tokenizer, eos)
    cost = clock_cost()
    print(json.dumps({"ready": name}), flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        print(json.dumps(trial(engine, job["schema"], job["instances"], eos, cost)), flush=True)


if __name__ == "__main__":
    main()
