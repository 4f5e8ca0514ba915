"""Lark's Indenter, held against Lark's own: toy grammars exhaustively, Python's grammar on real modules."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import lark
import lark.indenter
import pytest

from grammar.constraint import Indenter, Lark
from grammar.errors import ConstraintError
from grammar.lark.compile import compile_lark
from grammar.lark.lines import MAX_BLOCKS, MAX_COLUMNS
from tests.fsm.parsing import Configuration, Heads
from tests.grammar.lark.test_semantics import completion

TREE = r"""
    start: _NL* tree
    tree: NAME _NL [_INDENT tree+ _DEDENT]
    NAME: /a+/
    %declare _INDENT _DEDENT
    _NL: /(\r?\n[\t ]*)+/
"""

ONE_CHILD = r"""
    start: tree
    tree: "a" _NL [_INDENT tree _DEDENT]
    %declare _INDENT _DEDENT
    _NL: /\n[\t ]*/
"""

PARENTHESES = r"""
    start: stmt+
    stmt: e _NL | "b" e ":" _NL _INDENT stmt+ _DEDENT
    e: "a" | "(" e+ ")"
    %declare _INDENT _DEDENT
    _NL: ( /\r?\n[\t ]*/ | /#[^\n]*/ )+
    %ignore / +/
    %ignore /#[^\n]*/
"""

APART = r"""
    start: line+
    line: "a" _NL | open line+ close
    open: "b" _NL _INDENT
    close: _DEDENT
    %declare _INDENT _DEDENT
    _NL: /(\n *)+/
"""

BLOCKS = r"""
    start: line+
    line: "a" _NL | "b" _NL _INDENT line+ _DEDENT
    %declare _INDENT _DEDENT
    _NL: /(\n[ \t]*)+/
"""

GRAMMARS = {
    "blocks": (BLOCKS, "ab\n \t"),
    "tree": (TREE, "a\n \t"),
    "one child": (ONE_CHILD, "a\n "),
    "parentheses": (PARENTHESES, "ab():\n #"),
    "blocks that begin and end in rules of their own": (APART, "ab\n "),
}

ASKED = Indenter("_NL", open_parens=("LPAR",), close_parens=("RPAR",), tab_len=2)


ASKED_OF_LARK = {
    "NL_type": "_NL",
    "INDENT_type": "_INDENT",
    "DEDENT_type": "_DEDENT",
    "OPEN_PAREN_types": ["LPAR"],
    "CLOSE_PAREN_types": ["RPAR"],
    "tab_len": 2,
}
Asked = type("Asked", (lark.indenter.Indenter,), ASKED_OF_LARK)
"""`ASKED`, for Lark."""


def machine(grammar: str, indenter: Indenter | None = ASKED, start: str = "start") -> Heads:
    constraint = Lark(grammar, start, "contextual", indenter)
    return Heads(compile_lark(constraint, [True] * 256, 100_000)[0])


def accepts(parser: lark.Lark, text: str) -> bool:
    """What Lark's parser takes. Its Indenter trips over newline tokens without a newline, and over parentheses that
    were never opened."""
    try:
        parser.parse(text)
    except (lark.exceptions.LarkError, IndexError, AssertionError):
        return False
    return True


def texts(heads: Heads, alphabet: str, length: int, budget: int) -> Iterator[tuple[str, Configuration]]:
    """Texts up to a length with what they lead to: viable ones, and some with one character too many."""
    rng = random.Random(0)
    level: list[tuple[str, Configuration]] = [("", heads.start)]
    for _ in range(length + 1):
        yield from level
        following = [(text + char, heads.run(char.encode(), here)) for text, here in level if here for char in alphabet]
        level = rng.sample(following, min(len(following), budget))


@pytest.mark.parametrize("name", GRAMMARS)
def test_accepts_what_lark_accepts(name: str) -> None:
    grammar, alphabet = GRAMMARS[name]
    parser = lark.Lark(grammar, parser="lalr", postlex=Asked())
    heads = machine(grammar)
    accepted, indented = 0, 0
    for text, here in texts(heads, alphabet, 16, 250):
        right = accepts(parser, text)
        accepted, indented = accepted + right, indented + (right and "\n " in text)
        assert heads.accepting(here) == right, text
    assert accepted > 20
    assert indented > 5


@pytest.mark.parametrize("name", GRAMMARS)
def test_a_line_that_is_begun_can_end(name: str) -> None:
    grammar, alphabet = GRAMMARS[name]
    heads = machine(grammar)
    done: set[Configuration] = set()
    for text, here in texts(heads, alphabet, 10, 60):
        assert not here or here in done or completion(heads, here, alphabet, done), text


def test_columns_beyond_the_limit_are_not_begun() -> None:
    heads = machine(TREE)
    assert heads.viable_until(b"a\n" + b" " * (MAX_COLUMNS + 9)) == 2 + MAX_COLUMNS + 9  # the next line may be empty
    assert heads.viable_until(b"a\n" + b" " * (MAX_COLUMNS + 1) + b"a") == 3 + MAX_COLUMNS
    assert heads.accepting(heads.run(b"a\n" + b" " * MAX_COLUMNS + b"a\n"))
    deep = b"".join(b" " * n + b"a\n" for n in range(MAX_BLOCKS + 1))
    assert heads.accepting(heads.run(deep))
    assert heads.viable_until(deep + b" " * (MAX_BLOCKS + 1) + b"a") == len(deep) + MAX_BLOCKS + 1
    assert set(compile_lark(Lark(TREE, semantics="contextual"), [True] * 256, 100_000)[0].limits) == {
        "indented_blocks",
        "indentation_columns",
    }


PYTHON = Path(lark.__file__).with_name("grammars") / "python.lark"

MODULE = '''\
"""A module."""
import os  # first

@decorated(1,
    2)
class A(B):
\tx: int = 1

    # a comment, further in than its block ends
def f(a, *, b=None) -> int:
    if a:
        for x in [1,
   2]:
            yield x

        return {"a": (1, \\
b)}
    else: pass
    while True:
      try: f()
      except E as e:
            raise
'''


@pytest.fixture(scope="module")
def python() -> tuple[lark.Lark, Heads]:
    parser = lark.Lark(
        PYTHON.read_text(), parser="lalr", postlex=lark.indenter.PythonIndenter(), start="file_input"
    )  # fmt: skip
    return parser, machine(PYTHON.read_text(), None, "file_input")


def test_python(python: tuple[lark.Lark, Heads]) -> None:
    """Every beginning of a module: accepted where Lark takes it, and one that Lark cannot go on with is no beginning of
    a text."""
    parser, heads = python
    here = heads.start
    for n, char in enumerate(MODULE.replace("\tx", "    x")):
        here = heads.run(char.encode(), here)
        assert here, MODULE[: n + 1]
        text = MODULE.replace("\tx", "    x")[: n + 1]
        assert heads.accepting(here) == accepts(parser, text), text


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("if x:\ny", 6),  # a block must be indented
        ("if x:\n    y\n  z", 14),  # and end where another one began
        ("x\n y", 3),  # nothing opens one here
        ("if x:\n\ty\n        z\n", True),  # a tab is worth eight columns
        ("f(\n  a,\nb)\n", True),  # between parentheses lines do not count
        ("x = 1  # no newline", False),
        ("f)", 1),
    ],
)
def test_lines_of_python(python: tuple[lark.Lark, Heads], text: str, taken: int | bool) -> None:
    """``taken``: whether the text is a module, or how many characters of it begin one."""
    parser, heads = python
    assert accepts(parser, text) == (taken is True)
    if taken is not True and taken is not False:
        assert heads.viable_until(text.encode()) == taken
    else:
        assert heads.accepting(heads.run(text.encode())) == taken


@pytest.mark.slow
@pytest.mark.parametrize("module", ["bisect", "colorsys", "keyword", "sched", "this", "token", "queue"])
def test_real_modules(python: tuple[lark.Lark, Heads], module: str) -> None:
    text = (Path(random.__file__).parent / f"{module}.py").read_text()
    parser, heads = python
    assert accepts(parser, text)
    here = heads.start
    for line in text.splitlines(keepends=True):
        here = heads.run(line.encode(), here)
        assert here, line
    assert heads.accepting(here)


REFUSED = [
    (Lark(TREE), "3:21", "contextual"),
    (Lark(TREE, semantics="contextual", indenter=Indenter("_X")), "1:1", "_X"),
    (Lark("start: X\n%declare X", semantics="contextual"), "1:8", "%declare X"),
    (Lark(f"{TREE}\n    start2: Y\n    %declare Y", "start2", "contextual"), "8:13", "%declare Y"),
]


@pytest.mark.parametrize(("constraint", "place", "word"), REFUSED)
def test_refused_with_its_place(constraint: Lark, place: str, word: str) -> None:
    with pytest.raises(ConstraintError) as refusal:
        compile_lark(constraint, [True] * 256, 100_000)
    assert refusal.value.pointer.startswith(place)
    assert word in refusal.value.reason
