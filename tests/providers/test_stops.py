"""Where a stop string ends a text, against a plain search; and which one it was."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from providers.stops import StopFinder

texts = st.text(alphabet="ab", max_size=12)


@settings(max_examples=200)
@given(pieces=st.lists(texts, max_size=6), stops=st.lists(st.text(alphabet="ab", min_size=1, max_size=3), max_size=3))
def test_the_first_stop_string_ends_the_text(pieces: list[str], stops: list[str]) -> None:
    finder = StopFinder(tuple(stops), constrained=False)
    shown = "".join(map(finder.feed, pieces)) + finder.flush()
    whole = "".join(pieces)
    places = [place for stop in stops if (place := whole.find(stop)) >= 0]
    if not places:
        assert (shown, finder.found) == (whole, None)
        return
    assert finder.stopped and finder.found is not None
    # Pieces come one by one, so a stop string that is whole may win over one that began before it.
    assert whole.startswith(shown + finder.found) and finder.found in stops
    assert not any(stop in shown for stop in stops)


@given(text=texts, stop=st.text(alphabet="ab", min_size=1, max_size=2), complete=st.sets(st.integers(0, 11)))
def test_under_a_constraint_a_text_stops_only_where_it_is_complete(text: str, stop: str, complete: set[int]) -> None:
    finder = StopFinder((stop,), constrained=True)
    shown = ""
    for i, letter in enumerate(text):
        shown += finder.feed(letter)
        finder.boundary(i in complete)
    if finder.stopped:
        assert finder.found == stop and text.startswith(shown + stop) and len(shown) - 1 in complete
    else:
        assert shown + finder.flush() == text
