"""Constraint program × vocabulary → token-level FSM: `compile_constraint`, and `Matcher`, the cursor of a sequence."""

from fsm.program import Matcher, Program, compile_constraint
from fsm.tokens import TokenTable

__all__ = ["Matcher", "Program", "TokenTable", "compile_constraint"]
