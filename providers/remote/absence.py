"""Takes out of an answer the nulls that stand for absent properties (`translation.ABSENT`)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import msgspec
from msgspec import Raw

from providers.remote.translation import ABSENT, Schema


def without_absent(text: str, schema: Schema) -> str:
    """``text``: JSON that is valid under ``schema``, a translation. What stays is spelled as it was, but for white
    space."""
    return _Stripper(schema).strip(Raw(text.encode()), schema).decode()


class _Stripper:
    def __init__(self, root: Schema) -> None:
        self._root = root

    def strip(self, raw: Raw, schema: Schema) -> bytes:
        text = bytes(raw).strip()
        if text[:1] == b"{":
            node = self._branch(text, schema, "object")
            return b"{" + b",".join(self._members(text, node.get("properties", {}))) + b"}"
        if text[:1] == b"[":
            node = self._branch(text, schema, "array")
            items = msgspec.json.decode(text, type=list[Raw])
            return b"[" + b",".join(self.strip(item, node.get("items", {})) for item in items) + b"]"
        return text

    def _members(self, text: bytes, properties: dict[str, Schema]) -> Iterator[bytes]:
        for name, raw in msgspec.json.decode(text, type=dict[str, Raw]).items():
            schema = properties.get(name, {})
            if bytes(raw) == b"null" and any(branch is ABSENT for branch in schema.get("anyOf", ())):
                continue
            yield json.dumps(name, ensure_ascii=False).encode() + b":" + self.strip(raw, schema)

    def _branch(self, text: bytes, schema: Any, kind: str) -> Schema:
        """The part of a schema that describes this object or array; of several, the first that admits it."""
        fitting = list(self._branches(schema, kind))
        if len(fitting) < 2:
            return fitting[0] if fitting else {}
        value = json.loads(text)
        return next((node for node in fitting if self._admits(node, value)), {})

    def _branches(self, schema: Any, kind: str) -> Iterator[Schema]:
        if not isinstance(schema, dict):
            return
        if "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            yield from self._branches(self._root if schema["$ref"] == "#" else self._root["$defs"][name], kind)
        for branch in schema.get("anyOf", ()):
            yield from self._branches(branch, kind)
        if kind in schema.get("type", ()):
            yield schema

    def _admits(self, node: Schema, value: Any) -> bool:
        whole = {**node, "$defs": self._root.get("$defs", {})}
        return jsonschema_rs.validator_for(whole, offline=True).is_valid(value)
