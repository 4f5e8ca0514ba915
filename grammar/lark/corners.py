"""Corners of an LR automaton: states in which a parser may begin what it can never finish.

A table is built from rules alone and takes every terminal for readable. A lexer may know better: where another terminal
always wins, or nothing that follows can fulfil a lookahead, a token never comes. Then what needs it must not be begun.
`viable_symbols` says which symbols lead on, by least fixpoints over the automaton's items.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

Item = tuple[str, tuple[str, ...], int]
"""(origin, symbols, symbols read)"""


def viable_symbols(
    states: Mapping[int, Sequence[Item]],
    goto: Callable[[int, str], int | None],
    readable: Callable[[int, str], bool],
    is_rule: Callable[[str], bool],
) -> set[tuple[int, str]]:
    """The (state, symbol) that lead to the end of something. ``states``: all items of each, kernel and closure.
    ``readable``: whether a terminal can come in a state."""
    finished: set[tuple[int, str]] = set()
    """(state, rule): a text of the rule can be read from the state."""

    def completes(state: int | None, symbols: tuple[str, ...], dot: int) -> bool:
        for symbol in symbols[dot:]:
            if state is None:
                return False
            if (state, symbol) not in finished if is_rule(symbol) else not readable(state, symbol):
                return False
            state = goto(state, symbol)
        return True

    begun = [(state, origin, symbols) for state, items in states.items() for origin, symbols, dot in items if dot == 0]
    grown = True
    while grown:
        grown = False
        for state, origin, symbols in begun:
            if (state, origin) not in finished and completes(state, symbols, 0):
                finished.add((state, origin))
                grown = True
    viable: set[tuple[int, str]] = set()
    for state, items in states.items():
        wanted: set[str] = set()
        needed = [item for item in items if item[2] > 0 or item[0].startswith("$root")]
        while needed:
            origin, symbols, dot = needed.pop()
            if dot == len(symbols) or not completes(state, symbols, dot):
                continue
            viable.add((state, symbols[dot]))
            if is_rule(symbols[dot]) and symbols[dot] not in wanted:
                wanted.add(symbols[dot])
                needed += [item for item in items if item[0] == symbols[dot] and item[2] == 0]
    return viable
