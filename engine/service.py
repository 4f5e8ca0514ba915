"""One served model: its runner, its constraints and its step loop, tied together.

    Submit ──▶ constraint? ── no ──────────────────────────▶ StepLoop.submit
                   └─ yes ─▶ Programs.request … Ready ─────▶ StepLoop.submit under the program
                                            … Refusal ─────▶ Failed
    StepLoop.step ──▶ misses ──▶ Programs.ask … Grown ─────▶ StepLoop.grammar_ready

A request that waits for its constraint is not in the step loop, so nothing waits for it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

from engine.base import HostMemory, Runner, SamplingKernel
from engine.forced import ForcedRuns
from engine.loop import StepLoop
from engine.model.config import ModelConfig
from engine.model.errors import UnsupportedModelError
from engine.model.files import ModelFiles, open_model
from engine.model.kv_groups import KvGroups
from engine.programs import Broken, Grown, Programs, Ready, Refusal
from engine.scheduler import Limits
from fsm.runtime import Runtime
from fsm.tokens import TokenTable
from schemas import config as settings
from schemas.engine import Event, Failed, Finished, Inspect, Inspected, ModelCard, Pin, Report, Score, Submit

logger = logging.getLogger(__name__)

Precision = str

ROW_BYTES = 64 << 20
"""Of mask rows; more are dropped, those longest not used first, and walked again when they are needed."""


class ModelTooLarge(ValueError):
    """A model does not fit the configured memory; the message has both numbers."""


class DeviceMissing(ValueError):
    """The configured device is not there."""


class Service:
    """Serves one model. Not thread-safe; ``wake`` is called from other threads when `turn` has something to do."""

    def __init__(self, model: settings.ModelSettings, options: settings.Settings, *, wake: Callable[[], None]) -> None:
        files = open_model(model.path)
        tokenizer = files.tokenizer()
        runner, precision = _runner(files, model, options.engine)
        host = _host(runner, options.engine)
        self.memory = runner.nbytes()
        self._host_bytes = host.nbytes() if host else 0
        context = min(model.context_length or runner.context_length, runner.context_length)
        vocabulary = [tokenizer.token_bytes(i) for i in range(tokenizer.vocab_size)]
        vocabulary += [None] * (runner.vocab_size - len(vocabulary))
        silent = [i for i in tokenizer.special_ids if vocabulary[i] is None]
        controls = dict(zip(tokenizer.special_names, tokenizer.special_ids, strict=True))
        runtime = Runtime(TokenTable(vocabulary, tokenizer.eos_ids, silent, controls))
        forced = ForcedRuns(runtime, partial(tokenizer.encode, special=False))
        self.card = ModelCard(
            name=model.name,
            source=model.path,
            context_length=context,
            kv_tokens=runner.num_blocks // len(runner.windows) * runner.block_size,
            vocab_size=runner.vocab_size,
            eos_ids=list(tokenizer.eos_ids),
            precision=precision,
        )
        self.limits = Limits(
            max_sequences=options.engine.max_sequences,
            max_batch_tokens=max(options.engine.max_batch_tokens, options.engine.max_sequences),
            max_waiting=options.server.max_queue,
        )
        self.loop = StepLoop(
            runner,
            runtime,
            model=model.name,
            eos_ids=tokenizer.eos_ids,
            limits=self.limits,
            sampling=_sampling(runtime, precision, options.engine),
            forced=forced.after if options.engine.skip_forced else None,
            host=host,
            tenants=options.tenants,
        )
        self._runtime = runtime
        self._programs = Programs(
            runtime,
            wake=wake,
            deadline_s=options.grammar.compile_deadline_s,
            fuel=options.grammar.fuel,
            cache_bytes=options.grammar.cache_mb << 20,
        )
        self._compiling: dict[bytes, list[Submit | Inspect]] = {}
        self._using: dict[str, tuple[int, int]] = {}
        """Request → (program, choices still running)."""
        self._events: list[Event] = []
        self._broken_invariants = 0

    def close(self) -> None:
        self._programs.close()

    @property
    def can_turn(self) -> bool:
        """`turn` has work now, not only when news arrive."""
        return bool(self._events) or self.loop.can_step

    @property
    def idle(self) -> bool:
        return self.loop.idle and not self._compiling and not self._events

    @property
    def waiting_for_grammar(self) -> bool:
        """A deadline runs: `turn` must be called again soon even without news."""
        return self._programs.waiting > 0

    def submit(self, request: Submit | Score | Pin | Inspect) -> None:
        if isinstance(request, Score):
            self.loop.score(request)
        elif isinstance(request, Pin):
            self.loop.pin(request)
        elif request.constraint is None:
            self.loop.submit(request)
        elif sum(map(len, self._compiling.values())) >= self.limits.max_waiting:
            self._events.append(Failed(request.id, "overloaded", "too many requests wait for their constraint"))
        else:
            key = self._programs.request(request.constraint)
            self._compiling.setdefault(key, []).append(request)

    def cancel(self, id: str, choice: int | None) -> None:
        for key, requests in list(self._compiling.items()):
            if choice is None and any(request.id == id for request in requests):
                self._compiling[key] = [request for request in requests if request.id != id]
        self.loop.cancel(id, choice)

    def turn(self) -> list[Event]:
        """Take in what the grammar workers have answered, then one step."""
        for news in self._programs.poll():
            match news:
                case Ready():
                    self._admit(news)
                case Refusal():
                    for request in self._compiling.pop(news.key, ()):
                        self._events.append(Failed(request.id, news.kind, news.message, news.pointer))
                case Grown():
                    self.loop.grammar_ready(news.program)
                case Broken():
                    self.loop.grammar_failed(news.program, "constraint_too_large", news.message)
        events, self._events = self._events, []
        events += self.loop.step()
        missing = self._runtime.missing()
        if missing:
            self._programs.ask(missing)
        self._runtime.trim(ROW_BYTES, self.loop.rows_in_use())
        for event in events:
            self._settle(event)
        if events and self.loop.idle:
            self._check()
        return events

    def report(self, id: str) -> Report:
        report = self.loop.report(id)
        report.gauges["compiling"] = float(sum(map(len, self._compiling.values())))
        report.gauges["constraint_bytes"] = float(self._programs.nbytes() + self._runtime.pool.nbytes())
        report.gauges["mask_rows"] = float(self._runtime.pool.n_rows)
        report.gauges |= {f"{kind}_bytes": float(size) for kind, size in self.memory.items()}
        report.gauges["host_kv_bytes"] = float(self._host_bytes)
        report.counters["broken_invariants"] = float(self._broken_invariants)
        report.counters["mask_rows_warm"] = float(self._runtime.figures.warm)
        report.counters["mask_rows_cold"] = float(self._runtime.figures.cold)
        report.observations["compile_time"] = self._programs.compile_seconds
        self._programs.compile_seconds = []
        return report

    def _check(self) -> None:
        """Nothing runs: every block must be free or cached. A leak is a defect, told loudly, but no reason to stop
        serving."""
        try:
            self.loop.check()
        except AssertionError:
            logger.exception("the invariants of the block pool do not hold")
            self._broken_invariants += 1

    def _admit(self, ready: Ready) -> None:
        for request in self._compiling.pop(ready.key, ()):
            if isinstance(request, Inspect):
                inspected = Inspected(request.id, ready.contract, ready.reasons, ready.limits, ready.seconds)
                self._events.append(inspected)
                continue
            self._programs.acquire(ready.program)
            self._using[request.id] = ready.program, request.n
            self.loop.submit(request, ready.program, ready.contract, ready.reasons)

    def _settle(self, event: Event) -> None:
        """Let go of a program when the last choice of a request that used it has ended."""
        if not isinstance(event, (Finished, Failed)) or event.id not in self._using:
            return
        program, running = self._using.pop(event.id)
        if isinstance(event, Finished) and running > 1:
            self._using[event.id] = program, running - 1
        else:
            self._programs.release(program)


def _runner(files: ModelFiles, model: settings.ModelSettings, options: settings.Engine) -> tuple[Runner, Precision]:
    """The runner of a precision, and the name of that precision. "auto" takes quantized blocks where there are kernels
    for them."""
    kv_bytes = options.kv_memory_mb << 20
    groups = KvGroups.by_window(files.config)
    if options.device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise DeviceMissing("engine.device is 'cuda', but torch sees no CUDA device")
        if model.precision != "reference":
            from engine.triton_runner import TritonRunner

            blocks = _blocks(files.config, groups, kv_bytes, options.block_size, bytes_per_element=2)
            sizes = {min(1 << i, options.max_sequences) for i in range(options.max_sequences.bit_length() + 1)}
            runner = TritonRunner.load(
                files, num_blocks=blocks, block_size=options.block_size, groups=groups, graph_sizes=tuple(sorted(sizes))
            )
            return runner, "bf16"
    elif model.precision != "reference":
        from engine import cpu_runner

        try:
            cpu_runner.check(files.config)
        except UnsupportedModelError:
            if model.precision == "quantized":
                raise
        else:
            blocks = _blocks(files.config, groups, kv_bytes, options.block_size, bytes_per_element=2)
            runner = cpu_runner.CpuRunner.load(
                files, num_blocks=blocks, block_size=options.block_size, groups=groups, threads=options.threads
            )
            return runner, "quantized"
    import torch

    from engine.decoder import TorchRunner

    if options.threads:
        torch.set_num_threads(options.threads)
    blocks = _blocks(files.config, groups, kv_bytes, options.block_size, bytes_per_element=4)
    runner = TorchRunner.load(
        files, num_blocks=blocks, block_size=options.block_size, groups=groups, device=options.device
    )
    return runner, "reference"


def _sampling(runtime: Runtime, precision: Precision, options: settings.Engine) -> SamplingKernel | None:
    """Where tokens are drawn: with the logits. None for the CPU."""
    if options.device != "cuda" or precision == "reference":
        return None
    from engine.device_sampling import DeviceSampling

    return DeviceSampling(runtime.pool, options.device)


def _host(runner: Runner, options: settings.Engine) -> HostMemory | None:
    """The second tier of a runner's KV memory, where the settings want one: on a device that has memory of its own."""
    if options.host_kv_memory_mb is None:
        return None
    from engine.decoder import TorchRunner
    from engine.triton_runner import TritonRunner

    assert isinstance(runner, TorchRunner | TritonRunner), "the settings allow it on GPUs only"
    return runner.host_memory(options.host_kv_memory_mb << 20)


def _blocks(config: ModelConfig, groups: KvGroups, kv_bytes: int, block_size: int, *, bytes_per_element: int) -> int:
    """How many KV blocks fit, at most what ``config.context_length`` could use 64 times over."""
    per_block = 2 * groups.places * config.kv_heads * config.head_dim * block_size * bytes_per_element
    tables = len(groups.windows)
    blocks = min(kv_bytes // per_block, 64 * tables * -(-config.context_length // block_size))
    if blocks < 2 * tables:
        raise ModelTooLarge(
            f"engine.kv_memory_mb = {kv_bytes >> 20} holds no two KV blocks of {tables * per_block} bytes"
        )
    return int(blocks)
