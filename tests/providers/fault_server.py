"""A server that speaks four APIs and misbehaves as it is told, on a loopback port, over plain sockets.

It keeps a log of what it was asked and what each answer used, in the way that the API would bill it.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

Api = Literal["chat", "responses", "messages", "gemini"]
Fault = Literal[
    "status", "cut", "malformed", "content type", "huge line", "silence", "compressed", "midway", "redirect"
]

KINDS: dict[Api, str] = {
    "chat": "openai",
    "responses": "openai-responses",
    "messages": "anthropic",
    "gemini": "gemini",
}


@dataclass(frozen=True)
class Used:
    """``prompt`` is another number for each answer, so that an answer is known by it."""

    prompt: int
    completion: int
    cached: int = 0


@dataclass(frozen=True)
class Act:
    """What to do with one request. ``texts``: of the choices, in turn; ``calls``: (name, arguments) of each choice.
    ``end``: "stop", "length" or "declined". ``cut``: the share of the answer after which the connection breaks.
    ``counted``: the answer says what it used. ``complaint``: of a status, what its error says. ``pause``: seconds
    between two pieces of an answer on the wire."""

    texts: tuple[str, ...] = ("Hello",)
    calls: tuple[tuple[str, str], ...] = ()
    end: str = "stop"
    fault: Fault | None = None
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    cut: float = 0.5
    delay: float = 0.0
    piece: int = 7
    counted: bool = True
    whole: bool = False
    complaint: str = "as scripted"
    pause: float = 0.0


@dataclass
class Asked:
    """A request as it came, and what became of it. ``used``: None where nothing was executed. ``left``: the client
    went away in the middle of the answer."""

    api: Api
    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    act: Act
    used: Used | None = None
    delivered: bool = False
    left: bool = False


Script = Callable[[Api, dict[str, Any]], Act]


@dataclass
class FaultServer:
    script: Script = lambda api, body: Act()
    log: list[Asked] = field(default_factory=list)
    connections: int = 0
    port: int = 0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def url(self, api: Api) -> str:
        return f"http://127.0.0.1:{self.port}" + ("/v1beta" if api == "gemini" else "/v1")

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[FaultServer, None]:
        server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    @contextmanager
    def in_a_thread(self) -> Iterator[FaultServer]:
        """Running beside the caller's own loop, if it has one."""
        started, stopping = threading.Event(), asyncio.Event()
        loop = asyncio.new_event_loop()

        async def run() -> None:
            async with self.running():
                started.set()
                await stopping.wait()

        thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
        thread.start()
        started.wait()
        try:
            yield self
        finally:
            loop.call_soon_threadsafe(stopping.set)
            thread.join()
            loop.close()

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._connected(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await self._served(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            self.connections -= 1

    async def _served(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request; whether another may follow on its connection."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        path = head[0].split()[1]
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:-2])}
        body = json.loads(await reader.readexactly(int(headers.get("content-length", 0))))
        api = _api(path)
        asked = Asked(api, path, headers, body, self.script(api, body))
        self.log.append(asked)
        number = len(self.log)
        act = asked.act
        await asyncio.sleep(act.delay)
        if act.fault == "status":
            error = json.dumps({"error": {"message": act.complaint, "type": "scripted", "code": "scripted"}})
            await _send(writer, act.status, [*act.headers, ("content-type", "application/json")], error.encode())
            return True
        texts = tuple(act.texts[i % len(act.texts)] for i in range(_choices(api, body)))
        asked.used = Used(10_000 + number, sum(map(len, texts)) + 1, number % 7)
        if act.fault == "silence":
            await reader.read()  # until the client goes away
            return False
        return await self._answer(asked, texts, writer)

    async def _answer(self, asked: Asked, texts: tuple[str, ...], writer: asyncio.StreamWriter) -> bool:
        act = asked.act
        assert asked.used is not None
        streams = (asked.body.get("stream") or "alt=sse" in asked.path) and not act.whole
        said = _SPEAK[asked.api](texts, act, asked.used if act.counted else None, bool(streams))
        if act.fault == "midway":
            said[len(said) // 2 :] = [b'data: {"type":"error","error":{"type":"server_error"}}\n\n']
        if act.fault == "malformed":
            said[len(said) // 2] = said[len(said) // 2].replace(b"{", b"[", 1)
        if act.fault == "huge line":
            said.insert(len(said) // 2, b"data: " + b"x" * 3_000_000)
        data = b"".join(said)
        kind = "text/event-stream; charset=utf-8" if streams else "application/json"
        headers = [("content-type", "text/html" if act.fault == "content type" else kind)]
        if act.fault == "compressed":
            headers.append(("content-encoding", "gzip"))
        if act.fault == "cut":
            await _send(writer, 200, headers, data[: int(len(data) * act.cut)], whole=False)
            return False
        try:
            await _send(writer, 200, headers, data, pause=act.pause)
        except ConnectionError:
            asked.left = True
            raise
        asked.delivered = act.fault is None
        return True


async def _send(
    writer: asyncio.StreamWriter,
    status: int,
    headers: list[tuple[str, str]],
    data: bytes,
    *,
    whole: bool = True,
    pause: float = 0.0,
) -> None:
    """Chunked; without ``whole`` the last chunk never comes."""
    lines = [f"HTTP/1.1 {status} As-Scripted", *(f"{k}: {v}" for k, v in headers), "transfer-encoding: chunked"]
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n")
    # Boundaries of chunks are no boundaries of events.
    for start in range(0, len(data), 997):
        piece = data[start : start + 997]
        writer.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        await writer.drain()
        await asyncio.sleep(pause)
    if whole:
        writer.write(b"0\r\n\r\n")
    await writer.drain()


def _api(path: str) -> Api:
    ends: dict[str, Api] = {"/chat/completions": "chat", "/responses": "responses", "/messages": "messages"}
    found: list[Api] = [api for end, api in ends.items() if path.endswith(end)]
    return found[0] if found else "gemini"


def _choices(api: Api, body: dict[str, Any]) -> int:
    if api == "gemini":
        return body.get("generationConfig", {}).get("candidateCount", 1)
    return body.get("n", 1)


def _data(event: dict[str, Any]) -> bytes:
    """Events that have a type repeat it before their data."""
    kind = f"event: {event['type']}\n" if "type" in event else ""
    return kind.encode() + b"data: " + json.dumps(event).encode() + b"\n\n"


def _pieces(text: str, size: int) -> list[str]:
    return [text[i : i + size] for i in range(0, len(text), size)]


def _chat(texts: tuple[str, ...], act: Act, used: Used | None, stream: bool) -> list[bytes]:
    reason = {"stop": "tool_calls" if act.calls else "stop", "length": "length", "declined": "content_filter"}[act.end]
    usage = used and {
        "prompt_tokens": used.prompt,
        "completion_tokens": used.completion,
        "total_tokens": used.prompt + used.completion,
        "prompt_tokens_details": {"cached_tokens": used.cached},
    }
    if not stream:
        calls = [
            {"id": f"call_{i}", "type": "function", "function": {"name": name, "arguments": arguments}}
            for i, (name, arguments) in enumerate(act.calls)
        ]
        choices = [
            {
                "index": i,
                "message": {"role": "assistant", "content": text, "tool_calls": calls},
                "finish_reason": reason,
            }
            for i, text in enumerate(texts)
        ]
        about = {"id": "c", "object": "chat.completion", "created": 0, "model": "upstream"}
        return [json.dumps({**about, "choices": choices, "usage": usage}).encode()]
    about = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "upstream"}

    def chunk(choice: int, delta: dict[str, Any], reason: str | None = None) -> bytes:
        return _data({**about, "choices": [{"index": choice, "delta": delta, "finish_reason": reason}]})

    said = [chunk(i, {"role": "assistant", "content": ""}) for i in range(len(texts))]
    for i, text in enumerate(texts):
        said += [chunk(i, {"content": piece}) for piece in _pieces(text, act.piece)]
        for number, (name, arguments) in enumerate(act.calls):
            begun = {"index": number, "id": f"call_{number}", "type": "function"}
            said.append(chunk(i, {"tool_calls": [{**begun, "function": {"name": name, "arguments": ""}}]}))
            said += [
                chunk(i, {"tool_calls": [{"index": number, "function": {"arguments": piece}}]})
                for piece in _pieces(arguments, act.piece)
            ]
        said.append(chunk(i, {}, reason))
    if usage:
        said.append(_data({**about, "choices": [], "usage": usage}))
    return [*said, b"data: [DONE]\n\n"]


def _responses(texts: tuple[str, ...], act: Act, used: Used | None, stream: bool) -> list[bytes]:
    (text,) = texts
    output: list[dict[str, Any]] = []
    if text:
        content = [{"type": "output_text", "text": text}]
        output.append({"type": "message", "role": "assistant", "content": content})
    output += [
        {"type": "function_call", "call_id": f"call_{i}", "name": name, "arguments": arguments}
        for i, (name, arguments) in enumerate(act.calls)
    ]
    response: dict[str, Any] = {"id": "r", "status": "completed" if act.end == "stop" else "incomplete"}
    response["output"] = output
    if act.end != "stop":
        reason = {"length": "max_output_tokens", "declined": "content_filter"}[act.end]
        response["incomplete_details"] = {"reason": reason}
    if used is not None:
        response["usage"] = {
            "input_tokens": used.prompt,
            "input_tokens_details": {"cached_tokens": used.cached},
            "output_tokens": used.completion,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": used.prompt + used.completion,
        }
    if not stream:
        return [json.dumps(response).encode()]
    said = [_data({"type": "response.created", "response": {"status": "in_progress"}})]
    for i, item in enumerate(output):
        empty = {**item, "arguments": ""} if item["type"] == "function_call" else {**item, "content": []}
        said.append(_data({"type": "response.output_item.added", "output_index": i, "item": empty}))
        if item["type"] == "message":
            kind, spoken = "response.output_text.delta", text
        else:
            kind, spoken = "response.function_call_arguments.delta", item["arguments"]
        said += [_data({"type": kind, "output_index": i, "delta": piece}) for piece in _pieces(spoken, act.piece)]
        said.append(_data({"type": "response.output_item.done", "output_index": i, "item": item}))
    kind = "response.completed" if act.end == "stop" else "response.incomplete"
    return [*said, _data({"type": kind, "response": response})]


def _messages(texts: tuple[str, ...], act: Act, used: Used | None, stream: bool) -> list[bytes]:
    (text,) = texts
    reason = {"stop": "tool_use" if act.calls else "end_turn", "length": "max_tokens", "declined": "refusal"}[act.end]
    counts: dict[str, Any] = {}
    if used is not None:
        counts = {"input_tokens": used.prompt - used.cached, "cache_read_input_tokens": used.cached}
    blocks: list[dict[str, Any]] = [{"type": "text", "text": text}] if text else []
    blocks += [
        {"type": "tool_use", "id": f"toolu_{i}", "name": name, "input": _value(arguments)}
        for i, (name, arguments) in enumerate(act.calls)
    ]
    spent = {"output_tokens": used.completion} if used is not None else None
    about = {"id": "msg_1", "type": "message", "role": "assistant", "model": "upstream"}
    if not stream:
        usage = {**counts, **spent} if spent else None
        return [json.dumps({**about, "content": blocks, "stop_reason": reason, "usage": usage}).encode()]
    begun = {**about, "content": [], "stop_reason": None, "usage": {**counts, "output_tokens": 1}}
    said = [_data({"type": "message_start", "message": begun})]
    said.append(_data({"type": "ping"}))
    for i, block in enumerate(blocks):
        if block["type"] == "text":
            empty, kind, key, spoken = {**block, "text": ""}, "text_delta", "text", text
        else:
            empty, kind, key = {**block, "input": {}}, "input_json_delta", "partial_json"
            spoken = act.calls[i - bool(text)][1]
        said.append(_data({"type": "content_block_start", "index": i, "content_block": empty}))
        for piece in _pieces(spoken, act.piece):
            said.append(_data({"type": "content_block_delta", "index": i, "delta": {"type": kind, key: piece}}))
        said.append(_data({"type": "content_block_stop", "index": i}))
    said.append(_data({"type": "message_delta", "delta": {"stop_reason": reason}, "usage": spent}))
    return [*said, _data({"type": "message_stop"})]


def _gemini(texts: tuple[str, ...], act: Act, used: Used | None, stream: bool) -> list[bytes]:
    reason = {"stop": "STOP", "length": "MAX_TOKENS", "declined": "SAFETY"}[act.end]
    calls: list[dict[str, Any]] = [
        {"functionCall": {"name": name, "args": _value(arguments)}} for name, arguments in act.calls
    ]
    usage = used and {
        "promptTokenCount": used.prompt,
        "cachedContentTokenCount": used.cached,
        "candidatesTokenCount": used.completion,
        "totalTokenCount": used.prompt + used.completion,
    }
    counted = {"usageMetadata": usage} if usage else {}
    if not stream:
        candidates = [
            {"index": i, "content": {"parts": [{"text": text}, *calls]}, "finishReason": reason}
            for i, text in enumerate(texts)
        ]
        return [json.dumps({"candidates": candidates, **counted}).encode()]
    said: list[bytes] = []
    for i, text in enumerate(texts):
        for piece in _pieces(text, act.piece):
            said.append(_data({"candidates": [{"index": i, "content": {"parts": [{"text": piece}]}}]}))
        last = {"index": i, "content": {"parts": calls or [{"text": ""}]}, "finishReason": reason}
        said.append(_data({"candidates": [last], **(counted if i == len(texts) - 1 else {})}))
    return said


def _value(arguments: str) -> Any:
    """APIs whose arguments are values, not texts, cannot send broken ones."""
    try:
        return json.loads(arguments)
    except ValueError:
        return {"broken": arguments}


_SPEAK = {"chat": _chat, "responses": _responses, "messages": _messages, "gemini": _gemini}
