"""A grammar's text through Lark's own loader: what `%import`, templates, ranges and flags mean is Lark's to say.

Imports are Lark's bundled grammars and those that the caller hands in; nothing is read from the file system.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lark.exceptions import GrammarError, LarkError, UnexpectedInput
from lark.grammar import NonTerminal, Rule, Symbol
from lark.lexer import TerminalDef
from lark.load_grammar import Grammar, GrammarBuilder, _get_mangle
from lark.tree import Tree

from grammar.constraint import Indenter
from grammar.errors import ConstraintError, UnsatisfiableConstraint, UnsupportedConstraint
from grammar.lark.dialect import Dialect, translate
from grammar.lark.operators import Marks, mark
from grammar.regex.syntax import line_column

_BUNDLED = ("common", "lark", "python", "unicode")
_MAX_TEXTS = 50
"""Grammars that one imports, each as often as it is."""
_PLACE = re.compile(r",? ?at line (\d+),? column (\d+)")


@dataclass(frozen=True)
class Source:
    """A loaded grammar. ``rules`` hold no EBNF any more; ``ignored`` are terminals' names, in their order. ``text``: as
    it was sent; ``schemas``, ``controls``, ``lazy``, ``runs``, ``skips_first``: as in `Dialect`; ``indenter``: where
    the grammar has one."""

    start: str
    rules: tuple[Rule, ...]
    terminals: dict[str, TerminalDef]
    ignored: tuple[str, ...]
    text: str
    schemas: dict[str, tuple[str, str]]
    controls: dict[str, tuple[str, str]]
    lazy: frozenset[str]
    runs: tuple[str, ...]
    skips_first: bool
    indenter: Indenter | None

    @property
    def newlines(self) -> tuple[str, ...]:
        """The terminal that an Indenter looks at, where there is one."""
        return () if self.indenter is None else (self.indenter.newline,)

    @property
    def declared(self) -> frozenset[str]:
        """The terminals that an Indenter makes."""
        return frozenset() if self.indenter is None else frozenset((self.indenter.indent, self.indenter.dedent))

    def coming_to_an_end(self, terminals: set[str]) -> set[str]:
        """``terminals`` and the rules that some text of them comes of."""
        ending = set(terminals)
        grown = True
        while grown:
            grown = False
            for rule in self.rules:
                if rule.origin.name not in ending and all(symbol.name in ending for symbol in rule.expansion):
                    ending.add(rule.origin.name)
                    grown = True
        return ending

    def endless(self, rule: str) -> UnsatisfiableConstraint:
        """Why a grammar is refused that has no text, or a rule that has none."""
        defined = re.search(rf"^[ \t]*[?!]*({re.escape(rule)})\b[^:\n]*:", self.text, re.MULTILINE)
        place = place_of(self.text, rule) if defined is None else line_column(self.text, defined.start(1))
        return UnsatisfiableConstraint(f"no text matches: rule `{rule}` never comes to an end", place)

    def may_be_empty(self, terminal: str) -> bool:
        """Whether a terminal matches the empty text."""
        return self.terminals[terminal].pattern.min_width == 0


class _Builder(GrammarBuilder):
    """Lark's builder, kept from files. ``imports``: the grammars that may be imported, by name; ``dialect``: what of
    all their texts is not in Lark's notation; ``within``: the names of those that are being imported."""

    def __init__(
        self, imports: Mapping[str, str], dialect: Dialect, marks: Marks, within: tuple[str, ...] = ()
    ) -> None:
        super().__init__()
        self._imports = imports
        self._dialect = dialect
        self._marks = marks
        self._within = within

    def read(self, text: str, mangle: Callable[[str], str] | None = None) -> None:
        """Take in the text of a grammar. ``mangle``: what its names become in the one that imports it. ConstraintError
        with ``line:column``, behind the name of an imported one."""
        try:
            translated = translate(text)
            self._check(text, translated.references)
            self._dialect.take(translated, mangle or str, self._within)
            self.load_grammar(mark(translated.text, self._marks), "the grammar", mangle)
        except (GrammarError, UnexpectedInput) as error:
            refused = _refused(text, error)
            raise type(refused)(refused.reason, ":".join((*self._within, refused.pointer))) from None
        except ConstraintError as error:
            if self._within and error.pointer[:1].isdigit():
                raise type(error)(error.reason, ":".join((*self._within, error.pointer))) from None
            raise

    def _check(self, text: str, references: dict[str, str]) -> None:
        """Refuse references to grammars that do not exist, or that do not ignore what this one does: nothing."""
        for name, place in references.items():
            if name not in self._imports:
                raise UnsupportedConstraint(f"`@{name}`: there is no such grammar among the imports", place)
            if "%ignore" in text or "%ignore" in self._imports[name]:
                reason = "a grammar that is referred to ignores by itself, which is not supported; import its rules"
                raise UnsupportedConstraint(f"`@{name}`: {reason}", place)
        if self._dialect.texts > _MAX_TEXTS:
            raise UnsupportedConstraint(f"more than {_MAX_TEXTS} grammars are imported", "1:1")

    def do_import(
        self,
        dotted_path: tuple[str, ...],
        base_path: str | None,
        aliases: dict[str, str],
        base_mangle: Callable[[str], str] | None = None,
    ) -> None:
        name = str(dotted_path[0])
        if name not in self._imports:
            super().do_import(dotted_path, base_path, aliases, base_mangle)
            return
        mangle = _get_mangle(name, aliases, base_mangle)
        inner = _Builder(self._imports, self._dialect, self._marks, (*self._within, name))
        inner.read(self._imports[name], mangle)
        inner._remove_unused(map(mangle, aliases))
        if known := next((rule for rule in inner._definitions if rule in self._definitions), None):
            raise GrammarError(f"Cannot import {known} from {name}: it is defined already")
        self._definitions.update(inner._definitions)

    def _unpack_import(self, stmt: Any, grammar_name: str) -> Any:
        path = stmt.children[0]
        if path.data != "import_lib":
            raise UnsupportedConstraint("%import from a file is not supported", _place_of(path))
        dotted, base, aliases = super()._unpack_import(stmt, grammar_name)
        if len(dotted) != 1 or dotted[0] not in (*_BUNDLED, *self._imports):
            reason = f"%import from `{'.'.join(dotted)}`: only {', '.join(_BUNDLED)} exist, and what `imports` has"
            raise UnsupportedConstraint(reason, _place_of(path))
        if dotted[0] in self._within:
            raise ConstraintError(f"%import from `{dotted[0]}`, which is what imports this", _place_of(path))
        return dotted, base, aliases

    def indenter(self) -> Indenter | None:
        """The Indenter that the grammar is written for, by the names that it declares."""
        declared = {name for name, it in self._definitions.items() if it.is_term and it.tree is None}
        if not declared.issuperset(("_INDENT", "_DEDENT")):
            return None
        newline = "_NL" if "_NL" in self._definitions and "_NEWLINE" not in self._definitions else "_NEWLINE"
        return Indenter(newline)


