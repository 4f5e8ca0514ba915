"""A schema document: decoding it without loss, naming its places, and following its references.

`load` decodes JSON text with exact numbers and refuses duplicate keys, whose meaning RFC 8259 §4 leaves open.
`Document` turns sub-schemas into `Location`s: one object a place, so that a place reached by two references is the
same place. References are resolved as JSON Schema Core 2020-12 §8.2 and §9 say, within the document: JSON pointers
(RFC 6901, percent-encoded in a fragment), anchors and embedded resources. Identifiers are looked for only when a
reference needs one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NoReturn, cast
from urllib.parse import unquote, urldefrag, urljoin

from grammar.errors import ConstraintError, ConstraintTooLarge, UnsupportedConstraint
from grammar.json_schema.dialect import APPLICATORS, UNDECLARED, Dialect, Holds, by_uri

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def load(text: str | bytes) -> Any:
    """Decode a schema's JSON text: objects keep their order, numbers with fraction or exponent become `Decimal`.

    ConstraintError names line and column of a syntax error, or the JSON pointer of an object with a duplicate key.
    """
    repeated: list[tuple[dict[str, Any], str]] = []

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            repeated.append((found, next(name for i, name in enumerate(names) if name in names[:i])))
        return found

    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        schema = json.loads(text, parse_float=_decimal, parse_constant=_refuse_constant, object_pairs_hook=members)
    except json.JSONDecodeError as error:
        raise ConstraintError(f"the schema is not JSON: {error.msg}", f"{error.lineno}:{error.colno}") from error
    except UnicodeDecodeError as error:
        raise ConstraintError(f"the schema is not UTF-8: {error.reason} at byte {error.start}") from error
    except RecursionError as error:
        raise ConstraintTooLarge("the schema is nested too deeply to be decoded") from error
    if repeated:
        broken, name = repeated[0]
        raise ConstraintError(f"the key {name!r} occurs twice in one object", _find(schema, broken))
    if r"\ud" in text or r"\uD" in text:
        _refuse_lone_surrogates(schema)
    return schema


def _decimal(text: str) -> Decimal:
    exponent = text.lower().partition("e")[2]
    if len(exponent) > 6 or len(text) > 4300:
        raise ConstraintError(f"the number {text[:40]}... is out of every range")
    return Decimal(text)


def _refuse_constant(name: str) -> NoReturn:
    raise ConstraintError(f"{name} is not JSON")


def _refuse_lone_surrogates(schema: Any) -> None:
    stack: list[tuple[Any, str]] = [(schema, "")]
    while stack:
        value, pointer = stack.pop()
        if isinstance(value, str) and _LONE_SURROGATE.search(value):
            raise ConstraintError("a string holds half of a surrogate pair, which UTF-8 cannot spell", pointer)
        for step, child in _children(value):
            stack += ((step, pointer), (child, f"{pointer}/{escape(step)}"))


def _find(schema: Any, wanted: object) -> str:
    stack: list[tuple[Any, str]] = [(schema, "")]
    while stack:
        value, pointer = stack.pop()
        if value is wanted:
            return pointer
        stack += ((child, f"{pointer}/{escape(step)}") for step, child in _children(value))
    return ""  # the object was itself overwritten by a later duplicate


def _children(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return list(cast("dict[str, Any]", value).items())
    if isinstance(value, list):
        return [(str(i), child) for i, child in enumerate(cast("list[Any]", value))]
    return []


def escape(step: str) -> str:
    """One step of a JSON pointer (RFC 6901 §3)."""
    return step.replace("~", "~0").replace("/", "~1")


@dataclass(slots=True, eq=False)
class Resource:
    """A schema with an identity of its own: the document, or a sub-schema with `$id`. Fragments are relative to it."""

    root: Location
    uri: str
    dialect: Dialect
    prefix: str = ""
    """Before pointers into a document of the registry: its URI and "#"."""


@dataclass(slots=True, eq=False)
class Location:
    """A place in a schema document, compared by identity. ``schema`` is the value there, of any JSON type."""

    schema: Any
    parent: Location | None
    steps: tuple[str, ...]
    """From the parent; the parent of `/properties/a` is the schema that has the properties."""
    resource: Resource

    @property
    def pointer(self) -> str:
        """Its JSON pointer from the document's root, "" for the root; in another document a URI with the pointer as
        fragment."""
        steps: list[str] = []
        place = self
        while place.parent is not None:
            steps += reversed(place.steps)
            place = place.parent
        return place.resource.prefix + "".join("/" + escape(step) for step in reversed(steps))


class Document:
    """A decoded schema and its locations. Neither it nor ``registry``, the documents that references may name by URI,
    must change while the document lives."""

    def __init__(self, schema: Any, registry: Mapping[str, Any] | None = None) -> None:
        self._registry = {urldefrag(uri)[0]: other for uri, other in (registry or {}).items()}
        self._locations: dict[int, Location] = {}
        """By identity of the value there: each dict and list of a decoded text is an object of its own."""
        self._resources: dict[str, Resource] = {}
        self._anchors: dict[tuple[str, str], Location] = {}
        self._index_pending: list[Location] = []
        """Roots of documents whose identifiers were not looked for yet."""
        self.root = self._resource_at(schema, None, (), "", UNDECLARED).root

    def child(self, parent: Location, *steps: str) -> Location:
        """The location of a direct sub-schema ``steps`` below, which must exist."""
        value = parent.schema
        for step in steps:
            value = value[int(step)] if isinstance(value, list) else value[step]
        found = self._locations.get(id(value))
        return self._locate(value, parent, steps) if found is None else found

    def resolve(self, place: Location, reference: str) -> Location:
        """Where a `$ref` at ``place`` points.

        ConstraintError if it points to nothing, UnsupportedConstraint if it leaves the document.
        """
        pointer = f"{place.pointer}/$ref"
        if reference.startswith("#"):
            resource, fragment = place.resource, reference[1:]
        else:
            self._index()
            uri, fragment = urldefrag(urljoin(place.resource.uri, reference))
            if uri not in self._resources and uri in self._registry:
                self._resource_at(self._registry[uri], None, (), uri, place.resource.dialect, f"{uri}#")
                self._index()
            if uri not in self._resources:
                raise UnsupportedConstraint(f"$ref {reference!r} points outside the documents at hand", pointer)
            resource = self._resources[uri]
        fragment = unquote(fragment)
        if not fragment:
            return resource.root
        if fragment.startswith("/"):
            return self._walk(resource.root, fragment, reference, pointer)
        self._index()
        target = self._anchors.get((resource.uri, fragment))
        if target is None:
            raise ConstraintError(f"$ref {reference!r} points to nothing: there is no such anchor", pointer)
        return target

    def _walk(self, place: Location, fragment: str, reference: str, pointer: str) -> Location:
        for raw in fragment[1:].split("/"):
            step = raw.replace("~1", "/").replace("~0", "~")
            value = place.schema
            within = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
            if isinstance(value, list):
                within = dict(_children(value))
            if step not in within:
                raise ConstraintError(
                    f"$ref {reference!r} points to nothing: no {step!r} in {place.pointer or '/'}", pointer
                )
            place = self.child(place, step)
        return place

    def _locate(self, value: Any, parent: Location, steps: tuple[str, ...]) -> Location:
        if isinstance(value, dict):
            schema = cast("dict[str, Any]", value)
            dialect = parent.resource.dialect
            identifier = schema.get(dialect.id_keyword)
            if isinstance(identifier, str) and not (dialect.ref_hides_siblings and "$ref" in schema):
                uri = urldefrag(identifier)[0]
                if uri:
                    return self._resource_at(schema, parent, steps, urljoin(parent.resource.uri, uri), dialect).root
        location = Location(value, parent, steps, parent.resource)
        if isinstance(value, dict | list):
            self._locations[id(cast("object", value))] = location
        return location

    def _resource_at(
        self, schema: Any, parent: Location | None, steps: tuple[str, ...], uri: str, dialect: Dialect, prefix: str = ""
    ) -> Resource:
        """Make the resource whose root stands at ``steps`` below ``parent``, in the draft it declares or else
        inherits."""
        resource = Resource(cast("Location", None), uri, dialect, prefix)
        resource.root = root = Location(schema, parent, steps, resource)
        if isinstance(schema, dict):
            members = cast("dict[str, Any]", schema)
            if "$schema" in members:
                resource.dialect = _declared(members["$schema"], root)
            identifier = members.get(resource.dialect.id_keyword)
            if parent is None and isinstance(identifier, str):
                resource.uri = urldefrag(urljoin(uri, identifier))[0]
        self._locations[id(schema)] = root
        for name in (uri, resource.uri):
            self._resources.setdefault(name, resource)
        if parent is None:
            self._index_pending.append(root)
        return resource

    def _index(self) -> None:
        """Visit every sub-schema, so that identifiers are known; note anchors."""
        pending = self._index_pending
        while pending:
            place = pending.pop()
            if not isinstance(place.schema, dict):
                continue
            schema = cast("dict[str, Any]", place.schema)
            dialect = place.resource.dialect
            names: list[Any] = [schema.get(keyword) for keyword in dialect.anchor_keywords]
            identifier = schema.get(dialect.id_keyword)
            if dialect.fragment_ids and isinstance(identifier, str):
                names.append(urldefrag(identifier)[1])
            for name in names:
                if isinstance(name, str) and name:
                    self._anchors.setdefault((place.resource.uri, name), place)
            for keyword, value in schema.items():
                if keyword in APPLICATORS:
                    pending += (self.child(place, keyword, *steps) for steps in _places(APPLICATORS[keyword], value))


def _places(holds: Holds, value: Any) -> Sequence[tuple[str, ...]]:
    """Steps below an applicator's value at which schemas stand."""
    if holds is Holds.SCHEMA or (holds is Holds.SCHEMA_OR_SCHEMAS and not isinstance(value, list)):
        return [()]
    return [(step,) for step, _ in _children(value)]


def _declared(uri: Any, place: Location) -> Dialect:
    dialect = by_uri(uri) if isinstance(uri, str) else None
    if dialect is None:
        raise UnsupportedConstraint(f"$schema {uri!r} is not a draft that Sluice knows", f"{place.pointer}/$schema")
    return dialect
