r"""ECMA-262's dialect (§22.2.1), as JSON Schema uses it: Unicode mode, with the tolerance that patterns in the wild
need.

A pattern is read as with the ``u`` flag: one code point is one character, ``\u{...}`` and ``\p{...}`` work. Beyond it
we accept what only the web's legacy grammar (Annex B.1.2) accepts and what cannot be misread: a needless backslash
before a character that is no letter or digit (``\-``, ``\_``, ``\"``), a lone ``]``, a ``{`` that begins no
quantifier, and a class escape as the end of a range (``[\w-.]``). A letter that is no escape (``\Z``, ``\a``) stays
an error: authors mean another dialect's anchor or control character by it. Modifiers ``(?ims-ims:...)`` are ES2025's.
Backreferences are refused; groups and laziness do not change the language.
"""

from __future__ import annotations

from dataclasses import dataclass

from grammar.charset import ANY, CharSet
from grammar.errors import ConstraintError, ConstraintTooLarge, UnsupportedConstraint
from grammar.regex.properties import ECMA_DIGIT, ECMA_WORD, LINE_TERMINATOR, ecma_space, unicode_property
from grammar.regex.syntax import (
    END,
    MAX_DEPTH,
    START,
    Ahead,
    Behind,
    Chars,
    Node,
    alt,
    boundary,
    chars,
    has_lookaround,
    line_column,
    repeat,
    seq,
)

_CONTROL = {"t": "\t", "n": "\n", "v": "\v", "f": "\f", "r": "\r"}
_MAX_COUNT = 1 << 32


@dataclass(frozen=True)
class _Flags:
    ignore_case: bool = False
    multiline: bool = False
    dot_all: bool = False


def parse_ecma(pattern: str) -> Node:
    """The syntax tree of ``pattern``. ConstraintError or UnsupportedConstraint with ``line:column``."""
    parser = _Parser(pattern)
    node = parser.alternatives(_Flags(), 0)
    if parser.position < len(pattern):
        raise parser.error("unmatched `)`")
    return node


