"""The schemas that answers are held against: our own, and real ones from the data folder beside the repository."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

from fsm import TokenTable, compile_constraint
from grammar import ConstraintError, JsonSchema

MASKBENCH = Path(__file__).parents[3] / "shared" / "data" / "maskbench.jsonl.gz"

BYTES = TokenTable.from_bytes([*(bytes([b]) for b in range(256)), None], [256])
"""A vocabulary of single bytes: compiling and checking here shares nothing with the server's own vocabulary."""

OWN: dict[str, Any] = {
    "person": {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 40},
            "age": {"type": "integer", "minimum": 0, "maximum": 130},
            "email": {"type": "string", "pattern": "^[a-z]+@[a-z]+\\.(com|org)$", "maxLength": 30},
        },
        "required": ["name", "age", "email"],
        "additionalProperties": False,
    },
    "tree": {
        "$defs": {
            "node": {
                "type": "object",
                "properties": {
                    "value": {"type": "integer", "minimum": 0, "maximum": 99},
                    "children": {"type": "array", "items": {"$ref": "#/$defs/node"}, "maxItems": 2},
                },
                "required": ["value", "children"],
                "additionalProperties": False,
            }
        },
        "$ref": "#/$defs/node",
    },
    "event": {
        "anyOf": [
            {
                "type": "object",
                "properties": {"kind": {"const": "move"}, "x": {"type": "number"}, "y": {"type": "number"}},
                "required": ["kind", "x", "y"],
                "additionalProperties": False,
            },
            {
                "type": "object",
                "properties": {"kind": {"const": "say"}, "text": {"type": "string", "maxLength": 60}},
                "required": ["kind", "text"],
                "additionalProperties": False,
            },
        ]
    },
    "tuple": {
        "type": "array",
        "prefixItems": [{"enum": ["red", "green", "blue"]}, {"type": "integer"}, {"type": "boolean"}],
        "items": False,
        "minItems": 3,
    },
    "scores": {
        "type": "object",
        "additionalProperties": {"type": "number", "minimum": 0, "maximum": 1},
        "properties": {"total": {"type": "number", "exclusiveMinimum": 0, "maximum": 100}},
        "required": ["total"],
    },
    "nullable": {
        "type": "object",
        "properties": {
            "title": {"type": ["string", "null"], "maxLength": 30},
            "tags": {"type": "array", "items": {"type": "string", "maxLength": 12}, "minItems": 1, "maxItems": 4},
        },
        "required": ["title", "tags"],
        "additionalProperties": False,
    },
}  # fmt: skip


def real(count: int, seed: int = 2) -> dict[str, Any]:
    """``count`` schemas of MaskBench that compile and are small enough for a small model to finish; empty without the
    data."""
    if not MASKBENCH.exists():
        return {}
    with gzip.open(MASKBENCH, "rt") as file:
        entries = [json.loads(line) for line in file]
    random.Random(seed).shuffle(entries)
    chosen: dict[str, Any] = {}
    for entry in entries:
        if len(chosen) == count:
            break
        if len(json.dumps(entry["schema"])) > 1500:
            continue
        try:
            compile_constraint(JsonSchema(entry["schema"]), BYTES)
        except ConstraintError:
            continue
        chosen[entry["id"]] = entry["schema"]
    return chosen


def viable(schema: Any, text: str) -> bool:
    """Whether some valid document begins with ``text``, byte by byte, under a compile of its own."""
    matcher = compile_constraint(JsonSchema(schema), BYTES).matcher()
    return all(matcher.advance(byte) for byte in text.encode())
