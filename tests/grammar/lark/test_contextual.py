"""`contextual` against Lark's LALR parser: what is accepted, and that no viable text is a dead end."""

from __future__ import annotations

from collections.abc import Iterator

import lark
import lark.lexer
import pytest

from grammar.constraint import Lark
from grammar.lark.compile import compile_lark
from tests.fsm.parsing import Configuration, Heads

JSON = r"""
    ?start: value
    ?value: object | array | ESCAPED_STRING | SIGNED_NUMBER -> number
          | "true" -> true | "false" -> false | "null" -> null
    array: "[" [value ("," value)*] "]"
    object: "{" [pair ("," pair)*] "}"
    pair: ESCAPED_STRING ":" value
    %import common.ESCAPED_STRING
    %import common.SIGNED_NUMBER
    %import common.WS
    %ignore WS
"""

CALC = r"""
    ?start: sum | NAME "=" sum -> assign_var
    ?sum: product | sum "+" product -> add | sum "-" product -> sub
    ?product: atom | product "*" atom -> mul | product "/" atom -> div
    ?atom: NUMBER -> number | "-" atom -> neg | NAME -> var | "(" sum ")"
    %import common.CNAME -> NAME
    %import common.NUMBER
    %import common.WS_INLINE
    %ignore WS_INLINE
"""

GRAMMARS = {
    "json": (JSON, '{}[]:,"\\ 1.e-tru'),
    "calc": (CALC, "a1.+*-()= "),
    "keywords": ('start: ("if" NAME | "in" | NAME)+\nNAME: /[a-z]+/\n%ignore " "', "ifn "),
    "dangling else": ('start: s\ns: "i" s "e" s | "i" s | "x"', "iex"),
    "right recursion": ('start: "a" start | "b"', "ab"),
    "nested optionals": ('start: ["a" ["b"]] ["c"]', "abc"),
    "ranges": ('start: "a"~2..4 ("b"~2)?', "ab"),
    "templates": ('start: list{"a"} ";" list{"b"}\nlist{x}: x ("," x)*', "ab,;"),
    "priorities": ("start: (A | B)+\nA.2: /ab?/\nB: /[abc]+/", "abc"),
    "lazy": ("start: (A | B)+\nA: /a.*?b/\nB: /[bc]/", "abc"),
    "flags": ('start: ("a"i | B)+\nB: /b.c/s', "aAb\nc"),
    "lookahead": ("start: (A | B | C)+\nA: /a(?!b)/\nB: /ab(?=c)/\nC: /[bc]/", "abc"),
    "end of text": ("start: A* B?\nA: /a(?!$)/\nB: /a$/", "a"),
    "lookbehind": ("start: (A | B)+\nA: /[ab]+(?<!b)/\nB: /b/", "ab"),
    "word boundary": (r'start: (A | B)+' + "\n" + r"A: /a+\b/" + "\nB: /[a.]/", "a."),
    "float or range": ('start: N (".." N)?\nN: /[0-9]+(\\.[0-9]+)?/', "1."),
    "ignored string that is a word": ('start: A+\nA: /a+/\nB: "b"\n%ignore "a"\n%ignore B', "ab"),
    "long ignored": ("start: A+\nA: /[ab]/\n%ignore /bb+/", "ab"),
}  # fmt: skip


@pytest.fixture(autouse=True)
def no_collision_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lark warns of terminals that overlap, and stumbles where interegular cannot read one of them."""
    monkeypatch.setattr(lark.lexer, "has_interegular", False)


def machine(grammar: str) -> Heads:
    return Heads(compile_lark(Lark(grammar, semantics="contextual"), [True] * 256, 100_000)[0])


def texts(heads: Heads, alphabet: str, length: int, budget: int = 4000) -> Iterator[tuple[str, Configuration]]:
    """Texts up to a length with what they lead to; beyond the first refused character only some go on."""
    level: list[tuple[str, Configuration]] = [("", heads.start)]
    for n in range(length + 1):
        yield from level
        following = [
            (text + char, heads.run(char.encode(), here))
            for i, (text, here) in enumerate(level)
            if here or i % 7 == n
            for char in alphabet
        ]
        level = following[:: max(1, len(following) // budget)]


def accepts(parser: lark.Lark, text: str) -> bool:
    try:
        parser.parse(text)
    except lark.exceptions.LarkError:
        return False
    return True


@pytest.mark.parametrize("name", GRAMMARS)
def test_accepts_what_lark_accepts(name: str) -> None:
    grammar, alphabet = GRAMMARS[name]
    parser = lark.Lark(grammar, parser="lalr", lexer="contextual")
    heads = machine(grammar)
    for text, here in texts(heads, alphabet, 7, budget=600):
        assert heads.accepting(here) == accepts(parser, text), text


@pytest.mark.parametrize("name", GRAMMARS)
def test_a_viable_text_can_be_completed(name: str) -> None:
    grammar, alphabet = GRAMMARS[name]
    heads = machine(grammar)
    done: set[Configuration] = set()
    for text, here in texts(heads, alphabet, 4, budget=200):
        if here and here not in done:
            assert completion(heads, here, alphabet, done), text


def completion(heads: Heads, here: Configuration, alphabet: str, done: set[Configuration], longest: int = 24) -> bool:
    """Whether some text completes; configurations on the way to one are added to ``done``."""
    level: dict[Configuration, tuple[Configuration, ...]] = {here: (here,)}
    seen = {here}
    for _ in range(longest):
        for known, path in level.items():
            if known in done or heads.accepting(known):
                done.update(path)
                return True
        level = {
            after: (*path, after)
            for known, path in level.items()
            for char in alphabet
            if (after := heads.run(char.encode(), known)) and after not in seen
        }
        seen.update(level)
    return False


def test_a_longer_text() -> None:
    heads = machine(JSON)
    assert heads.accepting(heads.run(b'{"a": [1, 2.5e3, true , null], "b\\"c": {"\xc3\xa9": "\xf0\x9f\x8e\x89"}}'))
    assert heads.viable_until(b'{"a": [1 2]}') == 9
    assert heads.viable_until(b'{"a" "b"}') == 5
    assert heads.viable_until(b'"\xff"') == 1