def load(
    text: str,
    start: str,
    indenter: Indenter | None = None,
    imports: Mapping[str, str] | None = None,
    *,
    repeats: bool = False,
) -> Source:
    """The grammar's rules and terminals. ``repeats``: a rule may say the same twice, ``a: b c* | b``, which Lark
    refuses and llguidance reads. ConstraintError with ``line:column`` for what Lark refuses."""
    dialect = Dialect("")
    builder = _Builder(_checked(imports or {}), dialect, Marks())
    builder.read(text)
    try:
        indenter = indenter or builder.indenter()
        kept = {stop for stop, _ in dialect.stops.values()} | (set() if indenter is None else {indenter.newline})
        terminals, rules, ignored = _compiled(builder.build(), start, kept, repeats)
    except (GrammarError, UnexpectedInput) as error:
        raise _refused(text, error) from None
    except re.error as error:
        raise ConstraintError(f"not a regular expression of Python: {error}", "1:1") from None
    if not any(rule.origin == NonTerminal(start) for rule in rules):
        raise ConstraintError(f"the grammar has no rule `{start}` to start with", "1:1")
    known = {terminal.name: terminal for terminal in terminals}
    source = Source(
        start, _stopped(rules, known, dialect.stops, start), known, tuple(dict.fromkeys(ignored)), text,
        dialect.schemas, dialect.controls, frozenset(dialect.lazy), tuple(dialect.runs), dialect.skips_first, indenter,
    )  # fmt: skip
    _check_declared(source)
    return source


def _checked(imports: Mapping[str, str]) -> Mapping[str, str]:
    if len(imports) > _MAX_TEXTS:
        raise UnsupportedConstraint(f"more than {_MAX_TEXTS} grammars are imported", "1:1")
    for name in imports:
        if name in _BUNDLED or not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise ConstraintError(f"a grammar to import cannot be called `{name}`", "1:1")
    return imports


