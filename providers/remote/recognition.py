"""Whether a text is a sentence of a regular expression, a grammar or a structural tag: the same automaton that the
engine masks with, over the 256 bytes as its vocabulary.

It runs in a process of its own, started when first needed: a constraint is somebody's input, and one that takes too
long takes the process with it.

    parent → worker   (constraint, text or None)
    worker → parent   whether it is a sentence (True where there is no text), or the refusal of the constraint
"""

from __future__ import annotations

import asyncio
import multiprocessing
from collections import OrderedDict
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING

import msgspec

from providers.base import ErrorKind, ProviderError
from providers.remote.validation import Judged
from schemas.constraint import ConstraintSpec

if TYPE_CHECKING:
    from fsm import Program

DEADLINE_S = 10.0
"""For one text, compiling included; above the process's own start."""

START_S = 60.0
KEPT = 32
"""Compiled constraints that the process keeps."""

MAX_TEXT = 200_000
"""Bytes of a text that is judged, at some 10 µs each."""


class _Question(msgspec.Struct, array_like=True):
    constraint: ConstraintSpec
    text: str | None


class _Verdict(msgspec.Struct, array_like=True):
    """``kind``: "" or the kind of a refusal."""

    accepted: bool = False
    kind: str = ""
    message: str = ""
    pointer: str = ""


class Recogniser:
    """One process, one question at a time."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._process: BaseProcess | None = None
        self._connection: Connection | None = None

    async def check(self, constraint: ConstraintSpec) -> None:
        """Raises `ProviderError` for a constraint that cannot be compiled."""
        await self._ask(constraint, None)

    async def accepts(self, constraint: ConstraintSpec, text: str) -> bool:
        """Raises `ProviderError`, as `check`, and for what takes too long."""
        if len(text.encode()) > MAX_TEXT:
            raise ProviderError("invalid_answer", f"The answer is longer than the {MAX_TEXT} bytes that are judged.")
        return await self._ask(constraint, text)

    async def _ask(self, constraint: ConstraintSpec, text: str | None) -> bool:
        async with self._turn:
            try:
                connection = await self._running()
                connection.send_bytes(msgspec.msgpack.encode(_Question(constraint, text)))
                verdict = msgspec.msgpack.decode(await self._received(connection, DEADLINE_S), type=_Verdict)
            except BaseException:
                self.close()  # what it still does answers a question that nobody waits for
                raise
        if verdict.kind:
            kind: ErrorKind = verdict.kind  # type: ignore[assignment]
            raise ProviderError(kind, verdict.message, pointer=verdict.pointer)
        return verdict.accepted

    async def _running(self) -> Connection:
        if self._connection is None:
            context = multiprocessing.get_context("spawn")
            self._connection, theirs = context.Pipe()
            self._process = context.Process(target=_serve, args=(theirs,), daemon=True, name="sluice-recogniser")
            await asyncio.to_thread(self._process.start)
            theirs.close()
            await self._received(self._connection, START_S)
        return self._connection

    async def _received(self, connection: Connection, seconds: float) -> bytes:
        try:
            if await asyncio.to_thread(connection.poll, seconds):
                return connection.recv_bytes()
        except (EOFError, OSError):
            raise ProviderError("internal", "The process that judges answers has ended.") from None
        raise ProviderError("constraint_too_large", f"To judge the answer takes more than {seconds:g} seconds.")

    def close(self) -> None:
        """End the process. Another one is started when it is needed."""
        if self._process is not None and self._process.pid is not None:
            self._process.kill()
            self._process.join()
        if self._connection is not None:
            self._connection.close()
        self._process = self._connection = None


@dataclass(frozen=True, slots=True)
class SentenceCheck:
    """A `providers.remote.validation.Check`."""

    recogniser: Recogniser
    constraint: ConstraintSpec

    @property
    def rewrites(self) -> bool:
        return False

    async def judge(self, text: str, *, plain: bool = False) -> Judged:
        if await self.recogniser.accepts(self.constraint, text):
            return Judged(text)
        trimmed = text.strip()
        if not plain and trimmed != text and await self.recogniser.accepts(self.constraint, trimmed):
            return Judged(trimmed)
        return Judged(text, ("The text does not match what was asked for.",))


def _serve(connection: Connection) -> None:
    """The process: answers until the parent closes the pipe."""
    from engine.grammar_worker import constraint_of
    from fsm import TokenTable, compile_constraint
    from grammar.errors import ConstraintError

    table = TokenTable.from_bytes([*(bytes([byte]) for byte in range(256)), None], [256])
    programs: OrderedDict[bytes, Program] = OrderedDict()
    encode, decoder = msgspec.msgpack.encode, msgspec.msgpack.Decoder(_Question)
    connection.send_bytes(b"ready")
    while True:
        try:
            question = decoder.decode(connection.recv_bytes())
        except (EOFError, OSError):
            return
        key = encode(question.constraint)
        try:
            if key not in programs:
                programs[key] = compile_constraint(constraint_of(question.constraint), table)
            programs.move_to_end(key)
            verdict = _Verdict(question.text is None or _accepts(programs[key], question.text))
        except ConstraintError as error:
            programs.pop(key, None)
            verdict = _Verdict(kind=error.code, message=error.reason, pointer=error.pointer)
        while len(programs) > KEPT:
            programs.popitem(last=False)
        connection.send_bytes(encode(verdict))


def _accepts(program: Program, text: str) -> bool:
    matcher = program.matcher()
    return all(matcher.advance(byte) for byte in text.encode()) and matcher.accepting
