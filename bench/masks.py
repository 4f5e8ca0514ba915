"""MaskBench's measurement, beside llguidance, xgrammar and outlines-core: what a schema costs before its first mask,
what masks and advances cost at every token of its instances, and which instances are told right.

    python -m bench.masks --sample 100 --peer-python .venv-bench/bin/python [--peers llguidance,xgrammar,outlines]

Everything runs on one core, in turn, schema by schema. Times are CPU times of the process that works. *Cold* is ours
the first time a schema is seen (rows that other schemas have left behind are found again, as in a server), *warm* the
second time: look-up and advance of a batch of 256 sequences. Schemas are told apart by whether they had to be *proved*
(not, oneOf, allOf and the like, where alternatives may be empty) or are plain. A verdict that differs from the label is
held against `jsonschema` with format checking, and put down as disputed where that agrees with us.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import select
import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jsonschema import Draft202012Validator
from jsonschema.validators import validator_for

from bench.maskbench import DATA, Case, Vocabulary, find_vocabulary, load_cases
from bench.peers.masks import clock_cost
from engine.programs import Programs, Ready
from fsm.program import Program, compile_constraint
from fsm.runtime import Runtime
from grammar.compile import prepare
from grammar.constraint import JsonSchema
from grammar.errors import ConstraintError
from schemas.constraint import JsonSchemaSpec

clock = time.process_time_ns
BATCH = 256
PROVED = ("not", "oneOf", "allOf", "anyOf", "if", "dependencies", "dependentSchemas", "minProperties", "contains")


@dataclass
class Trial:
    """One schema under one engine: `bench/peers/masks.py`'s answer."""

    refused: str = ""
    first: int = 0
    masks: list[int] = field(default_factory=list)
    advances: list[int] = field(default_factory=list)
    accepted: list[bool] = field(default_factory=list)
    peak_mb: float = 0.0


class Ours:
    """The core as the engine runs it: one runtime, programs added and dropped, rows asked for by state."""

    name = "sluice"

    def __init__(self, vocabulary: Vocabulary, options: dict[str, Any]) -> None:
        self.table, self.eos, self.options = vocabulary.table, vocabulary.eos, options
        self.runtime = Runtime(self.table)
        self.cost = clock_cost()
        self.walked: list[int] = []
        self.ahead: list[int] = []
        """What the engine has its worker do while the first token is made."""
        self.kept: list[tuple[Program, list[tuple[int, int]]]] = []
        """Programs, and the (state, next token) met on their instances, for the warm measurement."""

    def trial(self, case: Case, instances: list[list[int]]) -> Trial:
        gc.collect(1)  # which the grammar worker does while it is idle
        began = clock()
        try:
            program = compile_constraint(JsonSchema(case.schema, **self.options), self.table, runtime=self.runtime)
            program.row(program.matcher().state)
        except ConstraintError as error:
            return Trial(refused=str(error))
        trial = Trial(first=clock() - began - self.cost)
        began = clock()
        program.expand_ahead()
        self.ahead.append(clock() - began)
        met: list[tuple[int, int]] = []
        for tokens in instances:
            trial.accepted.append(self._instance(program, tokens, trial, met))
        self.kept.append((program, met))
        if len(self.kept) > BATCH // 4:
            self.runtime.drop(self.kept.pop(0)[0].number)
        return trial

    def _instance(self, program: Program, tokens: list[int], trial: Trial, met: list[tuple[int, int]]) -> bool:
        matcher, pool = program.matcher(), self.runtime.pool
        for token in [*tokens, self.eos]:
            cold = self.runtime.figures.cold
            t0 = clock()
            row = matcher.row
            t1 = clock()
            trial.masks.append(max(t1 - t0 - self.cost, 0))
            if self.runtime.figures.cold > cold:
                self.walked.append(trial.masks[-1])
            if not pool.mask(row)[token >> 5] >> np.uint32(token & 31) & 1:
                return False
            if token == self.eos:
                return True
            met.append((matcher.state, token))
            t0 = clock()
            matcher.advance(token)
            t1 = clock()
            trial.advances.append(max(t1 - t0 - self.cost, 0))
        raise AssertionError("the end of sequence comes last")

    def warm(self) -> list[float]:
        """Nanoseconds a sequence and step, look-up and advance, in batches of sequences over many schemas, each of
        which has been here before."""
        rng = np.random.default_rng(0)
        places = [(program.number, *place) for program, met in self.kept for place in met]
        out, rows, status = np.empty(BATCH, np.int32), np.empty(BATCH, np.int32), np.empty(BATCH, np.uint8)
        found: list[float] = []
        for _ in range(200):
            chosen = np.array([places[i] for i in rng.integers(0, len(places), BATCH)], np.int32)
            programs, states, tokens = (np.ascontiguousarray(column) for column in chosen.T)
            began = clock()
            self.runtime.rows(programs, states, rows, status)
            self.runtime.advance(programs, states, tokens, out, status)
            found.append((clock() - began - self.cost) / BATCH)
        return found


