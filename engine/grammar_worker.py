"""The grammar worker: a process that turns constraints into byte machines and expands them on demand.

It owns the machines (the only writers of their static tables) and answers with `Delta`s. Compiles run each in a thread
of their own, expansions at once in the reader, so that a slow schema holds up nobody who waits for a state. Fuel bounds
every compile; a compile that takes long has its thread's priority lowered so that it takes no core from the step loop;
and the parent kills the whole process when a deadline passes (engine/programs.py).

    parent → worker   Prepare, Compile, Expand, Forget
    worker → parent   Compiled | Refused, Expanded | Refused
"""

from __future__ import annotations

import gc
import threading
import time
import traceback
from multiprocessing.connection import Connection

import msgspec

from engine.politeness import lower_priority
from grammar.compile import Compiled, answer_misses, compile_machine, prepare
from grammar.constraint import Choice, Constraint, Indenter, JsonObject, JsonSchema, Lark, Regex, StructuralTag
from grammar.errors import ConstraintError, ConstraintTooLarge
from grammar.json_schema.decoding import load
from grammar.tables import Delta
from schemas.constraint import (
    ChoiceSpec,
    ConstraintSpec,
    JsonObjectSpec,
    JsonSchemaSpec,
    LarkSpec,
    RegexSpec,
    StructuralTagSpec,
)  # fmt: skip

POLITE_AFTER_S = 0.1
"""A compile that takes longer yields to everything else on the machine."""

IDLE_S = 0.2
"""Garbage is looked for when nothing has come for so long: a collection stops all threads."""

MUCH_GARBAGE = 256
"""Compiles and machines forgotten after which it is looked for in any case, and everywhere."""


class Prepare(msgspec.Struct, tag="prepare"):
    """Have at hand what the first schemas would wait for. ``spellable`` as in `Compile`."""

    spellable: bytes


class Compile(msgspec.Struct, tag="compile"):
    """``spellable``: 256 bytes, 1 where the vocabulary has that byte as a token. ``replay``: expansions to repeat, in
    order. ``controls``: the vocabulary's control tokens, where a grammar may ask for them."""

    program: int
    constraint: ConstraintSpec
    spellable: bytes
    fuel: int | None = None
    replay: list[list[tuple[int, int]]] = []
    controls: dict[str, int] = {}


class Expand(msgspec.Struct, tag="expand"):
    """``misses``: (state, 0) or (ret, verdict above 0)."""

    program: int
    misses: list[tuple[int, int]]


class Forget(msgspec.Struct, tag="forget"):
    program: int


class CompiledReply(msgspec.Struct, tag="compiled"):
    program: int
    start: int
    contract: str
    reasons: tuple[str, ...]
    limits: dict[str, int | str]
    delta: Delta
    seconds: float


class Expanded(msgspec.Struct, tag="expanded"):
    program: int
    delta: Delta


class Refused(msgspec.Struct, tag="refused"):
    """``kind`` as in `schemas.engine.Failed`."""

    program: int
    kind: str
    message: str
    pointer: str


ToWorker = Prepare | Compile | Expand | Forget
FromWorker = CompiledReply | Expanded | Refused


def constraint_of(spec: ConstraintSpec) -> Constraint:
    """The core's value for a constraint as it travelled. ConstraintError for a schema that is not JSON."""
    match spec:
        case JsonSchemaSpec():
            return JsonSchema(
                load(spec.schema),
                property_order=spec.property_order,  # type: ignore[arg-type]
                whitespace=spec.whitespace,  # type: ignore[arg-type]
                number=spec.number,  # type: ignore[arg-type]
                formats=spec.formats,  # type: ignore[arg-type]
            )
        case JsonObjectSpec():
            return JsonObject(whitespace=spec.whitespace)  # type: ignore[arg-type]
        case RegexSpec():
            return Regex(spec.pattern, spec.dialect)  # type: ignore[arg-type]
        case ChoiceSpec():
            return Choice(spec.choices)
        case StructuralTagSpec():
            return StructuralTag(load(spec.document))
        case LarkSpec():
            indenter = None if spec.indenter is None else Indenter(**msgspec.structs.asdict(spec.indenter))
            return Lark(spec.grammar, spec.start, spec.semantics, indenter, dict(spec.imports))  # type: ignore[arg-type]


