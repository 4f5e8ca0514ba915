"""A JSON Schema as an API can enforce it.

What is sent may only be narrower than the original, or weaker; never something else. Narrower (an open object closed)
costs answers that nobody misses. Weaker (a keyword left out, and told to the model in the description instead) is
what the validation against the original is for, and then the translation is not `whole`. Where the shape itself cannot
be said (a map in an API that closes every object), there is no translation.

    optional property, all required      anyOf [it, null], where it is never null; such nulls are taken out (absence)
    root that is no object               {"value": it}, and taken out again
    oneOf                                anyOf: whole where the branches cannot overlap
    allOf                                merged where its branches speak of different things
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

from schemas.providers import Capabilities

VALUE = "value"
"""The member that holds an answer whose schema admits more than objects."""

MAX_TOLD = 400
"""Characters of what a description says about keywords that the API does not take."""

Schema = dict[str, Any]

_HARMLESS = frozenset({"$schema", "$comment", "default", "examples", "deprecated", "readOnly", "writeOnly", "title"})
_WEAKENING = frozenset(
    "minLength maxLength pattern format minimum maximum exclusiveMinimum exclusiveMaximum multipleOf minItems maxItems"
    " uniqueItems contains minContains maxContains minProperties maxProperties propertyNames dependentRequired"
    " dependentSchemas dependencies not if then else unevaluatedProperties unevaluatedItems".split()
)
"""Keywords without which a schema admits more, and nothing else changes."""

_SHAPING = frozenset({"properties", "required", "additionalProperties", "items", "prefixItems", "enum", "const"})
_UNTOLD = frozenset({"$id", "id", "$anchor", "$dynamicRef", "$recursiveRef", "$dynamicAnchor", "$vocabulary"})

ABSENT: Schema = {"type": "null"}
"""The branch of an anyOf that stands for a property that is absent; it is known by its identity."""


@dataclass(frozen=True, slots=True)
class Translation:
    """``whole``: whatever the API lets through is valid under the original. ``wrapped``: it comes as the member `VALUE`
    of an object. ``nulls``: properties that may be absent may come as null."""

    schema: Schema
    whole: bool = True
    wrapped: bool = False
    nulls: bool = False


class _Untranslatable(Exception):
    pass


def translate(original: Any, can: Capabilities) -> Translation | None:
    """``original``: a decoded schema, known to be one. None where the API has no words for it."""
    if can.keywords is None:
        return Translation(original) if isinstance(original, dict) else None
    try:
        return _Translator(original, can).translate()
    except (_Untranslatable, RecursionError):
        return None


class _Translator:
    def __init__(self, original: Any, can: Capabilities) -> None:
        self._can = can
        self._keywords = frozenset(can.keywords or ())
        self._root = original
        self._sources: Schema = {}
        self._defs: Schema = {}
        self._open: set[str] = set()
        self._whole = True
        self._nulls = False
        self._unions = self._optional = self._properties = self._values = self._characters = 0

    def translate(self) -> Translation:
        if not isinstance(self._root, dict):
            raise _Untranslatable
        root = cast(Schema, self._root)
        for place in ("definitions", "$defs"):
            self._sources.update(root.get(place, {}))
        top = {key: value for key, value in root.items() if key not in ("$defs", "definitions", "$id", "id")}
        if set(top) - _HARMLESS - {"description"} == {"$ref"} and top["$ref"] != "#":
            target = self._source(top["$ref"])
            if not isinstance(target, dict):
                raise _Untranslatable
            top = {**cast(Schema, target), **{key: value for key, value in top.items() if key != "$ref"}}
        wrapped = self._can.root_object and (top.get("type") != "object" or "anyOf" in top or "oneOf" in top)
        self._wrapped = wrapped
        schema = self._node(top, 1)
        if wrapped:
            schema = {"type": "object", "properties": {VALUE: schema}, "required": [VALUE]}
            schema["additionalProperties"] = False
        if self._defs:
            schema["$defs"] = self._defs
        self._check_limits()
        return Translation(schema, self._whole, wrapped, self._nulls)

    def _check_limits(self) -> None:
        can = self._can
        counted = [
            (self._properties, can.max_properties),
            (self._values, can.max_enum_values),
            (self._characters, can.max_characters),
            (self._optional, can.max_optional),
            (self._unions, can.max_unions),
        ]
        if any(limit and count > limit for count, limit in counted):
            raise _Untranslatable

    def _node(self, schema: Any, depth: int) -> Schema:
        if schema is True and not self._can.typed:
            return {}
        if not isinstance(schema, dict):
            raise _Untranslatable
        if self._can.max_depth and depth > self._can.max_depth:
            raise _Untranslatable
        node = self._merged(cast(Schema, schema))
        if set(node) & _UNTOLD or "patternProperties" in node:
            raise _Untranslatable
        if "$ref" in node:
            return self._reference(node)
        out: Schema = {}
        if "anyOf" in node or "oneOf" in node:
            self._union(node, out, depth)
        else:
            self._typed(node, out)
            self._values_of(node, out)
            if "object" in _types(out):
                self._object(node, out, depth)
            if "array" in _types(out):
                self._array(node, out, depth)
        self._assertions(node, out)
        return out

    def _merged(self, schema: Schema) -> Schema:
        """Without ``allOf``. A branch may speak of other keywords than its siblings, or of other properties."""
        if "allOf" not in schema:
            return schema
        merged = {key: value for key, value in schema.items() if key != "allOf"}
        for branch in schema["allOf"]:
            if not isinstance(branch, dict):
                raise _Untranslatable
            for key, value in self._merged(cast(Schema, branch)).items():
                if key not in merged:
                    merged[key] = value
                elif key == "required":
                    merged[key] = list(dict.fromkeys([*merged[key], *value]))
                elif key == "properties" and not set(merged[key]) & set(value):
                    merged[key] = {**merged[key], **value}
                elif merged[key] != value and key not in _HARMLESS and key != "description":
                    raise _Untranslatable
        if "$ref" in merged and set(merged) - _HARMLESS - {"$ref", "description"}:
            raise _Untranslatable
        closing = [part for part in (schema, *schema["allOf"]) if part.get("additionalProperties", True) is not True]
        if closing and len([part for part in (schema, *schema["allOf"]) if "properties" in part]) > 1:
            raise _Untranslatable  # each part closes what it knows: together they admit less than their merger
        return merged

    def _reference(self, node: Schema) -> Schema:
        target = node["$ref"]
        if set(node) - _HARMLESS - {"$ref", "description"}:
            self._whole = False
        if target == "#":
            if self._wrapped or not self._can.recursion:
                raise _Untranslatable
            return {"$ref": "#"}
        source, name = self._source(target), target.rpartition("/")[2]
        if name in self._open and not self._can.recursion:
            raise _Untranslatable
        if name not in self._defs:
            self._defs[name] = {}
            self._open.add(name)
            self._defs[name] = self._node(source, 1)
            self._open.discard(name)
        return {"$ref": f"#/$defs/{name}"}

    def _source(self, target: str) -> Any:
        place, _, name = target.rpartition("/")
        if place not in ("#/$defs", "#/definitions") or name not in self._sources or "~" in name or "%" in name:
            raise _Untranslatable
        return self._sources[name]

    def _union(self, node: Schema, out: Schema, depth: int) -> None:
        if set(node) & _SHAPING or ("anyOf" in node and "oneOf" in node):
            raise _Untranslatable
        branches = node.get("anyOf") or node["oneOf"]
        if "type" in node or ("oneOf" in node and not _disjoint(branches)):
            self._whole = False
        self._unions += 1
        out["anyOf"] = [self._node(branch, depth) for branch in branches]

    def _typed(self, node: Schema, out: Schema) -> None:
        if "type" in node:
            out["type"] = node["type"]
            self._unions += isinstance(node["type"], list)
        elif set(node) & {"properties", "required", "additionalProperties"}:
            out["type"] = "object"
        elif set(node) & {"items", "prefixItems"}:
            out["type"] = "array"
        elif self._can.typed and not set(node) & {"enum", "const"}:
            raise _Untranslatable

    def _values_of(self, node: Schema, out: Schema) -> None:
        if "const" in node and "enum" in node:
            raise _Untranslatable
        if "const" in node and "const" in self._keywords:
            out["const"] = node["const"]
        elif "const" in node or "enum" in node:
            out["enum"] = node.get("enum", [node.get("const")])
        values = [node["const"]] if "const" in node else node.get("enum", [])
        texts = [value for value in values if isinstance(value, str)]
        if any(isinstance(value, dict | list) for value in values):
            raise _Untranslatable
        self._whole &= self._can.exact_enums or not texts
        self._values += len(values)
        self._characters += sum(map(len, texts))

    def _object(self, node: Schema, out: Schema, depth: int) -> None:
        properties: Schema = node.get("properties", {})
        extra = node.get("additionalProperties", True)
        required: list[str] = list(node.get("required", []))
        if not set(required) <= set(properties):
            raise _Untranslatable
        if self._can.closed and (isinstance(extra, dict) or (extra is True and not properties)):
            raise _Untranslatable
        out["properties"] = {}
        for name, schema in properties.items():
            if schema is False and name not in required:
                if not self._can.closed and extra is not False:
                    raise _Untranslatable
                continue
            must = name in required
            out["properties"][name] = self._property(schema, must, depth)
            self._optional += not must
        self._properties += len(properties)
        self._characters += sum(map(len, properties))
        out["required"] = list(out["properties"]) if self._can.all_required else required
        if self._can.closed:
            out["additionalProperties"] = False
        elif isinstance(extra, dict):
            out["additionalProperties"] = self._node(extra, depth + 1)
        elif "additionalProperties" in node:
            out["additionalProperties"] = extra

    def _property(self, schema: Any, must: bool, depth: int) -> Schema:
        node = self._node(schema, depth + 1)
        if must or not self._can.all_required or self._admits_null(schema, 0):
            return node
        self._nulls = True
        self._unions += 1
        return {"anyOf": [node, ABSENT]}

    def _admits_null(self, schema: Any, steps: int) -> bool:
        """As far as its words go. Wrong either way, it costs a stricter or a looser translation, no invalid answer."""
        if not isinstance(schema, dict) or steps > 100:
            return False
        node = cast(Schema, schema)
        if "$ref" in node and node["$ref"] != "#":
            return self._admits_null(self._source(node["$ref"]), steps + 1)
        if "enum" in node or "const" in node:
            return None in node.get("enum", [node.get("const", "")])
        if "type" in node:
            return "null" in _types(node)
        branches = node.get("anyOf", node.get("oneOf", []))
        return any(self._admits_null(branch, steps + 1) for branch in branches)

    def _array(self, node: Schema, out: Schema, depth: int) -> None:
        if "prefixItems" in node:
            if "prefixItems" not in self._keywords:
                raise _Untranslatable
            out["prefixItems"] = [self._node(item, depth + 1) for item in node["prefixItems"]]
        if "items" in node:
            if isinstance(node["items"], bool) and "prefixItems" in out:
                out["items"] = node["items"]
            else:
                out["items"] = self._node(node["items"], depth + 1)
        elif self._can.typed:
            raise _Untranslatable

    def _assertions(self, node: Schema, out: Schema) -> None:
        """Keywords that are sent on, and those that the description tells."""
        told: Schema = {}
        for key, value in node.items():
            if key not in _WEAKENING:
                continue
            if self._takes(key, value):
                out[key] = value
                continue
            if key == "minItems" and "minItems" in self._keywords:
                out[key] = 1
            told[key] = value
            self._whole = False
        texts = [node["description"]] if isinstance(node.get("description"), str) else []
        if told and len(said := json.dumps(told, ensure_ascii=False)) <= MAX_TOLD:
            texts.append(f"Must also hold, as JSON Schema: {said}")
        if texts:
            out["description"] = " ".join(texts)

    def _takes(self, key: str, value: Any) -> bool:
        if key not in self._keywords or isinstance(value, bool):
            return False
        if key == "format":
            return self._can.formats is None or value in self._can.formats
        return key != "minItems" or not self._can.small_min_items or value <= 1


def _types(node: Schema) -> list[str]:
    kinds = node.get("type", [])
    return [kinds] if isinstance(kinds, str) else kinds


def _disjoint(branches: list[Any]) -> bool:
    """Whether no value is of two branches, by their types or by a property that they all require and set apart."""
    seen: set[str] = set()
    kinds = [_types(branch) if isinstance(branch, dict) else [] for branch in branches]
    for types in kinds:
        widened = {"number" if kind == "integer" else kind for kind in types}
        if not types or widened & seen:
            break
        seen |= widened
    else:
        return True
    return any(len(set(tags)) == len(branches) for tags in _tags(branches))


def _tags(branches: list[Any]) -> Iterator[list[str]]:
    """For each property that all branches require and fix: its values, as JSON."""
    if not all(isinstance(branch, dict) and branch.get("type") == "object" for branch in branches):
        return
    for name in branches[0].get("required", []):
        fixed = [branch.get("properties", {}).get(name) for branch in branches]
        if all(isinstance(schema, dict) and "const" in schema for schema in fixed) and all(
            name in branch.get("required", []) for branch in branches
        ):
            yield [json.dumps(schema["const"], sort_keys=True) for schema in fixed]
