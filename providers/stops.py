"""Stop strings over a growing text: what may be shown, what must be held back, and where the text ends."""

from __future__ import annotations

from bisect import bisect_left


class StopFinder:
    """Finds the first stop string in one choice's text. Text that could still become a stop string is held back.

    Under a constraint a stop string acts only where the text before it is a complete sentence, so the places where it
    is are told with `boundary`."""

    def __init__(self, stops: tuple[str, ...], constrained: bool) -> None:
        self._stops = stops
        self._constrained = constrained
        self._boundaries: list[int] = [0] if not constrained else []
        self._held = ""
        self._shown = 0
        """Characters given out so far."""
        self.found: str | None = None
        """The stop string at which the text ended."""

    @property
    def stopped(self) -> bool:
        return self.found is not None

    def boundary(self, complete: bool) -> None:
        """The text fed so far ends at a token; ``complete``: it is a complete sentence."""
        if self._constrained and complete:
            self._boundaries.append(self._shown + len(self._held))

    def feed(self, text: str) -> str:
        """The text that can be shown now. After `stopped` nothing more is."""
        if not self._stops:
            self._shown += len(text)
            return text
        if self.stopped:
            return ""
        self._held += text
        start = 0
        while True:
            place = min((p for s in self._stops if (p := self._held.find(s, start)) >= 0), default=-1)
            if place < 0:
                break
            if self._may_stop_at(place):
                self.found = next(s for s in self._stops if self._held.startswith(s, place))
                return self._give(place)
            start = place + 1
        return self._give(len(self._held) - self._possible_stop())

    def flush(self) -> str:
        """What was held back, when the choice has ended."""
        return "" if self.stopped else self._give(len(self._held))

    def _may_stop_at(self, place: int) -> bool:
        if not self._constrained:
            return True
        at = self._shown + place
        i = bisect_left(self._boundaries, at)
        return i < len(self._boundaries) and self._boundaries[i] == at

    def _possible_stop(self) -> int:
        """Length of the longest end of the held text that begins a stop string."""
        longest = 0
        for stop in self._stops:
            for n in range(min(len(stop) - 1, len(self._held)), longest, -1):
                if stop.startswith(self._held[-n:]):
                    longest = n
                    break
        return longest

    def _give(self, n: int) -> str:
        given, self._held = self._held[:n], self._held[n:]
        self._shown += n
        return given
