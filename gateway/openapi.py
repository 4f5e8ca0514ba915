"""``GET /schema``: the OpenAPI 3.1 document, and ``GET /docs``, the same as a page. Made from the Structs that decode
requests and encode answers, so it cannot say anything else than what happens.

The page is plain HTML without scripts: a server may stand where nothing can be fetched from elsewhere.
"""

from __future__ import annotations

import html
import json
import re
from dataclasses import dataclass
from functools import cache
from typing import Any

import msgspec

from schemas.anthropic.answer import ErrorAnswer, Message, TokenCount
from schemas.anthropic.messages import CountRequest, MessageRequest
from schemas.errors import ErrorResponse
from schemas.explanation import Explanation
from schemas.inspection import CompileRequest, Inspection
from schemas.openai.batches import Batch, BatchList, BatchRequest
from schemas.openai.chat import ChatCompletion, ChatRequest
from schemas.openai.completions import Completion, CompletionRequest
from schemas.openai.decisions import Decision, DecisionRequest
from schemas.openai.files import DeletedFile, File, FileList
from schemas.openai.items import (
    Conversation,
    ConversationRequest,
    ConversationUpdate,
    DeletedConversation,
    Item,
    ItemList,
    ItemsRequest,
)
from schemas.openai.models import Model, ModelList
from schemas.openai.response_events import DeletedResponse, Response
from schemas.openai.responses import ResponseRequest
from schemas.systemone import SystemOneAnswer, SystemOneRequest
from schemas.tokens import Detokenized, DetokenizeRequest, Tokenized, TokenizeRequest
from schemas.usage import UsageReport
from sluice import __version__

REFERENCE = "#/components/schemas/{name}"


@dataclass(frozen=True, slots=True)
class Operation:
    """``asked`` is the body of a POST; without one it is a GET, unless ``verb`` says otherwise. ``streams``: with
    `stream` there are events. ``answered``: None for bytes."""

    path: str
    summary: str
    answered: type[msgspec.Struct] | None
    asked: type[msgspec.Struct] | None = None
    streams: bool = False
    failed: type[msgspec.Struct] = ErrorResponse
    query: tuple[str, ...] = ()
    verb: str = ""

    @property
    def method(self) -> str:
        return self.verb or ("post" if self.asked else "get")


OPERATIONS = (
    Operation("/v1/chat/completions", "Chat", ChatCompletion, ChatRequest, True),
    Operation("/v1/responses", "Responses", Response, ResponseRequest, True),
    Operation("/v1/completions", "Text after a prompt", Completion, CompletionRequest, True),
    Operation("/v1/messages", "Anthropic's Messages", Message, MessageRequest, True, ErrorAnswer),
    Operation("/v1/messages/count_tokens", "Length of a prompt", TokenCount, CountRequest, False, ErrorAnswer),
    Operation("/v1/decisions", "How likely answers are", Decision, DecisionRequest),
    Operation("/v1/systemone", "The same, as System One has it", SystemOneAnswer, SystemOneRequest),
    Operation("/v1/compile", "What a constraint promises", Inspection, CompileRequest),
    Operation("/v1/usage", "What the tenant's requests came to", UsageReport, query=("since", "until", "group_by")),
    Operation("/v1/route/explain", "Who would answer, for how much, and why not others", Explanation, ChatRequest),
    Operation("/v1/models", "What is served", ModelList),
    Operation("/v1/models/{model}", "One of the models", Model),
    Operation("/tokenize", "The ids of a prompt", Tokenized, TokenizeRequest),
    Operation("/detokenize", "The text of ids", Detokenized, DetokenizeRequest),
)

STORED = (
    Operation("/v1/responses/{response}", "A stored response", Response),
    Operation("/v1/responses/{response}", "Forget a stored response", DeletedResponse, verb="delete"),
    Operation("/v1/responses/{response}/cancel", "End a response in the background", Response, verb="post"),
    Operation("/v1/responses/{response}/input_items", "What a stored response was made of", ItemList),
)
"""Of what a server that stores has."""

PAGES = ("after", "limit", "order")
FILES = (
    Operation("/v1/files", "Upload a file, as a form with `file`, `purpose` and `expires_after`", File, verb="post"),
    Operation("/v1/files", "The tenant's files", FileList, query=(*PAGES, "purpose")),
    Operation("/v1/files/{file}", "A file", File),
    Operation("/v1/files/{file}", "Forget a file", DeletedFile, verb="delete"),
    Operation("/v1/files/{file}/content", "What is in a file", None),
    Operation("/v1/batches", "Answer the lines of a file", Batch, BatchRequest),
    Operation("/v1/batches", "The tenant's batches", BatchList, query=PAGES),
    Operation("/v1/batches/{batch}", "A batch", Batch),
    Operation("/v1/batches/{batch}/cancel", "End a batch", Batch, verb="post"),
)
"""Of what a server that keeps files has."""

