"""Constraints made to hurt: what each costs to compile, what its masks cost, and what it holds.

    python -m bench.adversaries [--tokenizer tokenizer.json | --peer-python .venv-bench/bin/python]

Each must be compiled or refused within a second of CPU time, and its masks must stay under a millisecond; the card
says where that does not hold. Masks are met on seeded random walks: a third of the tokens is drawn from all that are
allowed, the others from those that lead on with a letter, so that walks get deep into strings. A mask that meets an
unexpanded state is counted with the expansion, which a server has its grammar worker do. What takes longer than
``--limit`` seconds is stopped, as a server's deadline does.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import resource
import signal
import string
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bench.maskbench import Vocabulary, find_vocabulary
from bench.masks import spread
from fsm.program import Program, compile_constraint
from fsm.runtime import Runtime
from grammar.constraint import Choice, Constraint, JsonSchema, Regex
from grammar.errors import ConstraintError, ConstraintTooLarge

clock = time.process_time_ns
COMPILE_S, MASK_US = 1.0, 1000.0


def person(extra: dict[str, Any]) -> dict[str, Any]:
    properties = {"name": {"type": "string"}, "age": {"type": "integer"}, **extra}
    return {"type": "object", "properties": properties, "required": ["name", *extra], "additionalProperties": False}


def tool(i: int) -> dict[str, Any]:
    arguments = person({f"field_{i}_{j}": {"type": ["string", "number", "null"]} for j in range(8)})
    return {"type": "object", "properties": {"name": {"const": f"tool_{i}"}, "arguments": arguments},
            "required": ["name", "arguments"], "additionalProperties": False}  # fmt: skip


def adversaries() -> dict[str, Constraint]:
    optional = {f"property_{i:04}": {"type": "string"} for i in range(1000)}
    overlapping = [
        {"type": "object", "properties": {f"p{i}": {"type": "integer"}}, "required": [f"p{i}"]} for i in range(20)
    ]
    tower: dict[str, Any] = {"type": "string", "maxLength": 1000}
    for i in range(60):
        tower = {"allOf": [tower, {"anyOf": [{"minLength": i}, {"pattern": f"^[a-z]{{{i},}}"}]}]}
    shallow: dict[str, Any] = {"type": "object"}
    for i in range(60):
        shallow = {"allOf": [shallow, {"properties": {f"q{i}": {"type": "string", "minLength": i}}}]}
    bomb = {f"d{i}": {"anyOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(60)} | {"d60": {"type": "null"}}
    fan = {
        f"d{i}": {"properties": {k: {"$ref": f"#/$defs/d{i + 1}"} for k in "abcdefgh"}, "type": "object"}
        for i in range(40)
    } | {"d40": {"type": "null"}}
    lookaheads = "".join(f"(?=.*{letter})" for letter in string.ascii_lowercase)
    denied: dict[str, Any] = {"const": 1}
    deep: dict[str, Any] = {"const": 0}
    for i in range(1, 81):
        deep = {"oneOf": [{"const": i}, deep]}
        denied = {"not": {"anyOf": [denied, {"required": [f"k{i}"]}]}} if i <= 60 else denied
    chain = {f"k{i}": [f"k{i + 1}"] for i in range(300)}
    unique = {"type": "array", "uniqueItems": True, "minItems": 50, "items": {"type": "string", "minLength": 200}}
    definitions = {str(i): {"properties": {"next": {"$ref": f"#/$defs/{(i + 1) % 10_000}"}}} for i in range(10_000)}
    prefixes = {f"^k{i}_": {"type": "integer"} for i in range(500)}
    words = [f"{random.Random(i).getrandbits(64):016x} number {i}" for i in range(10_000)]
    return {
        "maxLength 100,000": JsonSchema({"type": "string", "maxLength": 100_000}),
        "pattern {1,100000}": JsonSchema({"type": "string", "pattern": "^[a-z]{1,100000}$"}),
        "enum of 10,000 strings": JsonSchema({"enum": words}),
        "choice of 10,000 strings": Choice(words),
        "1,000 optional, any order": JsonSchema(
            {"type": "object", "properties": optional, "additionalProperties": False}, property_order="any"
        ),
        "(.*a.{20})": Regex("(.*a.{20})"),
        "pattern (.*a.{20})": JsonSchema({"type": "string", "pattern": "^(.*a.{20})$"}),
        "[ab]*a[ab]{13}": Regex("[ab]*a[ab]{13}"),
        "(x{0,1000}){0,1000}": Regex("(x{0,1000}){0,1000}"),
        "oneOf of 20 objects": JsonSchema({"oneOf": overlapping}, property_order="any"),
        "allOf tower, anyOf on each floor": JsonSchema(tower),
        "allOf tower of objects": JsonSchema(shallow),
        "$ref bomb, 2^60": JsonSchema({"$ref": "#/$defs/d0", "$defs": bomb}),
        "$ref fan, 8^40": JsonSchema({"$ref": "#/$defs/d0", "$defs": fan}),
        "128 tools": JsonSchema({"anyOf": [tool(i) for i in range(128)]}),
        "array of 20,000 levels": JsonSchema('{"items": ' * 20_000 + "true" + "}" * 20_000),
        "((a{1,30}b?){1,30}c?){1,30}d": Regex("((a{1,30}b?){1,30}c?){1,30}d"),
        "pattern ([a-z]{1,100},?){1,100}": JsonSchema({"type": "string", "pattern": "^([a-z]{1,100},?){1,100}$"}),
        "26 lookaheads": JsonSchema({"type": "string", "pattern": f"^{lookaheads}.{{26,100}}$"}),
        "alternation of 5,000 long prefixes": Regex("|".join("common/prefix/" * 8 + f"{i:05}" for i in range(5000))),
        "300 classes of Unicode": Regex("".join(f"[{chr(0x100 + 7 * i)}-\\u3000\\w]" for i in range(300))),
        "enum of 10,000 numbers": JsonSchema({"enum": [1.37 * i for i in range(10_000)]}),
        "enum of 2,000 objects": JsonSchema({"enum": [{"a": i, "b": [i, f"x{i}"]} for i in range(2000)]}),
        "multipleOf a large prime": JsonSchema({"type": "integer", "multipleOf": 1_000_000_007}),
        "60 nots": JsonSchema(denied, property_order="any"),
        "dependentRequired of 300": JsonSchema({"type": "object", "dependentRequired": chain}, property_order="any"),
        "unique items, 50 long strings": JsonSchema(unique),
        "10,000 $defs": JsonSchema({"$ref": "#/$defs/0", "$defs": definitions}),
        "patternProperties, 500": JsonSchema({"type": "object", "patternProperties": prefixes}, property_order="any"),
        "oneOf, 80 deep": JsonSchema(deep),
        "choice of 100,000 strings": Choice([f"{random.Random(i).getrandbits(64):016x}" for i in range(100_000)]),
        "never-ending recursion": JsonSchema({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}),
    }


def walk(program: Program, steps: int, rng: random.Random, mask_ns: list[int]) -> None:
    """One random walk; appends what each mask took, the first look at it included."""
    table, matcher = program.table, program.matcher()
    for _ in range(steps):
        began = clock()
        row = matcher.row
        mask_ns.append(clock() - began)
        mask = program.runtime.pool.mask(row)
        allowed = np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little"))
        allowed = allowed[~np.isin(allowed, table.eos_ids)]
        if not len(allowed):
            return
        tries = [int(allowed[rng.randrange(len(allowed))]) for _ in range(1 if rng.random() < 0.3 else 8)]
        assert matcher.advance(next((t for t in tries if (table.bytes_of(t) or b"").isalnum()), tries[0]))


def stop(signum: int, frame: object) -> None:
    raise ConstraintTooLarge("stopped at the time limit")


def attack(constraint: Constraint, vocabulary: Vocabulary, walks: int, limit_s: float) -> dict[str, Any]:
    """What one constraint costs, under a runtime of its own."""
    runtime = Runtime(vocabulary.table)
    gc.collect()
    # Not the timer of CPU time: the clock of CPU time would tick in milliseconds while it runs.
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    began = clock()
    try:
        program = compile_constraint(constraint, vocabulary.table, runtime=runtime)
    except ConstraintError as error:
        signal.setitimer(signal.ITIMER_REAL, 0)
        return {"compile_s": (clock() - began) / 1e9, "refused": f"{error.code}: {error}"[:110]}
    found: dict[str, Any] = {"compile_s": (clock() - began) / 1e9}
    rng, mask_ns = random.Random(0), list[int]()
    try:
        for _ in range(walks):
            walk(program, 200, rng, mask_ns)
    except ConstraintError as error:
        found["stopped"] = f"{error.code}: {error}"[:110]
    signal.setitimer(signal.ITIMER_REAL, 0)
    found["mask_us"] = spread(mask_ns, 1e3)
    found["masks"] = len(mask_ns)
    found["mb"] = (program.image.nbytes + runtime.pool.nbytes()) / 2**20
    return found


def unique_schemas(n: int) -> Iterator[dict[str, Any]]:
    for i in range(n):
        yield person({f"k{i}_{j}": {"type": "string", "maxLength": 10 + i % 50} for j in range(i % 7 + 1)})


def flood(n: int, vocabulary: Vocabulary) -> dict[str, float]:
    """Unique schemas one after another, each asked for some masks and then dropped."""
    runtime = Runtime(vocabulary.table)
    rng, mask_ns, times = random.Random(0), list[int](), list[int]()
    first = 0
    for i, schema in enumerate(unique_schemas(n)):
        began = clock()
        program = compile_constraint(JsonSchema(schema, property_order="any"), vocabulary.table, runtime=runtime)
        times.append(clock() - began)
        walk(program, 40, rng, mask_ns)
        runtime.drop(program.number)
        runtime.trim(64 << 20, [])
        if i == n // 4:
            first = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - first
    return {
        "schemas": n,
        "compile_p99_ms": spread(times, 1e6)["p99"],
        "mask_p99_us": spread(mask_ns, 1e3)["p99"],
        "rows_mb": runtime.pool.nbytes() / 2**20,
        "grown_mb_after_a_quarter": grown / 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--tokenizer", type=Path, help="a tokenizer.json (default: that of the peers' environment)")
    parser.add_argument("--peer-python", help="interpreter that has the peers")
    parser.add_argument("--walks", type=int, default=5)
    parser.add_argument("--flood", type=int, default=1000, help="unique schemas in the flood")
    parser.add_argument("--limit", type=float, default=30.0, help="seconds for one constraint")
    parser.add_argument("--core", type=int, default=0, help="the core that everything runs on")
    args = parser.parse_args()
    os.sched_setaffinity(0, {args.core})
    gc.disable()  # as a grammar worker does: a collection looks at all that the benchmark holds
    signal.signal(signal.SIGALRM, stop)
    vocabulary = find_vocabulary(args.tokenizer, args.peer_python)
    attack(JsonSchema({"type": "string", "pattern": r"^\w+$"}), vocabulary, 1, args.limit)  # loads what is loaded once
    found: dict[str, Any] = {}
    print(f"{'':34}{'compile, s':>11}{'masks':>7}{'mean, µs':>10}{'p99, µs':>10}{'max, µs':>10}{'MB':>7}")
    for name, constraint in adversaries().items():
        result = found[name] = attack(constraint, vocabulary, args.walks, args.limit)
        late = " SLOW" if result["compile_s"] > COMPILE_S else ""
        if "refused" in result:
            print(f"{name:34}{result['compile_s']:11.3f}{late}  {result['refused']}")
            continue
        mask = result["mask_us"]
        late += " MASK" if mask["max"] > MASK_US else ""
        print(f"{name:34}{result['compile_s']:11.3f}{result['masks']:7}{mask['mean']:10.1f}{mask['p99']:10.0f}"
              f"{mask['max']:10.0f}{result['mb']:7.1f}{late}  {result.get('stopped', '')}", flush=True)  # fmt: skip
    gc.enable()
    found["flood"] = flood(args.flood, vocabulary)
    print("flood of unique schemas: " + ", ".join(f"{key} {value:,.1f}" for key, value in found["flood"].items()))
    print(json.dumps({"bench": "adversaries", "found": found}))


if __name__ == "__main__":
    main()
