"""Errors of the grammar room.

ConstraintError                 the constraint cannot be enforced, and here is the place
├── UnsupportedConstraint       it is legal, but Sluice does not enforce it (yet)
├── UnsatisfiableConstraint     nothing can ever match it
└── ConstraintTooLarge          compiling it would exceed the fuel or the deadline

Each carries ``pointer`` (RFC 6901 JSON pointer into the schema, or ``line:column`` for a regex or grammar) and
``reason``.
"""

from __future__ import annotations


class ConstraintError(ValueError):
    """A constraint that is refused. ``pointer`` names the place, ``reason`` says why."""

    code = "invalid_constraint"

    def __init__(self, reason: str, pointer: str = "") -> None:
        super().__init__(f"{reason} - at `{pointer or '/'}`")
        self.reason = reason
        self.pointer = pointer


class UnsupportedConstraint(ConstraintError):
    code = "unsupported_constraint"


class UnsatisfiableConstraint(ConstraintError):
    code = "unsatisfiable_constraint"


class ConstraintTooLarge(ConstraintError):
    code = "constraint_too_large"
