"""Items of an input, as Responses and Decisions have them: one by one, since a message need not say that it is one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import msgspec
from msgspec import Raw

from gateway.errors import ApiError, from_decoding, invalid

Item = TypeVar("Item", bound=msgspec.Struct)

_fields = msgspec.json.Decoder(dict[str, Raw])


def read_item(raw: Raw, place: str, kinds: Mapping[str, type[Item]]) -> Item:
    """The item as one of ``kinds``, by its type. Raises `ApiError`."""
    try:
        # Clients send items back as they came out of an SDK, with null for what an item does not have.
        given = {name: value for name, value in _fields.decode(raw).items() if bytes(value) != b"null"}
        kind = msgspec.json.decode(given.get("type", Raw(b'"message"')), type=str)
        if kind == "item_reference":
            message = "Items are not stored, so there is none to refer to."
            raise ApiError(404, message, param=place, code="item_not_found")
        if kind not in kinds:
            raise invalid(f"Unsupported item '{kind}' at '{place}.type'.", f"{place}.type", "unsupported_parameter")
    except msgspec.DecodeError as error:
        raise from_decoding(error, place) from None
    try:
        return msgspec.json.decode(msgspec.json.encode(given), type=kinds[kind])
    except msgspec.DecodeError as error:
        raise from_decoding(error, place, kinds[kind]) from None
