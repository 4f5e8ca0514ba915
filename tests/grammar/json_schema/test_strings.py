"""Classes of strings: how many there are of each."""

from __future__ import annotations

import re
from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from grammar.json_schema.shapes import StringShape
from grammar.json_schema.strings import Strings

TEXTS = ["".join(letters) for length in range(5) for letters in product("ab", repeat=length)]
pieces = st.sampled_from(["a", "b", "[ab]", "a?", "(?:ab)?", "b{0,2}", "(?!b)", "(?:a|bb)"])


@given(st.lists(st.lists(pieces, max_size=2).map("".join), min_size=1, max_size=2), st.integers(0, 12))
def test_few_strings_are_listed_and_many_are_not(wanted: list[str], most: int) -> None:
    patterns = [f"^(?:{text})$" for text in wanted]
    expected = [text for text in TEXTS if all(re.search(pattern, text) for pattern in patterns)]
    strings, names = Strings([True] * 256, 10_000), StringShape(patterns=tuple(patterns))
    if not strings.productive(names):
        assert not expected
    elif len(expected) <= most:
        assert strings.few(names, most) == sorted(expected)
    else:
        assert strings.few(names, most) is None


def test_counting_strings_ends_as_soon_as_there_are_enough() -> None:
    strings = Strings([True] * 256, 10_000)
    for pattern in (".*", "^a*$", "^(?:a{50}b)*$", "^.{1,255}$"):
        names = StringShape(patterns=(pattern,))
        assert strings.few(names, 3) is None
        assert strings.patterned(names).n_states < 400
