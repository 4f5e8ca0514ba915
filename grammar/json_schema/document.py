"""A schema document: naming its places, and following its references.

`Document` turns sub-schemas into `Location`s: one object a place, so that a place reached by two references is the
same place. References are resolved as JSON Schema Core 2020-12 §8.2 and §9 say, within the document, the registry and
the metaschemas: JSON pointers (RFC 6901, percent-encoded in a fragment), anchors and embedded resources. Identifiers
are looked for only when a reference needs one.

Dynamic references (Core 2020-12 §8.2.3.2, 2019-09 §8.2.4.2) mean what the outermost resource on the way here means by
an anchor. That way is part of a location, reduced to what can matter of it: a `Scope`, which says what each dynamic
anchor means. A scope only ever gains names, so there are few of them, and one only where no dynamic anchor is declared.

    {"$id": "tree", "$dynamicAnchor": "node", ... "$dynamicRef": "#node"}      scope {}: node is tree's own
    {"$id": "strict-tree", "$dynamicAnchor": "node", "$ref": "tree"}           below here {node: strict-tree}, tree too
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import unquote, urldefrag, urljoin

from grammar.errors import ConstraintError, UnsupportedConstraint
from grammar.json_schema.decoding import children, escape
from grammar.json_schema.dialect import APPLICATORS, UNDECLARED, Dialect, Holds, by_uri, of_vocabularies
from grammar.json_schema.metaschemas import metaschema


@dataclass(slots=True, eq=False)
class Resource:
    """A schema with an identity of its own: the document, or a sub-schema with `$id`. Fragments are relative to it."""

    root: Location
    uri: str
    dialect: Dialect
    prefix: str = ""
    """Before pointers into a document of the registry: its URI and "#"."""
    anchors: dict[str, Location] = field(default_factory=dict[str, "Location"])
    dynamic: dict[str, Location] = field(default_factory=dict[str, "Location"])
    """Where its dynamic anchors stand; `$recursiveAnchor` is one without a name."""


@dataclass(slots=True, eq=False)
class Scope:
    """A dynamic scope: what each dynamic anchor means, and the locations that were reached so, by the identity of the
    value there (each dict and list of a decoded text is an object of its own)."""

    dynamic: Mapping[str, Location]
    locations: dict[int, Location] = field(default_factory=dict[int, "Location"])


@dataclass(slots=True, eq=False)
class Location:
    """A place in a schema document, and the dynamic scope in which it was reached; compared by identity. ``schema`` is
    the value there, of any JSON type."""

    schema: Any
    parent: Location | None
    steps: tuple[str, ...]
    """From the parent; the parent of `/properties/a` is the schema that has the properties."""
    resource: Resource
    scope: Scope

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
        self._static = Scope({})
        """That of no dynamic anchors, in which every place is found first."""
        self._scopes: dict[tuple[tuple[str, Location], ...], Scope] = {(): self._static}
        self._resources: dict[str, Resource] = {}
        self._pointed: dict[tuple[Resource, str], Location] = {}
        """By JSON pointers from a resource's root: most that are referred to are so more than once."""
        self._index_pending: list[Location] = []
        """Roots of documents whose identifiers were not looked for yet."""
        root = self._resource_at(schema, None, (), "", UNDECLARED).root
        self.root = self._within(root, self._static)

    def child(self, parent: Location, *steps: str) -> Location:
        """The location of a direct sub-schema ``steps`` below, which must exist."""
        value = parent.schema
        for step in steps:
            value = value[int(step)] if isinstance(value, list) else value[step]
        return self._within(self._locate(value, parent, steps), parent.scope)

    def resolve(self, place: Location, reference: str, keyword: str = "$ref") -> Location:
        """Where a reference at ``place``, the value of ``keyword``, points.

        ConstraintError if it points to nothing, UnsupportedConstraint if it leaves the documents at hand.
        """
        if reference.startswith("#"):
            resource, fragment = place.resource, reference[1:]
        else:
            uri, fragment = urldefrag(urljoin(place.resource.uri, reference))
            found = self._resource(uri, place)
            if found is None:
                reason = f"{keyword} {reference!r} points outside the documents at hand"
                raise UnsupportedConstraint(reason, f"{place.pointer}/{keyword}")
            resource = found
        fragment = unquote(fragment)
        if not fragment:
            target = resource.root
        elif fragment.startswith("/"):
            target = self._pointed.get((resource, fragment))
            if target is None:
                target = self._pointed[resource, fragment] = self._walk(
                    resource.root, fragment, place, keyword, reference
                )
        else:
            self._index()
            named = resource.anchors.get(fragment)
            if named is None:
                reason = f"{keyword} {reference!r} points to nothing: there is no such anchor"
                raise ConstraintError(reason, f"{place.pointer}/{keyword}")
            target = named
        if keyword != "$ref":
            target = self._outermost(target, fragment, place.scope)
        return self._within(target, place.scope)

    def _outermost(self, target: Location, fragment: str, scope: Scope) -> Location:
        """What a dynamic reference that names ``target`` means in a scope."""
        if target.resource.dynamic.get(fragment) is not target:
            return target
        return scope.dynamic.get(fragment, target)

    def _resource(self, uri: str, place: Location) -> Resource | None:
        """The resource of a URI that a reference at ``place`` names: of this document, of the registry, or a
        metaschema."""
        self._index()
        if uri not in self._resources:
            document = self._registry.get(uri, metaschema(uri))
            if document is None:
                return None
            self._resource_at(document, None, (), uri, place.resource.dialect, f"{uri}#")
            self._index()
        return self._resources[uri]

    def _walk(self, place: Location, fragment: str, by: Location, keyword: str, reference: str) -> Location:
        """The place that a JSON pointer leads to from another, by ``keyword`` of ``by``."""
        for raw in fragment[1:].split("/"):
            step = raw.replace("~1", "/").replace("~0", "~")
            value = place.schema
            within = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
            if isinstance(value, list):
                within = dict(children(value))
            if step not in within:
                reason = f"{keyword} {reference!r} points to nothing: no {step!r} in {place.pointer or '/'}"
                raise ConstraintError(reason, f"{by.pointer}/{keyword}")
            place = self._locate(within[step], place, (step,))
        return place

    def _within(self, place: Location, scope: Scope) -> Location:
        """A place, reached in a dynamic scope to which the resource it is in adds its own anchors."""
        if scope is self._static and not place.resource.dynamic:
            return place
        if not place.resource.dynamic.keys() <= scope.dynamic.keys():
            known = sorted({**place.resource.dynamic, **scope.dynamic}.items())
            scope = self._scopes.setdefault(tuple(known), Scope(dict(known)))
        found = scope.locations.get(id(place.schema))
        if found is None:
            found = Location(place.schema, place.parent, place.steps, place.resource, scope)
            self._remember(found)
        return found

    def _locate(self, value: Any, parent: Location, steps: tuple[str, ...]) -> Location:
        """The place of a value below another, in the static scope."""
        found = self._static.locations.get(id(value))
        if found is not None:
            return found
        if isinstance(value, dict):
            schema = cast("dict[str, Any]", value)
            dialect = parent.resource.dialect
            identifier = schema.get(dialect.id_keyword)
            if isinstance(identifier, str) and not (dialect.ref_hides_siblings and "$ref" in schema):
                uri = urldefrag(identifier)[0]
                if uri:
                    return self._resource_at(schema, parent, steps, urljoin(parent.resource.uri, uri), dialect).root
        location = Location(value, parent, steps, parent.resource, self._static)
        self._remember(location)
        return location

    @staticmethod
    def _remember(place: Location) -> None:
        if isinstance(place.schema, dict | list):
            place.scope.locations[id(cast("object", place.schema))] = place

    def _resource_at(
        self, schema: Any, parent: Location | None, steps: tuple[str, ...], uri: str, dialect: Dialect, prefix: str = ""
    ) -> Resource:
        """Make the resource whose root stands at ``steps`` below ``parent``, in the draft it declares or else
        inherits."""
        resource = Resource(cast("Location", None), uri, dialect, prefix)
        resource.root = root = Location(schema, parent, steps, resource, self._static)
        if isinstance(schema, dict):
            members = cast("dict[str, Any]", schema)
            if "$schema" in members:
                resource.dialect = self._declared(members["$schema"], root)
            identifier = members.get(resource.dialect.id_keyword)
            if parent is None and isinstance(identifier, str):
                resource.uri = urldefrag(urljoin(uri, identifier))[0]
        self._remember(root)
        for name in (uri, resource.uri):
            self._resources.setdefault(name, resource)
        if parent is None:
            self._index_pending.append(root)
            if _declares_dynamic_anchors(schema):
                self._index()
        return resource

    def _declared(self, uri: Any, place: Location) -> Dialect:
        """The dialect that a `$schema` names: a draft, or vocabularies of one by a metaschema of the registry."""
        pointer = f"{place.pointer}/$schema"
        named, met = uri, list[str]()
        while isinstance(named, str):
            dialect = by_uri(named)
            if dialect is not None:
                return dialect if not met else of_vocabularies(self._registry[met[0]], dialect, pointer)
            met.append(urldefrag(named)[0])
            document = self._registry.get(met[-1])
            if not isinstance(document, dict) or met[-1] in met[:-1]:
                break
            named = cast("dict[str, Any]", document).get("$schema")
        raise UnsupportedConstraint(f"$schema {uri!r} is not a draft that Sluice knows", pointer)

    def _index(self) -> None:
        """Visit every sub-schema, so that identifiers and anchors are known."""
        pending = self._index_pending
        while pending:
            place = pending.pop()
            if not isinstance(place.schema, dict):
                continue
            schema = cast("dict[str, Any]", place.schema)
            resource, dialect = place.resource, place.resource.dialect
            names: list[Any] = [schema.get(keyword) for keyword in dialect.anchor_keywords]
            identifier = schema.get(dialect.id_keyword)
            if dialect.fragment_ids and isinstance(identifier, str):
                names.append(urldefrag(identifier)[1])
            for name in names:
                if isinstance(name, str) and name:
                    resource.anchors.setdefault(name, place)
            if "$dynamicRef" in dialect.keywords and isinstance(schema.get("$dynamicAnchor"), str):
                resource.dynamic.setdefault(schema["$dynamicAnchor"], place)
            if (
                "$recursiveRef" in dialect.keywords
                and place is resource.root
                and schema.get("$recursiveAnchor") is True
            ):
                resource.dynamic[""] = place
            for keyword, value in schema.items():
                if keyword in APPLICATORS:
                    pending += (
                        self._locate(_at(value, steps), place, (keyword, *steps))
                        for steps in _places(APPLICATORS[keyword], value)
                    )


def _declares_dynamic_anchors(schema: Any) -> bool:
    stack = [schema]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            if "$dynamicAnchor" in value or "$recursiveAnchor" in value:
                return True
            value = cast("dict[str, Any]", value).values()
        elif not isinstance(value, list):
            continue
        stack += [below for below in cast("Iterable[Any]", value) if isinstance(below, dict | list)]
    return False


def _at(value: Any, steps: tuple[str, ...]) -> Any:
    for step in steps:
        value = value[int(step)] if isinstance(value, list) else value[step]
    return value


def _places(holds: Holds, value: Any) -> Sequence[tuple[str, ...]]:
    """Steps below an applicator's value at which schemas stand."""
    if holds is Holds.SCHEMA or (holds is Holds.SCHEMA_OR_SCHEMAS and not isinstance(value, list)):
        return [()]
    return [(step,) for step, _ in children(value)]
