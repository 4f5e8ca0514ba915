"""A paged runner and constraints to test the step loop without a model, and an oracle that has neither loop nor pages.

The runner's logits are a hash of the tokens that it finds in its paged memory through the block table it is given, so a
wrong slot, a missed copy on write or a stale prefix block changes what is generated. `generate_alone` computes the same
logits from the plain list of tokens.
"""

from __future__ import annotations

import random
from collections.abc import Generator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from engine.base import MISS, OK, REFUSED, StepBatch
from fsm.rows import RowPool
from kernels.cpu.sampling import CpuSampler
from kernels.sampling import SamplingBatch, SamplingResult
from schemas.engine import Submit

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]

VOCAB = 48
EOS = (46, 47)

_IDS = np.arange(VOCAB, dtype=np.uint64)
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


def logits_of(
    tokens: NDArray[np.integer] | list[int], positions: NDArray[np.integer] | None = None
) -> NDArray[np.float32]:
    """float32[VOCAB] in [-4, 4): a hash of every token and its position."""
    values = np.asarray(tokens, np.uint64)
    places = np.arange(len(values), dtype=np.uint64) if positions is None else positions.astype(np.uint64)
    with np.errstate(over="ignore"):
        mixed = (values + np.uint64(1)) * _MULTIPLIER ^ (places + np.uint64(7)) * np.uint64(0xC2B2AE3D27D4EB4F)
        mixed = (mixed ^ mixed >> np.uint64(29)) * np.uint64(0xBF58476D1CE4E5B9)
        state = (_IDS + np.bitwise_xor.reduce(mixed)) * _MULTIPLIER
        state = (state ^ state >> np.uint64(31)) * np.uint64(0x94D049BB133111EB)
    return ((state >> np.uint64(40)).astype(np.float32) / np.float32(1 << 21) - 4).astype(np.float32)


def apart(seen: Int64, group: int) -> Int64:
    """Tokens and positions [n, 2] as a group of layers sees them: what another one sees must not be mistaken for it."""
    return seen + np.array([0, 1000 * group])


