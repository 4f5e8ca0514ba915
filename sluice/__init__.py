"""The public face of Sluice's core, for programs that embed it: what is asked (`grammar`) and what enforces it (`fsm`).

    import sluice

    table   = sluice.TokenTable.from_tokenizer(tokenizer)
    program = sluice.compile_constraint(sluice.JsonSchema(schema), table)
    matcher = program.matcher()

Names are imported at first use (PEP 562), so that ``import sluice`` costs nothing and loads no numba.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fsm import TokenTable as TokenTable
    from fsm import compile_constraint as compile_constraint
    from grammar import Choice as Choice
    from grammar import ConstraintError as ConstraintError
    from grammar import Indenter as Indenter
    from grammar import JsonObject as JsonObject
    from grammar import JsonSchema as JsonSchema
    from grammar import Lark as Lark
    from grammar import Regex as Regex
    from grammar import StructuralTag as StructuralTag

__version__ = "0.1.0"

_ROOMS = {
    "Choice": "grammar",
    "ConstraintError": "grammar",
    "Indenter": "grammar",
    "JsonObject": "grammar",
    "JsonSchema": "grammar",
    "Lark": "grammar",
    "Regex": "grammar",
    "StructuralTag": "grammar",
    "TokenTable": "fsm",
    "compile_constraint": "fsm",
}

__all__ = [
    "Choice",
    "ConstraintError",
    "Indenter",
    "JsonObject",
    "JsonSchema",
    "Lark",
    "Regex",
    "StructuralTag",
    "TokenTable",
    "__version__",
    "compile_constraint",
]


def __getattr__(name: str) -> object:
    if name not in _ROOMS:
        raise AttributeError(f"module 'sluice' has no attribute {name!r}")
    value = getattr(import_module(_ROOMS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
