"""Grammars that come along, against Lark where they lie beside the one that imports them."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Literal

import lark
import pytest

from grammar.constraint import Lark
from grammar.errors import ConstraintError
from grammar.lark.compile import compile_lark
from tests.fsm.parsing import Heads
from tests.grammar.lark.test_semantics import accepts

IMPORTS = {
    "letters": 'a: A | B | a "c" B\nA: "a"\nB: "b"\n_c: "c"\n%ignore "z"',
    "pairs": '%import .letters.A\n%import .letters.a -> one\npair{x}: x "," x\ntwo: pair{A} | one',
}
GRAMMARS = [
    '%import .letters.a\nstart: a+ "z"',
    "%import .letters (A, B)\nstart: (A B)+",
    '%import .letters.A -> FIRST\n%import common.INT\nA: "c"\nstart: FIRST A INT?',
    '%import .pairs.two\nstart: two two?\n%ignore "z"',
    "%import .pairs.pair\n%import .letters.B\nstart: pair{B}",
    '%import .letters.A\n%override A: "b" | "c"\nstart: A A',
    "%import .letters.a\n%extend a: /1/\nstart: a",
]


@pytest.mark.parametrize("semantics", ["dynamic_complete", "contextual"])
@pytest.mark.parametrize("grammar", GRAMMARS)
def test_an_import_is_a_file_beside_it(
    grammar: str, semantics: Literal["dynamic_complete", "contextual"], tmp_path: Path
) -> None:
    for name, text in IMPORTS.items():
        (tmp_path / f"{name}.lark").write_text(text)
    how = {"parser": "earley", "lexer": semantics} if semantics == "dynamic_complete" else {"parser": "lalr"}
    (tmp_path / "main.lark").write_text(grammar)
    parser = lark.Lark.open(str(tmp_path / "main.lark"), **how)  # type: ignore[arg-type]
    imports = {name: text.replace("import .", "import ") for name, text in IMPORTS.items()}
    constraint = Lark(grammar.replace("import .", "import "), semantics=semantics, imports=imports)
    heads = Heads(compile_lark(constraint, [True] * 256, 100_000)[0])
    found = 0
    for text in ("".join(letters) for n in range(5) for letters in product("abc1,z", repeat=n)):
        accepted = accepts(parser, text)
        found += accepted
        assert heads.accepting(heads.run(text.encode())) == accepted, text
    assert found


def test_the_dialect_in_imports() -> None:
    imports = {
        "calls": 'start: name "(" %json {"type": "boolean"} ")"\nname[lazy]: NAME\nNAME: /[a-z]+/ & ~"if" & /../',
        "tools": "use: (@calls | FREE)\nFREE: ~/.*[(a-z].*/ & /[^x]/",
    }
    grammar = '%import tools.use\nstart: use "!" @calls?\nA: "a" & /a|b/\nother: A'
    heads = Heads(compile_lark(Lark(grammar, imports=imports), [True] * 256, 100_000)[0])
    for text, right in (
        ("ab(true)!", True),
        ("?!ab(false)", True),
        ("if(true)!", False),
        ("ab(1)!", False),
        ("a!", False),
    ):
        assert heads.accepting(heads.run(text.encode())) == right, text


@pytest.mark.parametrize(
    ("grammar", "imports", "place", "word"),
    [
        ("%import a.x\nstart: x", {"a": 'x: "1"\ny: "'}, "a:2:4", "not a grammar"),
        ("%import a.x\nstart: x", {"a": "%import b.x", "b": "x: %json {"}, "a:b:1:11", "not JSON"),
        ("%import a.x\nstart: x", {"a": "%import b.x", "b": "%import a.x"}, "a:b:1:9", "imports this"),
        ("%import a.x\nstart: x", {"a": "%import .secrets.x"}, "a:1:10", "file"),
        ("%import a.x\nstart: x", {"a": "%import secrets.x"}, "a:1:9", "secrets"),
        ("%import a.x\nstart: x", {"a": '%import b.x\nx: "1"', "b": 'x: "1"'}, "a:1:1", "defined"),
        ("start: @a", {}, "1:8", "no such grammar"),
        ("start: @a", {"a": 'start: "1"\n%ignore " "'}, "1:8", "ignores by itself"),
        ('start: @a\n%ignore " "', {"a": 'start: "1"'}, "1:8", "ignores by itself"),
        ('start: "1"', {"common": 'x: "1"'}, "1:1", "cannot be called"),
        ('start: "1"', {"../a": 'x: "1"'}, "1:1", "cannot be called"),
        ('start: "1"', {f"a{n}": 'x: "1"' for n in range(51)}, "1:1", "more than 50"),
    ],
)
def test_refused_with_its_place(grammar: str, imports: dict[str, str], place: str, word: str) -> None:
    with pytest.raises(ConstraintError) as refusal:
        compile_lark(Lark(grammar, imports=imports), [True] * 256, 10_000)
    assert (refusal.value.pointer, word in refusal.value.reason) == (place, True), refusal.value


def test_imports_of_imports_are_bounded() -> None:
    """Each of a chain of pairs imports both of the next: a thousand times the last one."""
    imports = {
        f"{side}{n}": f"%import l{n + 1}.x -> y\n%import r{n + 1}.x -> z\nx: y z" for n in range(10) for side in "lr"
    }
    imports |= {"l10": 'x: "a"', "r10": 'x: "b"'}
    with pytest.raises(ConstraintError, match="more than 50 grammars"):
        compile_lark(Lark("%import l0.x\nstart: x", imports=imports), [True] * 256, 100_000)
