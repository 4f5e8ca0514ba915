"""What llguidance's users write and Lark does not know; and refusals, each with its place."""

from __future__ import annotations

import pytest

from fsm.program import compile_constraint
from fsm.tokens import TokenTable
from grammar.constraint import Contract, Lark
from grammar.errors import ConstraintError
from grammar.lark.compile import compile_lark
from grammar.tables import MAX_HEADS
from tests.fsm.parsing import Heads

TEXTS = {
    "suffix": ('start: t "a"\nt[suffix="<e>"]: /.*/', ["<e>a", "xx<e>a"], ["x<e>a<e>a", "x<e"]),
    "lazy": ("start: f\nf[lazy]: /[0-9]+/", ["1"], ["12"]),
    "capture": ('start: f "b"\nf[capture="x"]: /a+/', ["ab", "aab"], ["b"]),
    "free text": ('start: t "!"\nt: /(.|\\n)*/', ["!", "a!b!", "\n!"], ["", "a"]),
    "words": ('start: W "!"\nW: %regex {"substring_words": "foo bar. baz"}', ["!", "foo!", "bar. baz!"], ["foobar!"]),
    "characters": ('start: W\nW: %regex {"substring_chars": "ab/"}', ["", "a", "b/", "ab/"], ["a/", "ba"]),
    "chunks": ('start: W "."\nW: %regex {"substring_chunks": ["a", "ab"]}', ["ab.", "aab."], ["b.", "aba."]),
    "counts": ('%llguidance {}\nstart: "a"{2,3} "b"{2}', ["aabb", "aaabb"], ["abb", "aaaabb"]),
    "first token": ('%llguidance {"allow_initial_skip": false}\nstart: "a" "b"\n%ignore "c"', ["ab", "acbc"], ["cab"]),
    "ignored first": ('%llguidance {"allow_initial_skip": true}\nstart: "a" "b"\n%ignore "c"', ["ab", "cacbc"], ["ca"]),
    "stop": ('start: (t E)+ "."\nE: "e" | ";"\nt[stop=E]: /[a;]*/', ["ae.", ";a;e."], ["a.", "a;;e"]),
    "stop at the end": ('start: t\nt[stop=""]: /a*/', ["", "aa"], ["b"]),
    "said twice": ('start: s\ns: t ("+" t)* -> more\n | t\nt: "a" | ("a" | "b")', ["a", "b+a"], ["", "a+", "ab"]),
    "options said twice": ('start: ["a"] "b"? -> x | "a"? ["b"] -> y | "b" "b"*', ["", "ab", "bbb"], ["ba", "aab"]),
    "not in comments": ('start: "a" // %json {2} <|x|>\n', ["a"], ["b"]),
    "not in strings": ('start: "<|x|>" /[{]2}/ "@y"', ["<|x|>{2}@y"], ["<|x|>"]),
}


@pytest.mark.parametrize("name", TEXTS)
def test_texts(name: str) -> None:
    grammar, good, bad = TEXTS[name]
    heads = Heads(compile_lark(Lark(grammar), [True] * 256, 10_000)[0])
    assert [text for text in good + bad if heads.accepting(heads.run(text.encode()))] == good


CONTROLS = {"<|tool|>": 300, "<|end|>": 301, "<think>": 302}


@pytest.mark.parametrize(
    ("grammar", "good", "bad"),
    [
        ('start: <|tool|> "a"', [[300, "a"]], [["a"], ["<|tool|>a"], [301, "a"], [300]]),
        ("start: <[300-301]>+", [[300], [301, 300]], [[302], []]),
        ("start: (<[302,300]> | /b+/)*", [["b", 302, "b"], [300]], [[301]]),
        ('start: t <think> "x"\nt[lazy]: /.*/\n%ignore " "', [[" ", 302, " x"], [302, "x"]], [["<think>x"]]),
        ('start: "a" <|tool|>? "b"', [["ab"], ["a", 300, "b"]], [["a", 301, "b"]]),
    ],
)
def test_control_tokens(grammar: str, good: list[list[int | str]], bad: list[list[int | str]]) -> None:
    """They are matched by their ids. A text is what its tokens say: ids as they are, strings byte by byte."""
    tokens: list[bytes | None] = [bytes([b]) for b in range(256)]
    tokens += [b"<|tool|>", b"\xff", *[None] * 41, b"tool", None, b"<|tool|>", None, None, b"ab"]
    table = TokenTable.from_bytes(tokens, [299], [300, 301, 302], CONTROLS)
    program = compile_constraint(Lark(grammar), table)
    for text in good + bad:
        matcher = program.matcher()
        ids = [i for part in text for i in ([part] if isinstance(part, int) else part.encode())]
        taken = True
        for i in ids:
            allowed = i in matcher.allowed()
            assert matcher.fork().advance(i) == allowed
            taken = taken and matcher.advance(i)
        assert (taken and matcher.accepting) == (text in good)
        assert not any(i in matcher.allowed() for i in (0xFF, 257)), "bytes that spell a control token are none"


def test_control_tokens_are_no_text() -> None:
    table = TokenTable.from_bytes([*(bytes([b]) for b in range(256)), None, None], [256], [257], {"<|t|>": 257})
    program = compile_constraint(Lark('start: "a" <|t|> "b"'), table)
    matcher = program.matcher()
    assert matcher.forced() == b"a"
    assert matcher.completion() == (ord("a"), 257, ord("b"))
    for token in matcher.completion() or ():
        assert matcher.allowed().tolist() == [token]
        assert matcher.advance(token)
    assert matcher.accepting


