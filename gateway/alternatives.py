"""The values that a place of a request may have, where its type lists them: literals, and the tags that tell Structs of
a union apart. msgspec's messages name the value that was sent, and not those that would do."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Any

from msgspec import inspect

_type_info = functools.cache(inspect.type_info)
_STEP = re.compile(r"\[[^]]*\]|[^.\[]+")


def alternatives(kind: Any, path: str) -> list[str]:
    """Sorted; none where the type lists none. ``kind``: what the whole is decoded as, if that is known. ``path``: as
    msgspec writes it, without its ``$``."""
    infos = [] if kind is None else [_type_info(kind)]
    for step in _STEP.findall(path):
        infos = [below for info in infos for one in _members(info) for below in _below(one, step)]
    return sorted({value for info in infos for one in _members(info) for value in _listed(one)})


def _members(info: inspect.Type) -> Iterator[inspect.Type]:
    """``info`` without what stands around it, and each of a union."""
    match info:
        case inspect.Metadata(type=inner):
            yield from _members(inner)
        case inspect.UnionType(types=types):
            for one in types:
                yield from _members(one)
        case _:
            yield info


def _below(info: inspect.Type, step: str) -> Iterator[inspect.Type]:
    match info:
        case inspect.ListType(item_type=inner) | inspect.VarTupleType(item_type=inner) if step.startswith("["):
            yield inner
        case inspect.DictType(value_type=inner) if step.startswith("["):
            yield inner
        case inspect.StructType(tag=tag, tag_field=field) if step == field:
            yield inspect.LiteralType((str(tag),))
        case inspect.StructType(fields=fields):
            yield from (field.type for field in fields if field.encode_name == step)
        case _:
            pass


def _listed(info: inspect.Type) -> Iterator[str]:
    if isinstance(info, inspect.LiteralType):
        yield from map(str, info.values)
