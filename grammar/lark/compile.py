"""A Lark grammar's text → its machine."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress

from grammar.constraint import JsonSchema, Lark
from grammar.controls import reading
from grammar.errors import ConstraintError, ConstraintTooLarge, UnsatisfiableConstraint, UnsupportedConstraint
from grammar.fuel import Fuel
from grammar.json_schema.decoding import load as load_json
from grammar.json_schema.machine import JsonMachine, compile_json_schema
from grammar.lark.completion import CompletingMachine
from grammar.lark.contextual import MAX_EXPLORED, ContextualMachine, ContextualTable
from grammar.lark.doubts import doubtful
from grammar.lark.dynamic import DynamicMachine
from grammar.lark.lexemes import Lexemes
from grammar.lark.machine import END, LarkMachine
from grammar.lark.operators import combined, marked
from grammar.lark.programs import Programs
from grammar.lark.source import Source, load, place_of
from grammar.regex.anchors import restrict
from grammar.regex.python import parse_python
from grammar.regex.syntax import EMPTY_SET
from grammar.states import States
from grammar.utf8 import Spelling, json_spelling, raw_spelling

SEMANTICS = ("dynamic_complete", "contextual")
_IDS = re.compile(r"<\[\s*(?:\*|(\^)?\s*(\d+(?:-\d+)?(?:\s*,\s*\d+(?:-\d+)?)*))\s*\]>")
_RANGE = re.compile(r"(\d+)(?:-(\d+))?")
Parser = LarkMachine | CompletingMachine
QUOTE = (0x22, 0x22)
"""The bytes that end a JSON string."""


def compile_lark(
    constraint: Lark, spellable: Sequence[bool], fuel: int, controls: Mapping[str, int] | None = None
) -> tuple[Parser, tuple[str, ...]]:
    """The machine of a grammar, and the reasons why it reaches less than all sentences (none: it is exact).
    ``controls``: the ids of the vocabulary's control tokens, by name.

    Raises ConstraintError with ``line:column`` for what cannot be enforced.
    """
    return _compile(constraint, spellable, fuel, raw_spelling(spellable), States(fuel), END, controls or {})


def compile_quoted_lark(
    constraint: Lark, spellable: Sequence[bool], fuel: int, states: States
) -> tuple[Parser, tuple[str, ...]]:
    """`compile_lark` of a grammar whose sentence stands inside a JSON string, in a text that others write too
    (``states``). A closing quote ends it. UnsupportedConstraint for `%json`, whose values are not escaped."""
    return _compile(constraint, spellable, fuel, json_spelling(spellable), states, QUOTE, {})


def _compile(
    constraint: Lark,
    spellable: Sequence[bool],
    fuel: int,
    spelling: Spelling,
    states: States,
    follow: tuple[int, int],
    controls: Mapping[str, int],
) -> tuple[Parser, tuple[str, ...]]:
    if constraint.semantics not in SEMANTICS:
        allowed = " or ".join(SEMANTICS)
        raise UnsupportedConstraint(f"semantics must be {allowed}, not {constraint.semantics!r}")
    repeats = constraint.semantics == "dynamic_complete"
    source = load(constraint.grammar, constraint.start, constraint.indenter, constraint.imports, repeats=repeats)
    shared = Fuel(fuel)
    programs = Programs(shared)
    text = constraint.grammar
    starts = {name: _compile_terminal(text, source, name, programs, spelling, shared) for name in source.terminals}
    for name, (written, place) in source.controls.items():
        if follow != END:
            raise UnsupportedConstraint(f"the control token `{written}` cannot stand inside a JSON string", place)
        starts[name] = programs.compile_control(name, reading(_control_ids(written, place, controls)))
    lexemes = Lexemes(programs, starts, spelling, shared)
    if source.indenter is not None and constraint.semantics != "contextual":
        indent = source.indenter.indent
        reason = f"%declare {indent}: an Indenter stands behind a lexer, which only `contextual` has"
        raise UnsupportedConstraint(reason, place_of(text, indent))
    if constraint.semantics == "contextual":
        return _contextual(source, lexemes, states, shared, follow), ()
    schemas: dict[str, JsonMachine] = {}
    reasons: list[str] = []
    for name, (schema, place) in source.schemas.items():
        if follow != END:
            raise UnsupportedConstraint("%json cannot stand inside a JSON string", place)
        schemas[name], why = _compile_schema(schema, place, spellable, fuel, states)
        reasons += why
    machine = DynamicMachine(source, lexemes, states, shared, programs.looks, schemas, follow)
    looking = sorted(programs.looks.difference(source.ignored))
    if looking:
        reasons.append(f"tokens with a lookahead are read whole, never split: {', '.join(looking)}")
    return machine, tuple(reasons)


def _contextual(source: Source, lexemes: Lexemes, states: States, fuel: Fuel, follow: tuple[int, int]) -> Parser:
    table = ContextualTable(source)
    if source.indenter is None and len(table.items) <= MAX_EXPLORED and (table.settled or doubtful(table, lexemes)):
        with suppress(ConstraintTooLarge):  # what is too large for it is decided from parser states alone
            machine = ContextualMachine(source, lexemes, table, fuel, follow)
            completing = CompletingMachine(machine, states, fuel.units)
            if not completing.has_sentences:
                raise source.endless(source.start)
            return completing
    machine = ContextualMachine(source, lexemes, table, fuel, follow)
    machine.begin(states)
    return machine


def _control_ids(written: str, place: str, controls: Mapping[str, int]) -> list[int]:
    """The ids that ``<name>`` or ``<[ids]>`` stands for, or that ``<[*]>`` and ``<[^ids]>`` do beside text."""
    if not (listed := _IDS.fullmatch(written)):
        if (token := controls.get(written)) is None:
            raise UnsupportedConstraint(f"the vocabulary has no control token `{written}`", place)
        return [token]
    known, found = set(controls.values()), list[int]()
    for first, last in _RANGE.findall(listed[2] or ""):
        ids = range(int(first), int(last or first) + 1)
        if (other := next((i for i in ids if i not in known), None)) is not None:
            raise UnsupportedConstraint(f"`{written}`: token {other} is no control token of the vocabulary", place)
        found += ids
    if listed[1] or not listed[2]:
        return sorted(known.difference(found))
    if not found:
        raise ConstraintError(f"`{written}` names no token", place)
    return found


def _compile_schema(
    schema: str, place: str, spellable: Sequence[bool], fuel: int, states: States
) -> tuple[JsonMachine, tuple[str, ...]]:
    try:
        return compile_json_schema(
            JsonSchema(load_json(schema)), spellable, fuel, states=states, follow=((0, 255),), records=False
        )
    except ConstraintError as error:
        where = f" (at `{error.pointer}` of the schema)" if error.pointer else ""
        raise type(error)(f"%json: {error.reason}{where}", place) from None


def _compile_terminal(text: str, source: Source, name: str, programs: Programs, spelling: Spelling, fuel: Fuel) -> int:
    pattern = source.terminals[name].pattern.to_regexp()
    try:
        if marked(pattern):
            return programs.compile_automaton(name, combined(pattern, spelling.alphabet, fuel))
        node = restrict(parse_python(pattern), spelling.alphabet)
        if node is EMPTY_SET:
            raise UnsatisfiableConstraint("no text that can be written matches it")
        return programs.compile(name, node, prefers=not any(run in pattern for run in source.runs))
    except ConstraintError as error:
        raise type(error)(f"terminal {name}: {error.reason}", place_of(text, name)) from None