CONVERSATIONS = (
    Operation("/v1/conversations", "Begin a conversation", Conversation, ConversationRequest),
    Operation("/v1/conversations/{conversation}", "A conversation", Conversation),
    Operation("/v1/conversations/{conversation}", "Label a conversation", Conversation, ConversationUpdate),
    Operation("/v1/conversations/{conversation}", "Forget a conversation", DeletedConversation, verb="delete"),
    Operation("/v1/conversations/{conversation}/items", "Add to a conversation", ItemList, ItemsRequest),
    Operation("/v1/conversations/{conversation}/items", "What was said", ItemList, query=PAGES),
    Operation("/v1/conversations/{conversation}/items/{item}", "One of the items", Item),
    Operation("/v1/conversations/{conversation}/items/{item}", "Remove an item", Conversation, verb="delete"),
)
"""Of what a server that stores has, too."""


def document() -> dict[str, Any]:
    """OpenAPI 3.1, as plain JSON values."""
    operations = (*OPERATIONS, *STORED, *FILES, *CONVERSATIONS)
    structs = {op.failed for op in operations}
    structs |= {struct for op in operations for struct in (op.asked, op.answered) if struct is not None}
    named = sorted(structs, key=lambda struct: f"{struct.__module__}.{struct.__qualname__}")
    references, components = msgspec.json.schema_components(named, schema_hook=_any, ref_template=REFERENCE)
    schemas = dict(zip(named, references, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for op in operations:
        paths.setdefault(op.path, {})[op.method] = _operation(op, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Sluice", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
        "security": [{"bearer": []}, {"x-api-key": []}, {}],
    }


def _any(kind: type) -> dict[str, Any]:
    """Fields typed ``object`` take few values, which the table of parameters names."""
    if kind is not object:
        raise NotImplementedError
    return {"description": "Takes the values that the table of parameters names."}


def _operation(op: Operation, schemas: dict[type[msgspec.Struct], Any]) -> dict[str, Any]:
    answer: dict[str, Any] = {"application/octet-stream": {}}
    if op.answered is not None:
        answer = {"application/json": {"schema": schemas[op.answered]}}
    if op.streams:
        answer["text/event-stream"] = {"schema": {"type": "string"}}
    described: dict[str, Any] = {
        "summary": op.summary,
        "responses": {
            "200": {"description": "The answer.", "content": answer},
            "default": {"description": "An error.", "content": {"application/json": {"schema": schemas[op.failed]}}},
        },
    }
    if op.asked is not None:
        described["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schemas[op.asked]}},
        }
    for name in re.findall(r"{(\w+)}", op.path):
        path = {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        described.setdefault("parameters", []).append(path)
    for name in op.query:
        described.setdefault("parameters", []).append({"name": name, "in": "query", "schema": {"type": "string"}})
    return described


@cache
def encoded() -> bytes:
    """`document` as JSON."""
    return msgspec.json.encode(document())


@cache
def page() -> str:
    """HTML for people: each operation, then each schema, linked."""
    described = document()
    parts = ["<!doctype html><html lang=en><meta charset=utf-8><title>Sluice</title>", f"<style>{_STYLE}</style>"]
    parts.append(f"<h1>Sluice {html.escape(described['info']['version'])}</h1><p><a href=/schema>OpenAPI document</a>")
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            parts.append(f"<h2><code>{method.upper()} {html.escape(path)}</code></h2>")
            parts.append(f"<p>{html.escape(operation['summary'])}{_links(operation)}")
    for name, schema in described["components"]["schemas"].items():
        text = html.escape(json.dumps(schema, indent=2, ensure_ascii=False))
        parts.append(f"<h3 id={html.escape(name)}>{html.escape(name)}</h3><pre>{text}</pre>")
    return "\n".join(parts)


def _links(operation: dict[str, Any]) -> str:
    """To the schemas of the request, the answer and the errors."""
    bodies = {"request": operation.get("requestBody"), **operation["responses"]}
    found = ""
    for what, body in bodies.items():
        reference = (body or {}).get("content", {}).get("application/json", {}).get("schema", {}).get("$ref")
        if reference:
            name = html.escape(reference.rpartition("/")[2])
            found += f" · {what}: <a href=#{name}>{name}</a>"
    return found


_STYLE = (
    "body{font:16px/1.5 system-ui;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "pre{background:#8881;padding:1rem;overflow:auto;font-size:13px}h2{margin-top:2rem}:root{color-scheme:light dark}"
)
