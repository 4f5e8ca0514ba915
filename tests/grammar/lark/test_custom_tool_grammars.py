"""Grammars of the shapes that OpenAI's documentation of custom tools shows, as text and inside a call's JSON: whatever
is walked ends in a sentence that Lark, or Python's `re`, accepts."""

from __future__ import annotations

import json
import random
import re
from functools import cache
from typing import Literal

import lark
import pytest

from fsm.program import Program, compile_constraint
from fsm.tokens import TokenTable
from grammar.constraint import Contract, Lark, Regex, StructuralTag
from providers.custom_tools import input_format
from schemas.constraint import LarkSpec, RegexSpec

SUM = """
    start: sum
    sum: product (SPACE PLUS SPACE product)* -> plus
       | product
    product: atom (SPACE TIMES SPACE atom)* -> times
       | atom
    atom: INT
    SPACE: " "
    PLUS: "+"
    TIMES: "*"
    %import common.INT
"""

QUERY = r"""
    // Blanks are written, keywords are strings in the rules.
    SP: " "
    COMMA: ","
    SEMICOLON: ";"
    start: "SELECT" SP columns SP "FROM" SP NAME SP "WHERE" SP amount SP "AND" SP since SP order SP "LIMIT" SP NUMBER SEMICOLON
    columns: NAME (COMMA SP NAME)*
    amount: "amount" SP ">" SP NUMBER
    since: "day" SP ">" SP DAY
    order: "ORDER" SP "BY" SP "day" SP ("ASC" | "DESC")
    NAME: /[A-Za-z_][A-Za-z0-9_]{0,30}/
    NUMBER: /[0-9]{1,9}/
    DAY: /'[0-9]{4}-[0-9]{2}-[0-9]{2}'/
"""  # noqa: E501

TALE = r"""
    start: sentence
    sentence: /[A-Za-z, ]*(a knight|the fox)[A-Za-z, ]*(built|lost)[A-Za-z, ]*(a bridge|the way)[A-Za-z, ]*\./
"""

CLAUSES = r"""
    start: WORDS "who " VERB " the " NOUN (", " VERB " it")* "."
    WORDS: /[a-z]{1,8}( [a-z]{1,8}){0,3} /
    VERB: "built" | "lost" | "found"
    NOUN: /[a-z]{2,10}/
"""

EDITS = r"""
    start: begin edit+ end
    begin: ">>> Begin" LF
    end: ">>> End" LF?
    edit: added | removed | changed
    added: ">>> Add: " path LF ("+" /[^\n]*/ LF)+
    removed: ">>> Remove: " path LF
    changed: ">>> Change: " path LF moved? (context | line)+ last?
    moved: ">>> Move to: " path LF
    context: ("@@" | "@@ " /[^\n]+/) LF
    line: ("+" | "-" | " ") /[^\n]*/ LF
    last: ">>> End of file" LF
    path: /[^\n]+/
    %import common.LF
"""

LISTS = """
    ?start: value
    ?value: list | ESCAPED_STRING | SIGNED_NUMBER | "yes" | "no"
    list: "[" [value ("," value)*] "]"
    %import common (ESCAPED_STRING, SIGNED_NUMBER, WS)
    %ignore WS
"""

GRAMMARS = {"sum": SUM, "query": QUERY, "tale": TALE, "clauses": CLAUSES, "edits": EDITS, "lists": LISTS}

DATE = (
    r"^(?P<month>January|March|May)\s+(?P<day>\d{1,2})(?:st|nd|rd|th)?\s+(?P<year>\d{4})"
    r"\s+at\s+(?P<hour>0?[1-9]|1[0-2])(?P<half>AM|PM)$"
)
PATTERNS = [DATE, r"[a-z]+-\d{3}(?:\.[0-9]+)?", r'^"?(SELECT|INSERT) [^;\n]{1,40};"?$']

