"""``GET /v1/models`` and ``GET /v1/models/{model}``."""

from __future__ import annotations

from typing import Literal

import msgspec


class Model(msgspec.Struct):
    """``context_length`` (tokens) and ``precision`` are additions of ours, as other servers have them."""

    id: str
    created: int
    owned_by: str
    context_length: int
    precision: str
    object: Literal["model"] = "model"


class ModelList(msgspec.Struct):
    data: list[Model]
    object: Literal["list"] = "list"