class _Parser:
    """Recursive descent over the pattern; ``position`` is the next character to read."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.position = 0

    def error(self, reason: str, at: int | None = None) -> ConstraintError:
        place = line_column(self.pattern, self.position if at is None else at)
        return ConstraintError(f"not a regular expression of ECMA-262: {reason}", place)

    def take(self, token: str) -> bool:
        """Read ``token`` if it comes next."""
        if not self.pattern.startswith(token, self.position):
            return False
        self.position += len(token)
        return True

    def peek(self) -> str:
        return self.pattern[self.position : self.position + 1]

    def until(self, end: str, what: str) -> str:
        """The text up to ``end``, which is read too."""
        stop = self.pattern.find(end, self.position)
        if stop < 0:
            raise self.error(f"{what} is not closed by `{end}`")
        text = self.pattern[self.position : stop]
        self.position = stop + len(end)
        return text

    def alternatives(self, flags: _Flags, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise ConstraintTooLarge(
                f"groups are nested more than {MAX_DEPTH} deep", line_column(self.pattern, self.position)
            )
        options = [self.sequence(flags, depth)]
        while self.take("|"):
            options.append(self.sequence(flags, depth))
        return alt(options)

    def sequence(self, flags: _Flags, depth: int) -> Node:
        items: list[Node] = []
        while self.peek() not in ("", "|", ")"):
            begin = self.position
            items.append(self.quantified(self.term(flags, depth), begin))
        return seq(items)

    def quantified(self, body: Node, begin: int) -> Node:
        start = self.position
        bounds = self.quantifier()
        if bounds is None:
            return body
        boundary_escape = self.pattern[begin : begin + 2] in (r"\b", r"\B")
        if body is START or body is END or isinstance(body, Behind) or boundary_escape:
            raise self.error("an assertion cannot be repeated", start)
        self.take("?")
        if self.quantifier() is not None:
            raise self.error("nothing to repeat", self.position - 1)
        return repeat(body, *bounds)

    def quantifier(self) -> tuple[int, int | None] | None:
        """(lo, hi) if a quantifier comes next. A brace that begins none is a literal."""
        start = self.position
        if self.take("*"):
            return 0, None
        if self.take("+"):
            return 1, None
        if self.take("?"):
            return 0, 1
        if not self.take("{"):
            return None
        inside, closed, _ = self.pattern[self.position :].partition("}")
        lo, comma, hi = inside.partition(",")
        if not closed or not _is_number(lo) or (hi and not _is_number(hi)):
            self.position = start
            return None
        self.position += len(inside) + 1
        low, high = int(lo), (int(hi) if hi else None) if comma else int(lo)
        if high is not None and low > high:
            raise self.error("the numbers of a quantifier are out of order", start)
        if low >= _MAX_COUNT or (high or 0) >= _MAX_COUNT:
            raise ConstraintTooLarge("the repetition number is too large", line_column(self.pattern, start))
        return low, high

    def term(self, flags: _Flags, depth: int) -> Node:
        char = self.peek()
        start = self.position
        self.position += 1
        match char:
            case "^":
                return alt((START, Behind(Chars(LINE_TERMINATOR), negated=False))) if flags.multiline else START
            case "$":
                return alt((END, Ahead(Chars(LINE_TERMINATOR), negated=False))) if flags.multiline else END
            case "(":
                return self.group(flags, depth, start)
            case ".":
                return Chars(ANY if flags.dot_all else ~LINE_TERMINATOR)
            case "[":
                return chars(self.character_class(flags))
            case "*" | "+" | "?":
                raise self.error("nothing to repeat", start)
            case "{":
                self.position = start
                if self.quantifier() is not None:
                    raise self.error("nothing to repeat", start)
                self.position = start + 1
                return self.cased(CharSet.of("{"), flags)
            case "\\":
                if self.peek() in ("b", "B"):
                    self.position += 1
                    word = ECMA_WORD.case_closure() if flags.ignore_case else ECMA_WORD
                    return boundary(word, negated=self.pattern[self.position - 1] == "B")
                if self.peek() in tuple("123456789k"):
                    raise UnsupportedConstraint("a backreference is not supported", line_column(self.pattern, start))
                return self.cased(_as_set(self.escape(start)), flags)
            case _:
                return self.cased(CharSet.of(char), flags)

    def cased(self, members: CharSet, flags: _Flags) -> Node:
        return chars(members.case_closure() if flags.ignore_case else members)

    def group(self, flags: _Flags, depth: int, start: int) -> Node:
        kind: type[Ahead] | type[Behind] | None = None
        negated = False
        if self.take("?"):
            for token, assertion, negative in (
                ("=", Ahead, False),
                ("!", Ahead, True),
                ("<=", Behind, False),
                ("<!", Behind, True),
            ):
                if self.take(token):
                    kind, negated = assertion, negative
                    break
            else:
                if self.take("<"):
                    name = self.until(">", "the name of a group")
                    if not name.replace("$", "_").isidentifier():
                        raise self.error(f"`{name}` is not a name for a group", start)
                else:
                    flags = self.modifiers(flags, start)
        body = self.alternatives(flags, depth + 1)
        if not self.take(")"):
            raise self.error("unterminated group", start)
        if kind is Behind and has_lookaround(body):
            place = line_column(self.pattern, start)
            raise UnsupportedConstraint("a lookaround inside a lookbehind is not supported", place)
        return kind(body, negated) if kind else body

    def modifiers(self, flags: _Flags, start: int) -> _Flags:
        """The flags after ``(?`` up to ``:``."""
        stop = self.position
        while self.pattern[stop : stop + 1] and self.pattern[stop] in "ims-":
            stop += 1
        added, _, removed = self.pattern[self.position : stop].partition("-")
        if self.pattern[stop : stop + 1] != ":":
            if self.pattern[stop : stop + 1] == ")" and stop > self.position:
                raise self.error(f"`(?{added})` is not part of ECMA-262; write `(?{added}:...)`", start)
            raise self.error("unknown kind of group", start)
        if "-" in removed or len(set(added + removed)) < len(added + removed):
            raise self.error("a modifier is repeated", start)
        self.position = stop + 1
        values = dict.fromkeys(added, True) | dict.fromkeys(removed, False)
        return _Flags(
            values.get("i", flags.ignore_case), values.get("m", flags.multiline), values.get("s", flags.dot_all)
        )

    def escape(self, start: int) -> int | CharSet:
        """The code point or the class that an escape stands for; its backslash, at ``start``, is read."""
        char = self.peek()
        self.position += 1
        match char:
            case "d" | "D" | "w" | "W" | "s" | "S":
                members = {"d": ECMA_DIGIT, "w": ECMA_WORD}.get(char.lower()) or ecma_space()
                return members if char.islower() else ~members
            case "p" | "P":
                return self.property(start, negated=char == "P")
            case "t" | "n" | "v" | "f" | "r":
                return ord(_CONTROL[char])
            case "0":
                if _is_number(self.peek()):
                    raise self.error("octal escapes are not part of Unicode mode", start)
                return 0
            case "c":
                letter = self.peek()
                if not (letter.isascii() and letter.isalpha()):
                    raise self.error(r"`\c` needs a letter", start)
                self.position += 1
                return ord(letter) % 32
            case "x":
                return self.hexadecimal(2, start)
            case "u":
                return self.unicode_escape(start)
            case "":
                raise self.error("the pattern ends with a backslash", start)
            case _:
                if char.isascii() and char.isalnum():
                    raise self.error(rf"`\{char}` is not an escape", start)
                return ord(char)

    def hexadecimal(self, digits: int, start: int) -> int:
        text = self.pattern[self.position : self.position + digits]
        if len(text) < digits or not _is_hexadecimal(text):
            raise self.error(f"the escape needs {digits} hexadecimal digits", start)
        self.position += digits
        return int(text, 16)

    def unicode_escape(self, start: int) -> int:
        """The code point of ``\\uXXXX``, of a surrogate pair of them, or of ``\\u{...}``."""
        if self.take("{"):
            text = self.until("}", r"`\u{`")
            if not _is_hexadecimal(text) or int(text, 16) > 0x10FFFF:
                raise self.error(f"`{text}` is not a code point", start)
            return int(text, 16)
        high = self.hexadecimal(4, start)
        after = self.position
        if 0xD800 <= high < 0xDC00 and self.take("\\u") and self.peek() != "{":
            low = self.hexadecimal(4, after)
            if 0xDC00 <= low < 0xE000:
                return 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00)
        self.position = after
        return high

    def property(self, start: int, negated: bool) -> CharSet:
        if not self.take("{"):
            raise self.error(r"`\p` needs a property in braces", start)
        text = self.until("}", r"`\p{`")
        name, equals, value = text.partition("=")
        try:
            members = unicode_property(name, value if equals else None)
        except KeyError:
            place = line_column(self.pattern, start)
            raise UnsupportedConstraint(f"the Unicode property `{text}` is not supported", place) from None
        return ~members if negated else members

    def character_class(self, flags: _Flags) -> CharSet:
        """The members of a class; its ``[`` is read."""
        start = self.position - 1
        negated = self.take("^")
        members = CharSet(())
        while not self.take("]"):
            begin = self.position
            low = self.class_atom(start)
            members |= _as_set(low)
            if self.peek() != "-" or self.pattern[self.position + 1 : self.position + 2] in ("", "]"):
                continue
            self.position += 1
            high = self.class_atom(start)
            if not isinstance(low, int) or not isinstance(high, int):
                # `[\w-.]`: the dash stands for itself.
                members |= CharSet.of("-") | _as_set(high)
            elif low > high:
                raise self.error("the range of a class is out of order", begin)
            else:
                members |= CharSet.from_ranges([(low, high)])
        if flags.ignore_case:
            members = members.case_closure()
        return ~members if negated else members

    def class_atom(self, start: int) -> int | CharSet:
        char = self.peek()
        begin = self.position
        self.position += 1
        if char == "":
            raise self.error("unterminated character class", start)
        if char != "\\":
            return ord(char)
        if self.take("b"):
            return ord("\b")
        return ord("-") if self.take("-") else self.escape(begin)


def _as_set(atom: int | CharSet) -> CharSet:
    return CharSet.from_ranges([(atom, atom)]) if isinstance(atom, int) else atom


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _is_hexadecimal(text: str) -> bool:
    return bool(text) and all(c in "0123456789abcdefABCDEF" for c in text)
