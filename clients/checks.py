"""What a client's checks have in common: where the server is, what is asked, and how results are told.

A script of this folder is run by `run.py` in the environment of its cohort. Each check is a function whose docstring
names the feature; it fails by raising. Results go to stdout, one JSON object a line.
"""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Callable
from importlib.metadata import version
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

URL = os.environ.get("SLUICE_URL", "http://127.0.0.1:8000")
MODEL = os.environ.get("SLUICE_MODEL", "smollm2-135m-instruct")
QUESTION = "Extract the order: two large pizzas for Ann, please."


class Order(BaseModel):
    """An order of food. Bounded, so that a small model comes to an end."""

    model_config = ConfigDict(extra="forbid")

    size: Literal["small", "large"]
    count: int = Field(ge=1, le=9)
    name: str = Field(max_length=12)


class Plain(BaseModel):
    """An order in keywords that every API enforces: what a model says under it is an order, however small it is."""

    model_config = ConfigDict(extra="forbid")

    size: Literal["small", "large"]
    paid: bool


class Loose(BaseModel):
    """Any object is one: for modes that enforce JSON and no schema."""

    note: object = None


def run(distribution: str, *checks: Callable[[], object]) -> None:
    """Run the checks of the client that ``distribution`` is."""
    for check in checks:
        result = {"client": distribution, "version": version(distribution), "feature": check.__doc__, "ok": True}
        try:
            check()
        except Exception as error:
            traceback.print_exc()
            result |= {"ok": False, "error": f"{type(error).__name__}: {error}"[:300]}
        print(json.dumps(result), flush=True)
