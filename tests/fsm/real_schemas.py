"""MaskBench's schemas and instances, and a byte-complete vocabulary with pieces of them."""

from __future__ import annotations

import gzip
import json
import random
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.fsm.recognition import Recogniser, Splitter, byte_complete

MASKBENCH = Path(__file__).parents[2].parent / "shared" / "data" / "maskbench.jsonl.gz"
needs_schemas = pytest.mark.skipif(not MASKBENCH.exists(), reason=f"the schemas of MaskBench are not at {MASKBENCH}")


@cache
def cases() -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.open(MASKBENCH, "rt", encoding="utf-8")]


def spelled(value: Any) -> str:
    """As MaskBench spells it."""
    return json.dumps(value, ensure_ascii=False)


@cache
def vocabulary() -> tuple[Recogniser, Splitter]:
    rng = random.Random(11)
    texts = [spelled(test["data"]) for case in cases() for test in case["tests"]]
    table = byte_complete(texts, 4000, rng)
    return Recogniser(table), Splitter(table, rng)
