"""Drafts of JSON Schema: which keywords each knows, and where sub-schemas stand.

    $schema                 draft       id       $ref                   items            exclusiveMinimum
    .../draft-04/schema     DRAFT4      id       hides its siblings     schema or list   boolean beside minimum
    .../draft-06, -07       DRAFT6, 7   $id      hides its siblings     schema or list   number
    .../draft/2019-09       DRAFT2019   $id      one keyword of many    schema or list   number
    .../draft/2020-12       DRAFT2020   $id      one keyword of many    schema           number
    none                    UNDECLARED  $id      one keyword of many    schema or list   either

Without `$schema` a document is read as 2020-12, and what 2020-12 calls malformed or has dropped is read as the draft
that had it: list-form items with additionalItems, boolean exclusive bounds, dependencies. Other documents mean what
their draft says: a keyword the draft does not know is an annotation. Any other `$schema` must be a metaschema of the
caller's registry, and then the `$vocabulary` of that says which keywords of the draft are in force (Core §8.1.2); else
it is refused, since it may name a vocabulary that changes what keywords mean.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Any, cast

from grammar.errors import UnsupportedConstraint


class Holds(Enum):
    """What the value of an applicator is."""

    SCHEMA = auto()
    SCHEMAS = auto()
    """A list of schemas."""
    MAP = auto()
    """An object whose values are schemas (or, under `dependencies`, lists of names)."""
    SCHEMA_OR_SCHEMAS = auto()


APPLICATORS: dict[str, Holds] = {
    "additionalItems": Holds.SCHEMA,
    "additionalProperties": Holds.SCHEMA,
    "contains": Holds.SCHEMA,
    "else": Holds.SCHEMA,
    "if": Holds.SCHEMA,
    "not": Holds.SCHEMA,
    "propertyNames": Holds.SCHEMA,
    "then": Holds.SCHEMA,
    "unevaluatedItems": Holds.SCHEMA,
    "unevaluatedProperties": Holds.SCHEMA,
    "allOf": Holds.SCHEMAS,
    "anyOf": Holds.SCHEMAS,
    "oneOf": Holds.SCHEMAS,
    "prefixItems": Holds.SCHEMAS,
    "$defs": Holds.MAP,
    "definitions": Holds.MAP,
    "dependencies": Holds.MAP,
    "dependentSchemas": Holds.MAP,
    "patternProperties": Holds.MAP,
    "properties": Holds.MAP,
    "items": Holds.SCHEMA_OR_SCHEMAS,
}
"""Where sub-schemas stand, in any draft: the places that are searched for identifiers and anchors."""

REFERENCES = frozenset(("$ref", "$dynamicRef", "$recursiveRef"))
"""Applicators of a schema that stands elsewhere."""

_DRAFT4 = frozenset(
    "$ref type enum allOf anyOf oneOf not properties required additionalProperties patternProperties minProperties "
    "maxProperties dependencies items additionalItems minItems maxItems uniqueItems minLength maxLength pattern "
    "minimum maximum exclusiveMinimum exclusiveMaximum multipleOf format".split()
)
_DRAFT6 = _DRAFT4 | {"const", "contains", "propertyNames"}
_DRAFT7 = _DRAFT6 | {"if"}
_DRAFT2019 = (_DRAFT7 - {"dependencies"}) | {
    "$recursiveRef",
    "dependentRequired",
    "dependentSchemas",
    "maxContains",
    "minContains",
    "unevaluatedItems",
    "unevaluatedProperties",
}
_DRAFT2020 = (_DRAFT2019 - {"$recursiveRef", "additionalItems"}) | {"$dynamicRef", "prefixItems"}


@dataclass(frozen=True, slots=True)
class Dialect:
    """How the keywords of one draft are read."""

    name: str
    keywords: frozenset[str]
    """Those that can make a value invalid; every other is an annotation, or a part of one of these."""
    id_keyword: str = "$id"
    ref_hides_siblings: bool = False
    anchor_keywords: tuple[str, ...] = ()
    fragment_ids: bool = False
    """``"$id": "#name"`` declares an anchor."""
    item_lists: bool = True
    boolean_exclusive: bool = False
    numeric_exclusive: bool = True
    plain_integers: bool = False
    """1.0 is no integer."""
    ignored: frozenset[str] = frozenset()
    """Keywords of the draft that are not in force."""
    asserts_formats: bool = False
    """Whatever the caller asks for."""
    contains_evaluates: bool = True
    """`unevaluatedItems` passes over the items that satisfy a `contains` beside it."""


_ANCHORS = ("$anchor", "$dynamicAnchor")
DRAFT4 = Dialect(
    "draft 4",
    _DRAFT4,
    "id",
    True,
    fragment_ids=True,
    boolean_exclusive=True,
    numeric_exclusive=False,
    plain_integers=True,
)
DRAFT6 = Dialect("draft 6", _DRAFT6, ref_hides_siblings=True, fragment_ids=True)
DRAFT7 = Dialect("draft 7", _DRAFT7, ref_hides_siblings=True, fragment_ids=True)
DRAFT2019 = Dialect("draft 2019-09", _DRAFT2019, anchor_keywords=("$anchor",), contains_evaluates=False)
DRAFT2020 = Dialect("draft 2020-12", _DRAFT2020, anchor_keywords=_ANCHORS, item_lists=False)
UNDECLARED = Dialect(
    "draft 2020-12",
    _DRAFT2020 | _DRAFT2019 | {"dependencies"},
    anchor_keywords=_ANCHORS,
    fragment_ids=True,
    boolean_exclusive=True,
)

BY_URI: dict[str, Dialect] = {
    "json-schema.org/schema": UNDECLARED,
    "json-schema.org/draft-04/schema": DRAFT4,
    "json-schema.org/draft-06/schema": DRAFT6,
    "json-schema.org/draft-07/schema": DRAFT7,
    "json-schema.org/draft/2019-09/schema": DRAFT2019,
    "json-schema.org/draft/2020-12/schema": DRAFT2020,
}
"""Dialects by `$schema` without scheme and empty fragment; people write both http and https."""


def by_uri(uri: str) -> Dialect | None:
    """The dialect that a `$schema` names, or None."""
    return BY_URI.get(uri.strip().removesuffix("#").removeprefix("https://").removeprefix("http://"))


_UNEVALUATED = frozenset(("unevaluatedItems", "unevaluatedProperties"))
_VALIDATION = frozenset(
    "type enum const required minProperties maxProperties dependentRequired minItems maxItems uniqueItems minContains "
    "maxContains minLength maxLength pattern minimum maximum exclusiveMinimum exclusiveMaximum multipleOf".split()
)
_APPLICATOR = _DRAFT2019 - _VALIDATION - REFERENCES - {"format"} | {"prefixItems", "then", "else"}
_2019, _2020 = "https://json-schema.org/draft/2019-09/vocab/", "https://json-schema.org/draft/2020-12/vocab/"
_NOTHING: frozenset[str] = frozenset()
VOCABULARIES: dict[str, frozenset[str]] = {
    **{draft + name: _NOTHING for draft in (_2019, _2020) for name in ("core", "meta-data", "content")},
    **{draft + "validation": _VALIDATION for draft in (_2019, _2020)},
    _2019 + "applicator": _APPLICATOR,
    _2019 + "format": frozenset(("format",)),
    _2020 + "applicator": _APPLICATOR - _UNEVALUATED,
    _2020 + "unevaluated": _UNEVALUATED,
    _2020 + "format-annotation": frozenset(("format",)),
    _2020 + "format-assertion": frozenset(("format",)),
}
"""The keywords that each vocabulary brings; those of the core are always in force."""


def of_vocabularies(metaschema: Any, draft: Dialect, pointer: str) -> Dialect:
    """The dialect of a metaschema that is itself written in ``draft``. UnsupportedConstraint at ``pointer`` if it
    requires a vocabulary that is not known."""
    wanted = cast("dict[str, Any]", metaschema).get("$vocabulary")
    if not isinstance(wanted, dict):
        return draft
    vocabularies = cast("dict[str, bool]", wanted)
    unknown = [uri for uri, required in vocabularies.items() if required and uri not in VOCABULARIES]
    if unknown:
        raise UnsupportedConstraint(f"the vocabulary {unknown[0]!r} is required and not known", pointer)
    known = {uri for uri in vocabularies if uri in VOCABULARIES}
    in_force = REFERENCES.union(*(VOCABULARIES[uri] for uri in known))
    return replace(
        draft,
        keywords=draft.keywords & in_force,
        ignored=(_VALIDATION | _APPLICATOR | {"format"}) - in_force,
        asserts_formats=_2020 + "format-assertion" in known,
    )