class HashRunner:
    """A `Runner` whose keys and values are the tokens and positions themselves; each group of layers sees its own."""

    vocab_size: int = VOCAB

    def __init__(
        self, num_blocks: int, block_size: int = 4, context_length: int = 64, windows: tuple[int, ...] = (0,)
    ) -> None:
        self.windows = windows
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.context_length = context_length
        self.kv: NDArray[np.int64] = np.full((num_blocks, block_size, 2), 1 << 40, np.int64)
        self.tokens_run = 0
        self.forwards = 0

    def forward(self, batch: StepBatch) -> NDArray[np.float32]:
        n = len(batch.context_lens)
        assert batch.slots.shape == (len(self.windows), len(batch.tokens))
        assert len(np.unique(batch.slots)) == batch.slots.size, "two tokens are written to one slot"
        assert batch.query_start[0] == 0 and batch.query_start[n] == len(batch.tokens)
        assert (np.diff(batch.logit_rows) > 0).all()
        self.kv.reshape(-1, 2)[batch.slots] = np.stack([batch.tokens, batch.positions], axis=1)
        self.tokens_run += len(batch.tokens)
        self.forwards += 1
        owner = np.searchsorted(batch.query_start, batch.logit_rows, side="right") - 1
        logits = np.empty((len(batch.logit_rows), VOCAB), np.float32)
        for row, (sequence, at) in enumerate(zip(owner, batch.logit_rows, strict=True)):
            assert at == batch.query_start[sequence + 1] - 1, "only a sequence's last token is asked for logits"
            length = batch.context_lens[sequence]
            seen: list[Int64] = []
            for group, window in enumerate(self.windows):
                blocks = batch.block_tables[group, sequence, : -(-length // self.block_size)]
                seen.append(apart(self.kv[blocks].reshape(-1, 2)[:length][-window:], group))
            logits[row] = logits_of(*np.concatenate(seen).T)
        return logits

    def copy_block(self, source: int, target: int) -> None:
        self.kv[target] = self.kv[source]

    def nbytes(self) -> dict[str, int]:
        return {"weights": 0, "kv": self.kv.nbytes}


class HashHost:
    """The host's memory of a `HashRunner`; places begin with garbage."""

    def __init__(self, runner: HashRunner, num_blocks: int) -> None:
        self.num_blocks = num_blocks
        self.runner = runner
        self.kept: NDArray[np.int64] = np.full((num_blocks, runner.block_size, 2), 1 << 41, np.int64)

    def move(self, stores: list[tuple[int, int]], loads: list[tuple[int, int]]) -> None:
        for block, place in stores:
            self.kept[place] = self.runner.kv[block]
        for place, block in loads:
            self.runner.kv[block] = self.kept[place]

    def nbytes(self) -> int:
        return self.kept.nbytes


@dataclass
class Automaton:
    """A constraint over tokens. ``edges[state]``: tokens allowed → next states; accepting states also allow EOS."""

    edges: list[dict[int, int]]
    accepting: set[int]
    expanded: set[int] = field(default_factory=set)
    missed: set[int] = field(default_factory=set)

    def allowed(self, state: int) -> list[int]:
        return [*self.edges[state], *(EOS if state in self.accepting else ())]

    def is_expanded(self, state: int) -> bool:
        if state not in self.expanded:
            self.missed.add(state)
        return state in self.expanded


def random_automaton(seed: int, *, states: int = 6, lazy: bool = False) -> Automaton:
    """Every state allows something, the last one only the end; many states force a single token."""
    draw = random.Random(seed)
    edges: list[dict[int, int]] = []
    for _ in range(states - 1):
        tokens = draw.sample(range(VOCAB - len(EOS)), draw.choice((1, 1, 2, 5, 30)))
        edges.append({token: draw.randrange(states) for token in tokens})
    accepting = {state for state in range(1, states - 1) if draw.random() < 0.3} | {states - 1}
    return Automaton([*edges, {}], accepting, set() if lazy else set(range(states)))


class FakeMasks:
    """`Masks` over automata; program 0 allows everything. Programs are numbered from 1 in the order given."""

    def __init__(self, *automata: Automaton) -> None:
        self.pool = RowPool(VOCAB)
        self.automata: dict[int, Automaton] = dict(enumerate(automata, start=1))
        self.calls = 0

    def start(self, program: int) -> int:
        assert program == 0 or program in self.automata, f"no program {program}"
        return 0

    def advance(self, programs: Int32, states: Int32, tokens: Int32, out: Int32, status: NDArray[np.uint8]) -> None:
        """Every third token can be followed only into an expanded state, so that misses are met here too."""
        self.calls += 1
        for i, (program, state, token) in enumerate(
            zip(programs.tolist(), states.tolist(), tokens.tolist(), strict=True)
        ):
            out[i], status[i] = state, OK
            if program == 0:
                continue
            automaton = self.automata[program]
            target = automaton.edges[state].get(token)
            if target is None:
                status[i] = REFUSED
            elif token % 3 == 0 and not automaton.is_expanded(target):
                status[i] = MISS
            else:
                out[i] = target

    def rows(self, programs: Int32, states: Int32, out: Int32, status: NDArray[np.uint8]) -> None:
        self.calls += 1
        for i, (program, state) in enumerate(zip(programs.tolist(), states.tolist(), strict=True)):
            out[i], status[i] = 0, OK
            if program != 0:
                automaton = self.automata[program]
                if automaton.is_expanded(state):
                    out[i] = self.row(automaton.allowed(state))
                else:
                    status[i] = MISS

    def accepting(self, programs: Int32, states: Int32, out: NDArray[np.bool_]) -> None:
        for i, (program, state) in enumerate(zip(programs.tolist(), states.tolist(), strict=True)):
            out[i] = program == 0 or state in self.automata[program].accepting

    def way(self, program: int, state: int) -> Generator[bool, None, tuple[int, ...] | None]:
        """Breadth first, a pause at each state."""
        automaton = self.automata[program]
        ways: dict[int, tuple[int, ...]] = {state: ()}
        queue = [state]
        for here in queue:
            while not automaton.is_expanded(here):
                yield True
            if here in automaton.accepting:
                return ways[here]
            for token, target in automaton.edges[here].items():
                if target not in ways:
                    ways[target] = (*ways[here], token)
                    queue.append(target)
            yield False
        return None

    def forced(self, program: int, state: int, row: int) -> tuple[tuple[int, ...], int] | None:
        """Up to 9 tokens that follow in any case, and the state after them; None on a miss."""
        run: list[int] = []
        while program and len(run) < 9:
            automaton = self.automata[program]
            ways = list(automaton.edges[state].items())
            if state in automaton.accepting or len(ways) != 1:
                break
            if not automaton.is_expanded(ways[0][1]):
                return None
            run.append(ways[0][0])
            state = ways[0][1]
        return tuple(run), state

    def row(self, allowed: list[int]) -> int:
        bits = np.zeros(self.pool.words * 32, np.uint8)
        bits[allowed] = 1
        return self.pool.intern(np.packbits(bits, bitorder="little").view(np.uint32))

    def missing(self) -> list[int]:
        """Programs somebody has asked about in vain since they last grew."""
        return [program for program, automaton in self.automata.items() if automaton.missed]

    def expand(self, program: int) -> None:
        automaton = self.automata[program]
        automaton.expanded |= automaton.missed
        automaton.missed.clear()


@dataclass
class Answer:
    """One choice: its ids and how it ended; where asked for, log-probabilities as (drawn, top ids, theirs), and whether
    each token completed the text."""

    ids: list[int] = field(default_factory=list)
    reason: str = ""
    complete: bool = True
    logprobs: list[tuple[float, list[int], list[float]]] = field(default_factory=list)
    tracked: list[bool] = field(default_factory=list)


def generate_alone(
    request: Submit,
    choice: int,
    automaton: Automaton | None,
    *,
    end_early: bool = True,
    windows: tuple[int, ...] = (0,),
) -> Answer:
    """What a choice must be, whatever else runs: no pages, no batch, the constraint looked up in its tables."""
    masks, kernel, answer, state = FakeMasks(), CpuSampler(VOCAB), Answer(), 0
    tokens = list(request.prompt)

    def accepting() -> bool:
        return automaton is None or state in automaton.accepting

    while True:
        if automaton is not None and end_early and not automaton.edges[state]:
            answer.reason, answer.complete = "stop", True
            return answer
        if len(answer.ids) == request.max_tokens:
            answer.reason, answer.complete = "length", accepting()
            return answer
        row = 0 if automaton is None else masks.row(automaton.allowed(state))
        token, logprobs = _draw(kernel, masks.pool, request, choice, row, tokens, windows)
        ends = token in request.stop_token_ids or (token in EOS and not request.ignore_eos)
        if ends and accepting():
            answer.reason, answer.complete = "stop", True
            return answer
        if automaton is not None:
            state = automaton.edges[state][token]
        tokens.append(token)
        answer.ids.append(token)
        if request.track_complete:
            answer.tracked.append(accepting())
        if logprobs is not None:
            answer.logprobs.append(logprobs)


def _draw(
    kernel: CpuSampler,
    pool: RowPool,
    request: Submit,
    choice: int,
    row: int,
    tokens: list[int],
    windows: tuple[int, ...],
) -> tuple[int, tuple[float, list[int], list[float]] | None]:
    asked, text = request.sampling, tokens[len(request.prompt) :]
    assert asked.seed is not None
    seen, bias = sorted(set(tokens)), asked.logit_bias or {}
    top = -1 if asked.logprobs is None else asked.logprobs

    def floats(*values: float) -> NDArray[np.float32]:
        return np.array(values, np.float32)

    def ints(*values: int) -> NDArray[np.int32]:
        return np.array(values, np.int32)

    batch = SamplingBatch(
        mask_rows=ints(row),
        temperature=floats(asked.temperature),
        top_p=floats(asked.top_p),
        top_k=ints(asked.top_k),
        min_p=floats(asked.min_p),
        seed=np.array([asked.seed], np.uint64),
        choice=ints(choice),
        position=ints(len(text)),
        presence=floats(asked.presence_penalty),
        frequency=floats(asked.frequency_penalty),
        repetition=floats(asked.repetition_penalty),
        history_start=ints(0, len(seen)),
        history_ids=ints(*seen),
        history_counts=ints(*(text.count(token) for token in seen)),
        bias_start=ints(0, len(bias)),
        bias_ids=ints(*bias),
        bias=floats(*bias.values()),
        n_logprobs=ints(top),
    )
    result = SamplingResult.empty(1, max(0, top))
    everything = np.stack([tokens, np.arange(len(tokens))], axis=1)
    seen = [apart(everything[-window:], group) for group, window in enumerate(windows)]
    kernel.sample(logits_of(*np.concatenate(seen).T)[None], pool, batch, result)
    logprobs = None
    if top >= 0:
        logprobs = float(result.logprob[0]), result.top_ids[0].tolist(), result.top_logprobs[0].tolist()
    return int(result.token[0]), logprobs
