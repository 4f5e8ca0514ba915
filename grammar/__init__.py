"""Text → constraint program. What is asked (`constraint.py`), compiled to byte machines (`compile.py`)."""

from grammar.constraint import Choice, Contract, Indenter, JsonObject, JsonSchema, Lark, Regex, StructuralTag
from grammar.errors import ConstraintError, ConstraintTooLarge, UnsatisfiableConstraint, UnsupportedConstraint

__all__ = [
    "Choice",
    "ConstraintError",
    "ConstraintTooLarge",
    "Contract",
    "Indenter",
    "JsonObject",
    "JsonSchema",
    "Lark",
    "Regex",
    "StructuralTag",
    "UnsatisfiableConstraint",
    "UnsupportedConstraint",
]
