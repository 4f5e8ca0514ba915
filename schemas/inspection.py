"""``POST /v1/compile``: what a constraint promises, before anything is generated under it. Sluice's own addition."""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from schemas.openai.constraints import ResponseFormat, StructuredOutputs


class CompileRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Exactly one of the two, as in a request for text. ``model``: whose vocabulary the constraint is for."""

    model: str
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None


class Refusal(msgspec.Struct):
    """``pointer``: a JSON pointer into the schema, or line:column."""

    code: str
    message: str
    pointer: str


class Inspection(msgspec.Struct):
    """``reasons``: why some valid texts cannot be written. ``limits``: up to which bounds the contract holds.
    ``compile_ms``: 0 where the constraint was known."""

    contract: Literal["exact", "sound_subset", "refused"]
    reasons: list[str] | UnsetType = UNSET
    limits: dict[str, int | str] | UnsetType = UNSET
    compile_ms: float | UnsetType = UNSET
    refusal: Refusal | UnsetType = UNSET
    object: Literal["sluice.constraint"] = "sluice.constraint"
