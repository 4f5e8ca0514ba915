"""Sets of text lengths as bits of one integer: bit n is set when a text of n code points exists.

Lengths are known up to a ``cap``; bit ``cap`` stands for "cap or more". Sums of sets (lengths of concatenations)
shift one operand by each run of the other, in O(log run) operations on whole integers.
"""

from __future__ import annotations


def saturate(bits: int, cap: int) -> int:
    """Fold everything above ``cap`` into bit ``cap``."""
    if bits >> (cap + 1):
        return (bits & ((1 << (cap + 1)) - 1)) | 1 << cap
    return bits


def spread(bits: int, width: int) -> int:
    """The union of ``bits`` shifted by 0, 1, ..., width."""
    reached = 0
    while reached < width:
        step = min(reached + 1, width - reached)
        bits |= bits << step
        reached += step
    return bits


def runs(bits: int, cap: int, lo: int, hi: int | None) -> tuple[tuple[int, int | None], ...]:
    """The lengths as runs (first, last), as far as they tell whether one is left between a lower bound that is at most
    ``lo`` and an upper one that is at most ``hi``: a last one of None is as good as any number."""
    found: list[tuple[int, int | None]] = []
    first = 0
    while bits:
        skipped = (bits & -bits).bit_length() - 1
        bits >>= skipped
        first += skipped
        width = (~bits & (bits + 1)).bit_length() - 1
        last = first + width - 1
        if hi is not None and first > hi:
            break
        endless = last >= cap or last >= lo
        found.append((0 if hi is None else first, None if endless else last))
        if endless:
            break  # what comes later is longer, and long enough already is this
        bits >>= width
        first += width
    return tuple(found)


def add(one: int, two: int, cap: int) -> int:
    """All sums of a member of ``one`` and a member of ``two``."""
    if one.bit_count() > two.bit_count():
        one, two = two, one
    total = 0
    while one:
        start = (one & -one).bit_length() - 1
        run = one >> start
        width = (~run & (run + 1)).bit_length() - 1
        total = saturate(total | spread(two, width - 1) << start, cap)
        one &= ~(((1 << width) - 1) << start)
    return total


def times(bits: int, lo: int, hi: int | None, cap: int) -> int:
    """All sums of lo to hi members, hi None = any number from lo on."""
    exact = _power(bits, lo, cap)
    if hi is None:
        return add(exact, _closure(bits, cap), cap)
    return add(exact, _power(bits | 1, hi - lo, cap), cap)


def _power(bits: int, count: int, cap: int) -> int:
    result = 1
    while count:
        if count & 1:
            result = add(result, bits, cap)
        bits = add(bits, bits, cap)
        count >>= 1
    return result


def _closure(bits: int, cap: int) -> int:
    """All sums of any number of members. One that is a sum already adds nothing."""
    reached = 1
    while missing := bits & ~reached:
        member = (missing & -missing).bit_length() - 1
        while (larger := saturate(reached | reached << member, cap)) != reached:
            reached = larger
            member *= 2
    return reached
