"""Asks llguidance what it takes of the dialect's grammars, and writes llguidance.json for test_llguidance.py.

    python -m tests.grammar.lark.ask_llguidance          (where llguidance is installed; the tests do not need it)

A text is a list of token ids of llguidance's byte tokenizer: bytes, and control tokens from 256 on.
"""

from __future__ import annotations

import json
import random
from itertools import product
from pathlib import Path
from typing import Any

STORED = Path(__file__).with_name("llguidance.json")

GRAMMARS = {
    "suffix": ('start: t "a"\nt[suffix="<e>"]: /[ax<]*/', "ax<e>", 5),
    "suffix that is a terminal": ('start: t "!" t\nt[suffix=E]: /a*/\nE: "b" | "c"', "abc!", 6),
    "lazy": ('start: t "b"*\nt[lazy]: /a+b/', "ab", 6),
    "lazy that matches at once": ('start: f "1"?\nf[lazy]: /[0-9]+/', "1", 4),
    "lazy of several": ('start: (f | g)* "c"\nf[lazy]: /[ab]*b/\ng: "a" "c"', "abc", 6),
    "capture": ('start: f "b"\nf[capture="x"]: /a+/', "ab", 5),
    "words": ('start: W "!"\nW: %regex {"substring_words": "ab a b"}', "ab !", 6),
    "characters": ('start: W\nW: %regex {"substring_chars": "aba"}', "ab", 5),
    "chunks": ('start: W "."\nW: %regex {"substring_chunks": ["a", "ab", "b"]}', "ab.", 6),
    "counts": ('start: "a"{2,3} ("b" "a"?){1,2} "c"{2}', "abc", 7),
    "open counts": ('start: "a"{2,} ("b" | "ab"){,2} /c/{1,}', "abc", 7),
    "open counts of names": ('start: x{1,} T{0,}\nx: "a" "b"\nT: "c"', "abc", 6),
    "open counts of groups": ('start: ("a" "b"){2,} (("b")){3,} /[)]/', "ab)", 8),
    "names with a hyphen": ('start: a-b | c-d "b"\na-b: "a" "b"\nc-d: "b"', "ab", 4),
    "control token": ('start: "a" <|system|> "b"?', "ab", 4),
    "control tokens": ('start: (<[256-258]> | <[260]> | "b")+', "ab", 3),
    "optional control token": ('start: /a*/ <|user|>? "b"', "ab", 4),
    "empty terminals": ('start: T "b" T\nT: /a*/', "ab", 5),
    "left recursion": ('start: start "+" t | t\nt: "a" | "(" start ")"', "a+()", 6),
    "stop that is written again": ('start: t "<e>" "x"\nt[stop="<e>"]: /[a<]*/', "a<e>x", 6),
    "stop at the end": ('start: t "b"\nt[stop=""]: /a*/', "ab", 5),
    "both": ('start: A "!"\nA: /[ab]*/ & /(aa|b)*/ & ~/.*bb.*/', "ab!", 6),
    "negation in the midst": ('start: A\nA: "a" ~"b"~2 "b" | ~/[ab]*/ & "c"', "abc", 5),
    "operators bind": ('start: A\nA: "a" & /[ab]/ | ~"b"+ & /b*c?/', "abc", 5),
    "any control tokens and text": ("start: <[*]>*", "ab", 3),
    "other control tokens and text": ('start: <[^256-258]>+ <[257]> "a"', "ab", 3),
    "all control tokens but one and text": ("start: <[^260]>* <[260]>", "ab", 3),
    "ambiguity": ('start: start start | "a" | "ab" | "b"', "ab", 5),
}

MORE = [
    "<e>a",
    "xa<e>a",
    "abababbb)",
    "abbbb)",
    "ababbb)",
    "ababbbb)",
    "aab",
    "aabcc",
    "aaabacc",
    "[true,true]e",
    "(a)+a",
]


def texts(alphabet: str, length: int, controls: bool) -> list[list[int]]:
    """All short texts, and some of the longer ones."""
    letters = [*alphabet.encode(), *(range(256, 261) if controls else ())]
    every = [list(text) for n in range(length + 1) for text in product(letters, repeat=n)]
    short = [text for text in every if len(text) <= 3]
    rest = [text for text in every if len(text) > 3]
    return short + random.Random(0).sample(rest, min(len(rest), 1200)) + [list(text.encode()) for text in MORE]


def main() -> None:
    import llguidance  # pyright: ignore[reportMissingImports]

    tokenizer = llguidance.LLTokenizer("byte")
    found: list[dict[str, Any]] = []
    for name, (grammar, alphabet, length) in GRAMMARS.items():
        matcher = llguidance.LLMatcher(tokenizer, llguidance.LLMatcher.grammar_from_lark(grammar))
        assert not matcher.is_error(), (name, matcher.get_error())
        taken: list[list[int]] = []
        for text in texts(alphabet, length, "control" in name):
            fresh = matcher.deep_copy()
            if fresh.validate_tokens(text) == len(text) and fresh.consume_tokens(text) and fresh.is_accepting():
                taken.append(text)
        found.append({"name": name, "accepted": taken})
        print(f"{name}: {len(taken)} accepted")
    version = llguidance.get_version()
    STORED.write_text(
        json.dumps({"llguidance": version, "controls": tokenizer.dbg_tokens(list(range(256, 262))), "verdicts": found})
        + "\n"
    )


if __name__ == "__main__":
    main()