class Peer:
    """A process of bench/peers/masks.py; killed and started anew when a schema takes too long."""

    def __init__(self, python: str, name: str, vocabulary: Vocabulary, limit_s: float) -> None:
        self.name, self._limit_s = name, limit_s
        script = Path(__file__).parent / "peers" / "masks.py"
        self._command = [python, str(script), name, str(vocabulary.path), str(vocabulary.eos)]
        self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self._process.stdout is not None
        self._process.stdout.readline()

    def trial(self, case: Case, instances: list[list[int]]) -> Trial:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({"schema": case.schema, "instances": instances}) + "\n")
        self._process.stdin.flush()
        answered, _, _ = select.select([self._process.stdout], [], [], self._limit_s)
        line = self._process.stdout.readline() if answered else ""
        if not line:
            self.close()
            self._start()
            return Trial(refused=f"over {self._limit_s:g} s" if not answered else "the process died")
        return Trial(**json.loads(line))

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def worker_times(cases: list[Case], vocabulary: Vocabulary, options: dict[str, Any]) -> list[float]:
    """Milliseconds from asking `engine.programs` for a schema to having its program, worker and transport included.
    Wall time, with the worker on the same core."""
    runtime = Runtime(vocabulary.table)
    programs = Programs(runtime, wake=_asleep, deadline_s=30.0)
    found: list[float] = []
    programs.request(JsonSchemaSpec("{}"))
    while not programs.poll():  # the worker has started
        time.sleep(0.01)
    for case in cases:
        spec = JsonSchemaSpec(json.dumps(case.schema), **options)
        began = time.perf_counter()
        programs.request(spec)
        while not (news := programs.poll()):
            time.sleep(0.0001)
        if isinstance(news[0], Ready):
            row, status = np.empty(1, np.int32), np.empty(1, np.uint8)
            number = np.array([news[0].program], np.int32)
            runtime.rows(number, np.array([runtime.start(news[0].program)], np.int32), row, status)
            found.append(1e3 * (time.perf_counter() - began))
    programs.close()
    return found


def _asleep() -> None:
    """Nobody sleeps while `worker_times` asks."""


def spread(values: Sequence[float], unit: float) -> dict[str, float]:
    """Mean and percentiles of nanoseconds, in ``unit`` nanoseconds."""
    if not values:
        return {}
    ordered = np.sort(np.asarray(values, float)) / unit
    at = {f"p{p}": float(ordered[int(len(ordered) * p / 100)]) for p in (50, 90, 99)}
    return {"mean": float(ordered.mean()), **at, "max": float(ordered[-1])}


def is_valid(schema: Any, text: str) -> bool | None:
    """`jsonschema`'s verdict with format checking; None where it has none."""
    validator = validator_for(schema, Draft202012Validator)
    try:
        return validator(schema, format_checker=validator.FORMAT_CHECKER).is_valid(json.loads(text))
    except Exception:  # a schema that the oracle itself cannot read
        return None


def summary(cases: list[Case], trials: list[Trial]) -> dict[str, Any]:
    """What the card and the JSON line say of one engine."""
    held = [(case, trial) for case, trial in zip(cases, trials, strict=True) if not trial.refused]
    wrong: dict[str, list[str]] = {"valid_rejected": [], "invalid_accepted": [], "disputed": []}
    for case, trial in held:
        for (valid, text), accepted in zip(case.tests, trial.accepted, strict=True):
            if valid != accepted:
                disputed = is_valid(case.schema, text) == accepted
                kind = "disputed" if disputed else "valid_rejected" if valid else "invalid_accepted"
                wrong[kind].append(case.id)
    proved = [t.first for c, t in held if any(f'"{word}"' in json.dumps(c.schema) for word in PROVED)]
    plain = [t.first for c, t in held if not any(f'"{word}"' in json.dumps(c.schema) for word in PROVED)]
    return {
        "schemas": len(cases),
        "refused": sum(bool(t.refused) and not t.refused.startswith("over ") for t in trials),
        "over_limit": sum(t.refused.startswith("over ") for t in trials),
        "instances": sum(len(t.accepted) for t in trials),
        **wrong,
        "first_ms": spread([t.first for _, t in held], 1e6),
        "first_plain_ms": spread(plain, 1e6),
        "first_proved_ms": spread(proved, 1e6),
        "mask_us": spread([ns for t in trials for ns in t.masks], 1e3),
        "advance_us": spread([ns for t in trials for ns in t.advances], 1e3),
        "peak_mb": max((t.peak_mb for t in trials), default=0.0),
    }