def _compiled(grammar: Grammar, start: str, kept: set[str], repeats: bool) -> Any:
    try:
        return grammar.compile([start], kept)
    except GrammarError as error:
        if not repeats or not str(error).startswith("Rules defined twice"):
            raise
    _give_parts_rules(grammar)
    return grammar.compile([start], kept)


def _give_parts_rules(grammar: Grammar) -> None:
    """Give each option and each repetition in a rule a rule of its own, so that no two come to the same."""
    parts: list[tuple[str, tuple[str, ...], Tree[Any], Any]] = []

    def part(tree: Tree[Any], options: Any) -> Tree[Any]:
        name = f"__part_{len(parts)}"
        expansion = tree if tree.data == "expansion" else Tree("expansion", [tree])
        parts.append((name, (), Tree("expansions", [expansion]), options))
        return Tree("expansion" if tree.data == "expansion" else "value", [NonTerminal(name)])

    for _, params, tree, options in list(grammar.rule_defs):
        for below in list(tree.iter_subtrees()) if not params else ():
            for i, child in enumerate(below.children):
                if not isinstance(child, Tree):
                    continue
                if child.data == "alias":
                    child = below.children[i] = child.children[0]
                if child.data in ("expr", "maybe") or (below.data == "expansions" and len(below.children) > 1):
                    below.children[i] = part(child, options)
    grammar.rule_defs += parts


def _stopped(
    rules: list[Rule], terminals: dict[str, TerminalDef], stops: dict[str, tuple[str, str]], start: str
) -> tuple[Rule, ...]:
    """The rules, without what stands behind a rule with a ``stop``: it has been read with it."""
    found: list[Rule] = []
    for rule in rules:
        expansion: list[Symbol] = []
        behind = ""
        for symbol in (*rule.expansion, None):
            if behind:
                stop, place = stops[behind]
                given = None if symbol is None else terminals.get(symbol.name)
                if given is None or given.pattern.to_regexp() != terminals[stop].pattern.to_regexp():
                    raise _taken_back(behind, place)
            elif symbol is not None:
                expansion.append(symbol)
            behind = symbol.name if symbol is not None and symbol.name in stops else ""
        found.append(Rule(rule.origin, expansion, rule.order, rule.alias, rule.options))
    if start in stops:
        raise _taken_back(start, stops[start][1])
    return tuple(found)


def _taken_back(rule: str, place: str) -> UnsupportedConstraint:
    reason = f"`stop` takes back what was written, unless the same text stands behind `{rule}` wherever it is used"
    return UnsupportedConstraint(f"{reason}; write it there, or ask for a `suffix`", place)


def _check_declared(source: Source) -> None:
    """Refuse terminals that nobody says what they match."""
    known = source.terminals.keys() | source.schemas.keys() | source.controls.keys() | source.declared
    for rule in source.rules:
        for symbol in rule.expansion:
            if symbol.is_term and symbol.name not in known:
                what = f"%declare {symbol.name}: nothing says what the terminal matches"
                raise UnsupportedConstraint(what, place_of(source.text, symbol.name))
    indenter = source.indenter
    if indenter is not None and indenter.newline not in source.terminals:
        reason = f"the grammar has no terminal {indenter.newline}, whose tokens the Indenter looks at"
        raise ConstraintError(reason, "1:1")
    if indenter is not None and indenter.tab_len < 1:
        raise ConstraintError(f"a tab is worth at least one column, not {indenter.tab_len}", "1:1")


def place_of(text: str, name: str) -> str:
    """``line:column`` of the first mention of a name in the grammar; 1:1 for names that Lark has made up."""
    found = re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text)
    if found is None:
        return "1:1"
    return line_column(text, found.start())


def _place_of(tree: Any) -> str:
    token = tree.children[0]
    return f"{getattr(token, 'line', None) or 1}:{getattr(token, 'column', None) or 1}"


def _refused(text: str, error: LarkError) -> ConstraintError:
    if found := re.search(r"^\s*[\w-]+\s*(::=)", text, re.MULTILINE):
        reason = "`::=` is another notation (EBNF, GBNF): a rule of Lark is `name: ...`"
        return ConstraintError(reason, line_column(text, found.start(1)))
    message = str(error).split("\n\n")[0].strip()
    place = "1:1"
    if isinstance(error, UnexpectedInput):
        place = f"{max(error.line, 1)}:{max(error.column, 1)}"
    elif found := _PLACE.search(message):
        place = f"{found[1]}:{found[2]}"
    message = _PLACE.sub("", message).removesuffix(" in the grammar:").removesuffix(":").replace("\n", " ")
    return ConstraintError(f"not a grammar of Lark: {message}", place)
