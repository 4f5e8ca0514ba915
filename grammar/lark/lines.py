r"""Lines and blocks, as Lark's Indenter sees them (lark/indenter.py).

The Indenter stands between lexer and parser. Behind each newline token it counts the columns that follow the token's
last line break, and compares them with those of the blocks that are open:

    further in than the innermost     the newline token, then an indent token, which opens a block
    as far as one of them             the newline token, then a dedent token for each block further in
    anything else                     no text of the grammar

Between parentheses newline tokens are dropped. At the end of the text all blocks end.

A machine that reads byte by byte knows the columns only when the token has ended, and by then may be in a line that the
parser has no use for. So all outcomes are begun together, each with the columns that its line must come to (`Line`),
and the parser is given what each of them means before the first byte of the newline token is read: none is begun that
the parser's stack does not allow (contextual.py).
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

MAX_BLOCKS = 32
"""Blocks inside one another; Python has 100. Each is an alternative at the beginning of a line."""

MAX_COLUMNS = 128
"""How far a block may be indented."""

_NO_BREAK = -1
_TAB, _BREAK, _SPACE, _BACKSLASH = 0x09, 0x0A, 0x20, 0x5C
_ESCAPES = {ord("t"): _TAB, ord("n"): _BREAK}
_TOLD = (_TAB, _BREAK, _SPACE, _BACKSLASH, *_ESCAPES)
"""Bytes that may say something about columns."""


class Layout(NamedTuple):
    """Where an Indenter is: the columns of the blocks that are open, the outermost first, and how many parentheses."""

    columns: tuple[int, ...] = (0,)
    parens: int = 0


FLAT = Layout()
"""Before a text, and wherever there is no Indenter."""


class Line(NamedTuple):
    """How far a newline token has come. Its line must be indented by ``least`` to ``most`` columns (``most`` below 0:
    nobody counts), and ``opens`` a block there or goes on in one; ``column``: how far it is, not counted beyond
    ``most``; below 0 before the first line break. ``quoted``: the text stands in a JSON string, where tabs and line
    breaks are escapes; ``escaped``: one has begun."""

    least: int
    most: int
    opens: bool
    tab_len: int
    column: int = _NO_BREAK
    quoted: bool = False
    escaped: bool = False

    @property
    def fits(self) -> bool:
        """Whether the token may end here. Lark's Indenter knows no newline token without a line break."""
        return self.most < 0 or self.least <= self.column <= self.most

    def reads(self, lo: int, hi: int) -> list[tuple[int, int, Line]]:
        """(lo, hi, line after them) for the bytes lo..hi, ascending."""
        if self.most < 0:
            return [(lo, hi, self)]
        cuts = {lo, hi + 1, *(cut for byte in _TOLD for cut in (byte, byte + 1) if lo < cut <= hi)}
        return [(first, stop - 1, self._after(first)) for first, stop in pairwise(sorted(cuts))]

    def _after(self, byte: int) -> Line:
        if self.escaped:
            line, byte = self._replace(escaped=False), _ESCAPES.get(byte, 0)
        elif self.quoted and byte == _BACKSLASH:
            return self._replace(escaped=True)
        else:
            line = self
        if byte == _BREAK:
            return line._replace(column=0)
        if line.column == _NO_BREAK or byte not in (_TAB, _SPACE):
            return line
        wide = 1 if byte == _SPACE else line.tab_len
        return line._replace(column=min(line.column + wide, line.most + 1))


UNCOUNTED = Line(0, -1, False, 1)
"""A newline token between parentheses."""
