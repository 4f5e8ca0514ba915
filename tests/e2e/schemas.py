"""The schemas that answers are held against: our own, and real ones from the data folder beside the repository."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

from fsm import TokenTable, compile_constraint
from grammar import ConstraintError, JsonSchema
from grammar.compile import DEFAULT_FUEL
from grammar.json_schema.machine import compile_json_schema
from grammar.json_schema.normal import Normal
from grammar.json_schema.shapes import ArrayShape, ObjectShape, StringShape

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


def real(count: int, seed: int = 2, *, ending: bool = True) -> dict[str, Any]:
    """``count`` schemas of MaskBench that compile; empty without the data. ``ending``: those that a small model comes
    to the end of, whatever the temperature; otherwise all the others."""
    if not MASKBENCH.exists():
        return {}
    with gzip.open(MASKBENCH, "rt") as file:
        entries = [json.loads(line) for line in file]
    random.Random(seed).shuffle(entries)
    chosen: dict[str, Any] = {}
    for entry in entries:
        if len(chosen) == count:
            break
        if len(json.dumps(entry["schema"])) > 8000 or entry["split"] == "Synthesized":
            continue
        try:
            machine, _ = compile_json_schema(JsonSchema(entry["schema"]), [True] * 256, DEFAULT_FUEL)
        except ConstraintError:
            continue
        if _comes_to_an_end(machine.normal) != ending:
            continue
        chosen[entry["id"]] = entry["schema"]
    return chosen


def _comes_to_an_end(normal: Normal) -> bool:
    """Whether no place of the schema invites a model to go on without end: objects are closed, arrays and strings
    short. (At temperature 0 a small model repeats itself in a free string for ever, and at 1.5 it never meets a
    quote.)"""
    seen: set[int] = set()
    goals = [normal.root]
    while goals:
        goal = goals.pop()
        if goal in seen:
            continue
        seen.add(goal)
        for shape in normal.shapes(goal):
            if isinstance(shape, ObjectShape):
                if shape.additional:
                    return False
                goals += [part for _, part in shape.properties]
            if isinstance(shape, StringShape) and not shape.patterns:
                if shape.max_length is None or shape.max_length > 100:
                    return False
            if isinstance(shape, ArrayShape):
                if shape.max_items is None or shape.max_items > 8:
                    return False
                goals += [*shape.prefix, *([] if shape.rest is None else [shape.rest])]
    return True


def viable(schema: Any, text: str) -> bool:
    """Whether some valid document begins with ``text``, byte by byte, under a compile of its own."""
    matcher = compile_constraint(JsonSchema(schema), BYTES).matcher()
    return all(matcher.advance(byte) for byte in text.encode())
