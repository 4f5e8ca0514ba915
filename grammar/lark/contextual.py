"""``contextual``: Lark's LALR(1) parser with its contextual lexer, table for table.

The parser's table is the one that Lark computes, conflicts settled as Lark settles them. In each state Lark's lexer
tries the terminals that the state has an action for, and those to be ignored, in an order of its own; a string that a
regular expression matches too is no competitor but a word that the expression's token may turn out to be.
"""

from __future__ import annotations

import re
from typing import Any

from lark.common import ParserConf
from lark.exceptions import GrammarError
from lark.grammar import Rule
from lark.lexer import TerminalDef, _create_unless
from lark.parsers.lalr_analysis import LALR_Analyzer, Shift

from grammar.errors import ConstraintError
from grammar.lark.lexemes import Scanner
from grammar.lark.source import Source

END_OF_TEXT = "$END"


class ContextualTable:
    """A grammar's LALR(1) table. States are Lark's numbers."""

    def __init__(self, source: Source) -> None:
        conf = ParserConf(list(source.rules), {}, [source.start])
        analyzer = LALR_Analyzer(conf)
        try:
            analyzer.compute_lalr()
        except GrammarError as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            reason = f"the grammar is not LALR(1), as `contextual` needs it: {' '.join(lines)}"
            raise ConstraintError(reason, "1:1") from None
        table: Any = analyzer.parse_table
        self.start: int = table.start_states[source.start]
        self.end: int = table.end_states[source.start]
        self._source = source
        self._rules = {rule: number for number, rule in enumerate(source.rules)}
        self._actions: dict[int, dict[str, Any]] = table.states
        self._scanners: dict[int, Scanner] = {}
        self._by_terminals: dict[frozenset[str], Scanner] = {}

    def shift(self, state: int, symbol: str) -> int | None:
        """The state after a terminal or rule, None where there is no such action."""
        action, target = self._actions[state].get(symbol, (None, None))
        return target if action is Shift else None

    def reduction(self, state: int, terminal: str) -> int | None:
        """The rule (index in `Source.rules`) to reduce when ``terminal`` comes next, or None."""
        action, rule = self._actions[state].get(terminal, (None, None))
        return None if action is None or action is Shift else self._rules[rule]

    def scanner(self, state: int) -> Scanner:
        """What Lark's lexer tries in a state."""
        found = self._scanners.get(state)
        if found is None:
            defined = self._source.terminals
            names = frozenset(name for name in (*self._actions[state], *self._source.ignored) if name in defined)
            found = self._by_terminals.get(names)
            if found is None:
                found = self._by_terminals[names] = _scanner([defined[n] for n in names], self._source.ignored)
            self._scanners[state] = found
        return found


def _scanner(terminals: list[TerminalDef], ignored: tuple[str, ...]) -> Scanner:
    terminals.sort(key=lambda t: (-t.priority, -t.pattern.max_width, -len(t.pattern.value), t.name))
    tried, callbacks = _create_unless(terminals, 0, re, False)
    words = tuple(
        (name, tuple(word.name for word in callback.scanner.terminals))
        for name, callback in callbacks.items()
        if name not in ignored
    )
    return Scanner(tuple(terminal.name for terminal in tried), words, frozenset(ignored))


def expansion_of(rule: Rule) -> tuple[str, ...]:
    return tuple(symbol.name for symbol in rule.expansion)