WORDS = [b"the ", b"a ", b" lost", b", ", b"SELECT", b" FROM", b">>> ", b"Begin", b"End", b"\\n", b"\n", b"\\n+", b'"}']
TABLE = TokenTable.from_bytes([*(bytes([b]) for b in range(256)), *WORDS, None], [256 + len(WORDS)])


SPELLED = {"sum": SUM.replace(")* ->", ")+ ->"), "edits": EDITS.replace(r"/[^\n]*/ LF", r"/[^\n]*\n/")}
"""What Lark refuses, spelled otherwise: rules that say the same twice, terminals that may be empty."""


@cache
def parser(name: str) -> lark.Lark:
    return lark.Lark(SPELLED.get(name, GRAMMARS[name]), parser="earley", lexer="dynamic_complete")


def walked(program: Program, dice: random.Random, steps: int) -> str:
    """A text that ends well, begun at random; what is not ASCII is left to others."""
    matcher, text = program.matcher(), b""
    for _ in range(steps):
        allowed = [t for t in matcher.allowed().tolist() if 32 <= t < 127 or 256 <= t < 256 + len(WORDS) or t == 10]
        if not allowed:
            break
        token = dice.choice(allowed)
        assert matcher.advance(token)
        text += TABLE.bytes_of(token) or b""
    rest = matcher.completion()
    assert rest is not None, text
    return (text + b"".join(TABLE.bytes_of(token) or b"" for token in rest)).decode()


@pytest.mark.parametrize("name", GRAMMARS)
def test_a_grammar(name: str) -> None:
    program = compile_constraint(Lark(GRAMMARS[name]), TABLE)
    assert program.contract is Contract.EXACT
    dice = random.Random(4)
    for steps in (0, 3, 9, 18, 30):
        parser(name).parse(walked(program, dice, steps))


@pytest.mark.parametrize(
    ("name", "semantics"), [("sum", "dynamic_complete"), ("lists", "dynamic_complete"), ("lists", "contextual")]
)
def test_the_input_of_a_call_is_a_sentence(name: str, semantics: Literal["dynamic_complete", "contextual"]) -> None:
    document = {"type": "structural_tag", "format": input_format(LarkSpec(GRAMMARS[name], semantics=semantics))}
    program = compile_constraint(StructuralTag(document), TABLE)
    dice = random.Random(5)
    for steps in (0, 6, 14, 24):
        call = json.loads(walked(program, dice, steps))
        assert call.keys() == {"input"}
        parser(name).parse(call["input"])


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern(pattern: str) -> None:
    document = {"type": "structural_tag", "format": input_format(RegexSpec(pattern))}
    quoted = compile_constraint(StructuralTag(document), TABLE)
    plain = compile_constraint(Regex(pattern), TABLE)
    assert plain.contract is quoted.contract is Contract.EXACT
    dice = random.Random(6)
    for steps in (0, 5, 12, 24):
        assert re.fullmatch(pattern, walked(plain, dice, steps))
        assert re.fullmatch(pattern, json.loads(walked(quoted, dice, steps + 12))["input"])


def test_what_the_documentation_warns_of_is_told_apart() -> None:
    """Rules do not make a terminal greedy, and a pattern without bounds goes on to the end of the text."""
    program = compile_constraint(Lark(SUM), TABLE)
    for text, right in (("4 + 4 * 12", True), ("4 +4", False), ("4 + ", False), ("4  + 4", False)):
        matcher = program.matcher()
        assert (all(matcher.advance(byte) for byte in text.encode()) and matcher.accepting) == right


def test_a_call_may_bring_the_grammars_that_its_own_imports() -> None:
    spec = LarkSpec("%import units.LENGTH\nstart: LENGTH", imports=(("units", 'LENGTH: /[0-9]{1,3}"?/'),))
    program = compile_constraint(StructuralTag({"type": "structural_tag", "format": input_format(spec)}), TABLE)
    for text, right in ((r'{"input": "12\""}', True), ('{"input": "12', False), ('{"input": "x"}', False)):
        matcher = program.matcher()
        assert (all(matcher.advance(byte) for byte in text.encode()) and matcher.accepting) == right