def run(connection: Connection) -> None:
    """The worker's main loop; returns when the parent closes the pipe."""
    gc.freeze()  # what is imported stays: no collection need look at it
    gc.disable()  # `_Worker` says when
    _Worker(connection).serve()


class _Worker:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sending = threading.Lock()
        self._machines: dict[int, Compiled] = {}
        self._compiling: dict[int, float] = {}
        self._young = False
        """Something was done since the last collection."""
        self._old = 0
        """Machines made and forgotten since the last collection of everything."""
        self._decoder = msgspec.msgpack.Decoder(ToWorker)
        self._encoder = msgspec.msgpack.Encoder()

    def serve(self) -> None:
        while True:
            try:
                waiting = self._connection.poll(POLITE_AFTER_S if self._compiling else IDLE_S if self._young else None)
                message = self._decoder.decode(self._connection.recv_bytes()) if waiting else None
            except (EOFError, ConnectionResetError):
                return
            self._young = self._young or message is not None
            match message:
                case Prepare():
                    prepare([bool(b) for b in message.spellable])
                case Compile():
                    self._old += 1
                    threading.Thread(target=self._compile, args=(message,), daemon=True).start()
                case Expand():
                    self._expand(message)
                case Forget():
                    self._machines.pop(message.program, None)
                    self._old += 1
                case None:
                    if not self._compiling:
                        self._collect()
            self._be_polite()
            if self._old > MUCH_GARBAGE:
                self._collect()

    def _collect(self) -> None:
        """Free what only circles of references still hold: what is new, and now and then all."""
        if self._old > min(MUCH_GARBAGE, len(self._machines) // 4):
            gc.collect()
            self._old = 0
        else:
            gc.collect(1)
        self._young = False

    def _be_polite(self) -> None:
        now = time.monotonic()
        for thread, since in list(self._compiling.items()):
            if now - since > POLITE_AFTER_S:
                lower_priority(thread)

    def _compile(self, job: Compile) -> None:
        began = time.monotonic()
        thread = threading.get_native_id()
        self._compiling[thread] = began
        try:
            spellable = [bool(b) for b in job.spellable]
            constraint = constraint_of(job.constraint)
            compiled = compile_machine(constraint, spellable, fuel=job.fuel, controls=job.controls)
            for misses in job.replay:
                answer_misses(compiled.machine, misses)
            self._machines[job.program] = compiled
            reply: FromWorker = CompiledReply(
                job.program, compiled.machine.start, compiled.contract.value, tuple(compiled.reasons),
                dict(compiled.limits), compiled.machine.tables.delta(), time.monotonic() - began,
            )  # fmt: skip
        except Exception as error:
            reply = _refusal(job.program, error)
        finally:
            del self._compiling[thread]
        self._send(reply)

    def _expand(self, job: Expand) -> None:
        try:
            compiled = self._machines[job.program]
            answer_misses(compiled.machine, job.misses)
            reply: FromWorker = Expanded(job.program, compiled.machine.tables.delta())
        except Exception as error:
            reply = _refusal(job.program, error)
        self._send(reply)

    def _send(self, reply: FromWorker) -> None:
        with self._sending:
            self._connection.send_bytes(self._encoder.encode(reply))


def _refusal(program: int, error: Exception) -> Refused:
    """The reply for a failed job: whatever goes wrong here is the answer to one request, never the end of the
    worker."""
    if isinstance(error, ConstraintError):
        return Refused(program, error.code, error.reason, error.pointer)
    if isinstance(error, (RecursionError, MemoryError)):
        too_large = ConstraintTooLarge("the constraint is nested too deeply to be compiled")
        return Refused(program, too_large.code, too_large.reason, "")
    traceback.print_exception(error)
    return Refused(program, "internal", f"the compiler failed: {type(error).__name__}: {error}", "")
