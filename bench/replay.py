"""Memory and reuse under many schemas: the schemas of a file and seeded mutations of them, replayed twice through
`engine.programs` with its grammar worker, as a server meets them.

    python -m bench.replay --schemas 10000 [--tokenizer tokenizer.json | --peer-python .venv-bench/bin/python]

Each schema is asked for, the instances that it accepts are stepped through, and it is released. A *hit* is a mask that
was known: found by look-up, without a walk over tokens. Reported: hits of either pass, how often a program was known,
what programs and rows hold at the end, and how much the whole process has grown.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import random
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.maskbench import DATA, Case, find_vocabulary, load_cases
from engine.base import MISS, OK
from engine.programs import Programs, Ready, Refusal
from engine.service import ROW_BYTES
from fsm.rows import FREE
from fsm.runtime import Runtime
from schemas.constraint import JsonSchemaSpec


def mutated(schema: Any, rng: random.Random) -> Any:
    """A copy with one property renamed or dropped, one bound moved, or one `required` name less."""
    schema = copy.deepcopy(schema)
    places: list[dict[str, Any]] = []
    stack: list[Any] = [schema]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            places.append(node)
            stack += node.values()
        elif isinstance(node, list):
            stack += node
    for place in rng.sample(places, len(places)):
        match place:
            case {"properties": dict(properties)} if properties:
                name = rng.choice(sorted(properties))
                value = properties.pop(name)
                if rng.random() < 0.7:
                    properties[f"{name}_{rng.randrange(1000)}"] = value
                return schema
            case {"type": "string"}:
                place["maxLength"] = place.get("minLength", 0) + rng.randrange(1, 300)
                return schema
            case {"type": "integer"}:
                place["minimum"] = -rng.randrange(1000)
                return schema
    return schema


class Replay:
    """A step loop's side of `Programs`, one sequence at a time."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.programs = Programs(runtime, wake=lambda: None, deadline_s=30.0)
        self.known = self.refused = 0

    def run(self, case: Case, instances: list[list[int]]) -> None:
        self.programs.request(JsonSchemaSpec(json.dumps(case.schema), property_order="any", number="free"))
        while True:
            news = self.programs.poll()
            ready = next((n for n in news if isinstance(n, Ready)), None)
            if ready is not None:
                break
            if any(isinstance(n, Refusal) for n in news):
                self.refused += 1
                return
            time.sleep(0.0002)
        self.known += ready.seconds == 0.0
        self.programs.acquire(ready.program)
        for tokens in instances:
            self._step_through(ready.program, tokens)
        self.programs.release(ready.program)
        while self.programs.poll():  # as a step loop does: memory is looked after when there is no news
            pass
        self.runtime.trim(ROW_BYTES, [])

    def _step_through(self, program: int, tokens: list[int]) -> None:
        state = self.runtime.start(program)
        for token in tokens:
            row = self._ask(program, state, None)
            if not self.runtime.pool.mask(row)[token >> 5] >> np.uint32(token & 31) & 1:
                return
            state = self._ask(program, state, token)

    def _ask(self, program: int, state: int, token: int | None) -> int:
        """The row of a state, or the state after a token."""
        programs, states = np.array([program], np.int32), np.array([state], np.int32)
        out, status = np.empty(1, np.int32), np.empty(1, np.uint8)
        while True:
            if token is None:
                self.runtime.rows(programs, states, out, status)
            else:
                self.runtime.advance(programs, states, np.array([token], np.int32), out, status)
            if status[0] == OK:
                return int(out[0])
            assert status[0] == MISS
            self.programs.ask(self.runtime.missing())
            while not self.programs.poll():
                time.sleep(0.0002)


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--schemas", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tokenizer", type=Path, help="a tokenizer.json (default: that of the peers' environment)")
    parser.add_argument("--peer-python", help="interpreter that has the peers")
    parser.add_argument("--core", type=int, default=0, help="the core that everything runs on")
    args = parser.parse_args()
    os.sched_setaffinity(0, {args.core})
    vocabulary = find_vocabulary(args.tokenizer, args.peer_python)
    rng = random.Random(args.seed)
    cases = load_cases(args.data, args.schemas, args.seed)
    originals = len(cases)
    while len(cases) < args.schemas:
        case = cases[rng.randrange(originals)]
        cases.append(Case(f"{case.id}-{len(cases)}", mutated(case.schema, rng), case.tests))
    instances = [[vocabulary.encode(text) for valid, text in case.tests if valid] for case in cases]
    replay = Replay(Runtime(vocabulary.table))
    before = resident_mb()
    found: dict[str, Any] = {"schemas": len(cases), "originals": originals}
    for name in ("first", "second"):
        figures = replay.runtime.figures
        warm, cold, known, refused = figures.warm, figures.cold, replay.known, replay.refused
        for case, tokens in zip(cases, instances, strict=True):
            replay.run(case, tokens)
        warm, cold = figures.warm - warm, figures.cold - cold
        found[name] = {
            "masks": warm + cold,
            "hits": warm / max(warm + cold, 1),
            "programs_known": replay.known - known,
            "refused": replay.refused - refused,
        }
    pool = replay.runtime.pool
    found |= {
        "programs_mb": replay.programs.nbytes() / 2**20,
        "rows": int((pool.kind[: pool.n_rows] != FREE).sum()),
        "rows_mb": pool.nbytes() / 2**20,
        "grown_mb": resident_mb() - before,
    }
    replay.programs.close()
    for name, value in found.items():
        print(f"{name:14} {value}")
    print(json.dumps({"bench": "replay", **found}))


if __name__ == "__main__":
    main()