CALLS = """
start: (/[a-z ]+/ | call)+
call: "<f>" %json {
    "type": "object",
    "properties": {"n": {"type": "integer"}, "next": {"enum": ["a", "b"]}},
    "required": ["n"],
    "additionalProperties": false
} "</f>" | "=" %json {"type": "number"}
%ignore "_"
"""


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ('say <f>{"n": 12}</f> then', True),
        ('<f>{"n": 12, "next": "b"}</f><f>_{"n": 1}_</f>', True),
        ('<f>{"n": 1.5', 10),
        ('<f>{"n": 1, "n"', 14),
        ('<f>{"next": "a"}', 6),
        ("=12a", True),
        ("=-1.5", True),
        ("=1=", None),
        ("==", 1),
    ],
)
def test_json_in_a_grammar(text: str, taken: int | bool | None) -> None:
    """``taken``: True when the text is a sentence, None when it may become one, else the bytes taken."""
    matcher = compile_constraint(Lark(CALLS), TokenTable.from_bytes([bytes([b]) for b in range(256)], [])).matcher()
    for n, byte in enumerate(text.encode()):
        assert bool(byte in matcher.allowed()) == matcher.fork().advance(byte)
        if not matcher.advance(byte):
            assert n == taken
            return
    assert matcher.accepting == bool(taken)
    assert taken in (True, None)


REFUSED = [
    ('start: <|tool|> "a"', "1:8", "no control token"),
    ('start: <[5]> "a"', "1:8", "token 5"),
    ("start: <[*]>", "1:8", "<[*]>"),
    ("start: <[^300]>{2}", "1:8", "<[^300]>"),
    ("start: <[^97]>*", "1:8", "token 97"),
    ('start: t\nt[stop="x"]: /a*/', "2:1", "suffix"),
    ('start: t "y"\nt[stop="x"]: /a*/', "2:1", "stop"),
    ('start: t t "x"\nt[stop="x"]: /a*/', "2:1", "stop"),
    ('start[stop="x"]: /a*/', "1:1", "stop"),
    ('start: t "x"\nt[stop="x", suffix="y"]: /a*/', "2:1", "not both"),
    ("start: t\nt[max_tokens=3]: /a*/", "2:1", "max_tokens"),
    ("start: t\nt[temperature=0.3]: /a*/", "2:1", "temperature"),
    ('%llguidance {"no_forcing": true}\nstart: "a"', "1:1", "no_forcing"),
    ('start: "a"\n%llguidance {"skip_repetition": "once"}', "2:1", "skip_repetition"),
    ("%llguidance []\nstart: A", "1:1", "object"),
    ("start: @other", "1:8", "@other"),
    ('start: %json {"a": }', "1:20", "not JSON"),
    ('start: "a"\n  | %json {"type": "x"}', "2:5", "/type"),
    ('start: %json {"not": {}}', "1:8", "%json"),
    ("start: {2,}", "1:8", "repeated"),
    ("start: %regex {}", "1:8", "substring"),
    ('root ::= "a"', "1:6", "::="),
    ("%import .files.A\nstart: A", "1:10", "file"),
    ("%import secrets.A\nstart: A", "1:9", "secrets"),
    ("%declare X\nstart: X", "1:10", "%declare X"),
    ("start: A\nA: /(a)\\1/", "1:8", "backreference"),
    ("start: A\nA: /^a/", "1:8", "terminal A"),
    ("start: A\nA: /(?<!x)a/", "1:8", "lookbehind"),
    ('start: "a" start', "1:1", "never comes to an end"),
    ('x: "a" start\n?start: "b" x', "2:2", "rule `start` never comes to an end"),
    ("start: /a(?=b)/", "1:1", "never comes to an end"),
    ('start: A\n\n A: "a', "3:5", "not a grammar"),
    ('other: "a"', "1:1", "`start`"),
]


@pytest.mark.parametrize(("grammar", "place", "word"), REFUSED)
def test_refused_with_its_place(grammar: str, place: str, word: str) -> None:
    with pytest.raises(ConstraintError) as refusal:
        compile_lark(Lark(grammar), [True] * 256, 10_000)
    assert refusal.value.pointer == place
    assert word in refusal.value.reason


def test_contextual_has_no_dialect() -> None:
    for grammar in ("start: %json {}", "start: f\nf[lazy]: /a+/", 'start: A "b"\nA: /a*/'):
        with pytest.raises(ConstraintError, match=r"dynamic_complete|empty text"):
            compile_lark(Lark(grammar, semantics="contextual"), [True] * 256, 10_000)


def test_options_are_checked() -> None:
    with pytest.raises(ConstraintError, match="semantics"):
        compile_lark(Lark('start: "a"', semantics="basic"), [True] * 256, 10_000)  # type: ignore[arg-type]
    with pytest.raises(ConstraintError, match="the grammar has no rule `x`"):
        compile_lark(Lark('start: "a"', start="x"), [True] * 256, 10_000)


def test_contracts() -> None:
    table = TokenTable.from_bytes([bytes([b]) for b in range(256)], [])
    assert compile_constraint(Lark("start: /a+/"), table).contract is Contract.EXACT
    assert compile_constraint(Lark("start: /a+/"), table).limits == {"alternatives_at_once": MAX_HEADS}
    looking = compile_constraint(Lark("start: A /.*/\nA: /a+(?!b)/"), table)
    assert looking.contract is Contract.SOUND_SUBSET
    assert "A" in looking.reasons[0]