def card(found: dict[str, dict[str, Any]], vocabulary: Vocabulary) -> None:
    print(f"vocabulary: {vocabulary.table.vocab_size:,} ids, {vocabulary.path.parent.name}/{vocabulary.path.name}")
    width = 13
    print(" " * 34 + "".join(f"{name:>{width}}" for name in found))

    def line(label: str, *keys: str) -> None:
        cells: list[str] = []
        for one in found.values():
            value: Any = one
            for key in keys:
                value = value.get(key) if isinstance(value, dict) else None
            value = len(value) if isinstance(value, list) else value
            cells.append("-" if value is None else f"{value:,.2f}" if isinstance(value, float) else f"{value:,}")
        print(f"{label:<34}" + "".join(f"{cell:>{width}}" for cell in cells))

    for label in ("schemas", "refused", "over_limit", "instances", "valid_rejected", "invalid_accepted", "disputed"):
        line(label.replace("_", " "), label)
    for key, label in (("first_ms", "first mask, ms"), ("first_plain_ms", "  plain"), ("first_proved_ms", "  proved")):
        for part in ("p50", "p90", "p99", "max"):
            line(f"{label} {part}", key, part)
    for key, label in (("mask_us", "mask, µs"), ("advance_us", "advance, µs")):
        for part in ("mean", "p50", "p90", "p99", "max"):
            line(f"{label} {part}", key, part)
    line("peak memory, MB", "peak_mb")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--sample", type=int, help="schemas to measure (default: all)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tokenizer", type=Path, help="a tokenizer.json (default: that of the peers' environment)")
    parser.add_argument("--peer-python", help="interpreter that has the peers")
    parser.add_argument("--peers", default="llguidance,xgrammar,outlines")
    parser.add_argument("--limit", type=float, default=20.0, help="seconds a peer may take for one schema")
    parser.add_argument("--core", type=int, default=0, help="the core that everything runs on")
    parser.add_argument("--property-order", default="any")
    parser.add_argument("--whitespace", default="bounded")
    parser.add_argument("--number", default="free")
    parser.add_argument("--no-worker", action="store_true", help="leave out the measurement through the worker")
    args = parser.parse_args()

    os.sched_setaffinity(0, {args.core})
    vocabulary = find_vocabulary(args.tokenizer, args.peer_python)
    cases = load_cases(args.data, args.sample, args.seed)
    options = {"property_order": args.property_order, "whitespace": args.whitespace, "number": args.number}
    ours = Ours(vocabulary, options)
    prepare(vocabulary.table.spellable.tolist())  # as the grammar worker does
    gc.freeze()
    gc.disable()
    names = args.peers.split(",") if args.peer_python and args.peers else []
    engines = [ours, *(Peer(args.peer_python, name, vocabulary, args.limit) for name in names)]
    trials: dict[str, list[Trial]] = {engine.name: [] for engine in engines}
    for case in cases:
        instances = [vocabulary.encode(text) for _, text in case.tests]
        for engine in engines:
            trials[engine.name].append(engine.trial(case, instances))

    found = {name: summary(cases, answers) for name, answers in trials.items()}
    own = found["sluice"]
    own["refusals"] = [f"{c.id}: {t.refused}" for c, t in zip(cases, trials["sluice"], strict=True) if t.refused]
    own["walked_us"] = spread(ours.walked, 1e3)
    own["ahead_ms"] = spread(ours.ahead, 1e6)
    own["walked_share"] = len(ours.walked) / max(sum(len(t.masks) for t in trials["sluice"]), 1)
    own["warm_ns"] = spread(ours.warm(), 1.0)
    own["rows"] = ours.runtime.pool.n_rows
    own["row_mb"] = ours.runtime.pool.nbytes() / 2**20
    if not args.no_worker:
        own["first_through_worker_ms"] = spread(worker_times(cases, vocabulary, options), 1.0)

    card(found, vocabulary)
    print(f"\nours: walked {own['walked_share']:.1%} of masks, mean {own['walked_us']['mean']:.0f} µs, "
          f"p99 {own['walked_us']['p99']:.0f} µs; warm step {statistics.median([own['warm_ns']['p50']]):.0f} ns a "
          f"sequence; {own['rows']:,} rows, {own['row_mb']:.1f} MB")  # fmt: skip
    for word in ("valid_rejected", "invalid_accepted", "refusals"):
        for entry in own[word]:
            print(f"  {word}: {entry}")
    print(json.dumps({"bench": "masks", "options": options, "engines": found}, default=asdict))


if __name__ == "__main__":
    main()
