"""Values read by the kernel are equal exactly when the values that Python's decoder reads are."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fsm.image import Image
from fsm.values import value_cell
from grammar.json_schema.values import canonical

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.sampled_from([0, 1, 10, 100, -1, 0.5, 1.0, 10.0, 0.1, -0.5, 1e3, 1000, 1e-3, 120])
    | st.sampled_from(["", "a", "1", "ä", "😀", '"\\', "\n\t\b\f\r/", "a\x00"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["", "a", "b", "ä"]), inner, max_size=3)
    ),
    max_leaves=8,
)


def spelled(value: Any, draw: random.Random) -> str:
    """A random spelling of a value."""
    space = draw.choice(["", " ", "\n  "])
    if isinstance(value, list):
        return "[" + space + ("," + space).join(spelled(item, draw) for item in value) + space + "]"
    if isinstance(value, dict):
        members = list(value.items())
        draw.shuffle(members)
        colon = draw.choice([":", " : "])
        return "{" + ("," + space).join(spelled(k, draw) + colon + spelled(v, draw) for k, v in members) + space + "}"
    if isinstance(value, str):
        escaped = json.dumps(value, ensure_ascii=draw.random() < 0.5)
        if draw.random() < 0.3:
            units = value.encode("utf-16-be").hex()
            escaped = '"' + "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4)) + '"'
        return escaped.replace("/", draw.choice(["/", "\\/"]))
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    plain = json.dumps(value)
    forms = [plain, f"{plain}e0", f"{plain}E+00"]
    if "." in plain:
        forms.append(plain + "0")
    elif plain.endswith("0") and value:
        forms.append(plain[:-1] + "e1")
    else:
        forms += [plain + ".0", plain + "0e-1" if value else "-0"]
    return draw.choice(forms)


@settings(max_examples=300, deadline=None)
@given(one=VALUES, other=VALUES, seed=st.integers(0, 2**32))
def test_equal_values_are_equal_cells(one: Any, other: Any, seed: int) -> None:
    draw = random.Random(seed)
    image = Image(0, 8)

    def cell(value: Any) -> int:
        text = spelled(value, draw)
        assert canonical(json.loads(text)) == canonical(value), text
        while (found := value_cell(image.heap, np.frombuffer(text.encode(), np.uint8).copy())) < 0:
            image.make_room()
        return found

    assert cell(one) == cell(one)
    assert (cell(one) == cell(other)) == (canonical(one) == canonical(other))
