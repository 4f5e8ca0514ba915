"""Reading a structural tag: the JSON that vLLM, SGLang and xgrammar take, to formats; errors name the place.

{"type": "structural_tag", "format": {"type": "triggered_tags", ...}}              xgrammar's own
{"type": "structural_tag", "structures": [{begin, schema, end}], "triggers": []}   its older form

One format is an addition: ``{"type": "json_string", "content": ...}``, a JSON string whose value is matched by a
``regex`` or is a sentence of a ``lark`` grammar (``{"type": "lark", "grammar": "start: ..."}``, and how it is read, see
`_grammar`). A grammar stands in such quotes only, which tell where it ends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from grammar.constraint import Indenter, JsonSchema, Lark, Regex
from grammar.errors import ConstraintError, UnsupportedConstraint
from grammar.structural.formats import (
    ConstString,
    Either,
    Format,
    FreeText,
    Joined,
    Json,
    Pattern,
    Quoted,
    Repeated,
    Sentence,
    Separated,
    Tag,
)  # fmt: skip

MAX_DEPTH = 64
"""Formats within formats."""


def read(document: Any) -> Format:
    """The format of a decoded structural tag. ConstraintError with the JSON pointer of what is wrong."""
    top = _Fields(document, "")
    if top.text("type") != "structural_tag":
        raise ConstraintError("a structural tag has the type structural_tag", "/type")
    if "structures" in top.values:
        return _older(top)
    made = _format(top.take("format"), "/format", 0)
    top.done()
    return made


class _Fields:
    """The fields of one object; each is taken once, and what is left at the end is refused by name."""

    def __init__(self, value: Any, pointer: str) -> None:
        if not isinstance(value, Mapping):
            raise ConstraintError("must be an object", pointer)
        self.values = dict(cast("Mapping[str, Any]", value))
        self.pointer = pointer

    def take(self, name: str) -> Any:
        if name not in self.values:
            raise ConstraintError(f"{name} is missing", self.pointer)
        return self.values.pop(name)

    def text(self, name: str) -> str:
        return self._text(self.take(name), f"{self.pointer}/{name}")

    def flag(self, name: str) -> bool:
        value = self.values.pop(name, False)
        if not isinstance(value, bool):
            raise ConstraintError(f"{name} must be true or false", f"{self.pointer}/{name}")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        value = self.values.pop(name, None) or []
        if not isinstance(value, list):
            raise ConstraintError(f"{name} must be an array of strings", f"{self.pointer}/{name}")
        return tuple(self._text(text, f"{self.pointer}/{name}/{i}") for i, text in enumerate(cast("list[Any]", value)))

    def items(self, name: str) -> list[tuple[Any, str]]:
        """(element, its pointer) of an array that is not empty."""
        value = self.take(name)
        if not isinstance(value, list) or not value:
            raise ConstraintError(f"{name} must be an array with something in it", f"{self.pointer}/{name}")
        return [(item, f"{self.pointer}/{name}/{i}") for i, item in enumerate(cast("list[Any]", value))]

    def count(self, name: str) -> int:
        value = self.take(name)
        if not isinstance(value, int) or isinstance(value, bool):
            raise ConstraintError(f"{name} must be an integer", f"{self.pointer}/{name}")
        return value

    def done(self) -> None:
        """Refuse fields that nobody took; null and an empty list ask for nothing."""
        for name, value in self.values.items():
            if value is not None and value != []:
                raise UnsupportedConstraint(f"{name} is not supported here", f"{self.pointer}/{name}")

    @staticmethod
    def _text(value: Any, pointer: str) -> str:
        if not isinstance(value, str):
            raise ConstraintError("must be a string", pointer)
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ConstraintError("the string contains a lone surrogate", pointer) from None
        return value


def _format(value: Any, pointer: str, depth: int) -> Format:
    if depth > MAX_DEPTH:
        raise ConstraintError(f"formats are nested more than {MAX_DEPTH} deep", pointer)
    fields = _Fields(value, pointer)
    kind = fields.text("type")
    reader = _READERS.get(kind)
    if reader is None:
        raise UnsupportedConstraint(f"the format {kind!r} is not supported", f"{pointer}/type")
    made = reader(fields, depth + 1)
    fields.done()
    return made


def _const_string(fields: _Fields, _: int) -> Format:
    return ConstString(fields.text("value"))


def _json_schema(fields: _Fields, _: int) -> Format:
    schema = fields.take("json_schema")
    order = "any" if fields.flag("any_order") else "schema"
    if fields.values.pop("style", "json") != "json":
        raise UnsupportedConstraint("only the style json is supported", f"{fields.pointer}/style")
    return Json(JsonSchema(schema, property_order=order), f"{fields.pointer}/json_schema")


def _regex(fields: _Fields, _: int) -> Format:
    return Pattern(Regex(fields.text("pattern")), f"{fields.pointer}/pattern")


def _json_string(fields: _Fields, _: int) -> Format:
    content = _Fields(fields.take("content"), f"{fields.pointer}/content")
    kind = content.text("type")
    if kind == "regex":
        inside = Pattern(Regex(content.text("pattern")), f"{content.pointer}/pattern")
    elif kind == "lark":
        inside = Sentence(_grammar(content), f"{content.pointer}/grammar")
    else:
        raise UnsupportedConstraint(f"a json_string holds a regex or a lark, not {kind!r}", f"{content.pointer}/type")
    content.done()
    return Quoted(inside)


def _grammar(fields: _Fields) -> Lark:
    """``start``, ``semantics``, ``indenter`` and ``imports`` as `grammar.constraint.Lark` has them, where they are
    given."""
    asked = Lark(fields.text("grammar"), **_given(fields, fields.text, ("start", "semantics")))
    if fields.values.get("imports") is not None:
        texts = _Fields(fields.take("imports"), f"{fields.pointer}/imports")
        asked = replace(asked, imports={name: texts.text(name) for name in list(texts.values)})
    if fields.values.get("indenter") is None:
        return asked
    inside = _Fields(fields.take("indenter"), f"{fields.pointer}/indenter")
    told = _given(inside, inside.text, ("newline", "indent", "dedent"))
    told |= _given(inside, inside.texts, ("open_parens", "close_parens")) | _given(inside, inside.count, ("tab_len",))
    inside.done()
    return replace(asked, indenter=Indenter(**told))


def _given(fields: _Fields, take: Callable[[str], Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: take(name) for name in names if fields.values.get(name) is not None}


def _lark(fields: _Fields, _: int) -> Format:
    reason = "a grammar can stand in a json_string only, whose quotes tell where it ends"
    raise UnsupportedConstraint(reason, f"{fields.pointer}/type")


def _any_text(fields: _Fields, _: int) -> Format:
    return FreeText(excludes=_excludes(fields), pointer=fields.pointer)


def _sequence(fields: _Fields, depth: int) -> Format:
    return Joined(tuple(_format(item, pointer, depth) for item, pointer in fields.items("elements")))


def _or(fields: _Fields, depth: int) -> Format:
    return Either(tuple(_format(item, pointer, depth) for item, pointer in fields.items("elements")))


def _optional(fields: _Fields, depth: int) -> Format:
    return Repeated(_content(fields, depth), 0, 1)


def _star(fields: _Fields, depth: int) -> Format:
    return Repeated(_content(fields, depth), 0, None)


def _plus(fields: _Fields, depth: int) -> Format:
    return Repeated(_content(fields, depth), 1, None)


def _repeat(fields: _Fields, depth: int) -> Format:
    least, most = fields.count("min"), fields.count("max")
    if least < 0:
        raise ConstraintError("min is below 0", f"{fields.pointer}/min")
    if most != -1 and most < least:
        raise ConstraintError("max is below min, and not -1", f"{fields.pointer}/max")
    return Repeated(_content(fields, depth), least, None if most == -1 else most)


def _content(fields: _Fields, depth: int) -> Format:
    return _format(fields.take("content"), f"{fields.pointer}/content", depth)


def _tag(fields: _Fields, depth: int) -> Tag:
    begin = fields.text("begin")
    content = _content(fields, depth)
    if isinstance(fields.values.get("end"), list):
        ends = fields.texts("end")
        if not ends:
            raise ConstraintError("end must have something in it", f"{fields.pointer}/end")
    else:
        ends = (fields.text("end"),)
    return Tag(begin, content, ends)


def _tags(fields: _Fields, depth: int) -> list[tuple[Tag, str]]:
    made: list[tuple[Tag, str]] = []
    for item, pointer in fields.items("tags"):
        tag = _Fields(item, pointer)
        if tag.values.pop("type", "tag") != "tag":
            raise ConstraintError("must be a format of type tag", f"{pointer}/type")
        made.append((_tag(tag, depth + 1), pointer))
        tag.done()
    return made


def _triggered_tags(fields: _Fields, depth: int) -> Format:
    tags = _tags(fields, depth)
    return _triggered(
        fields.items("triggers"), tags, _excludes(fields), fields.flag("at_least_one"),
        fields.flag("stop_after_first"), fields.pointer,
    )  # fmt: skip


def _triggered(
    triggers: list[tuple[Any, str]],
    tags: list[tuple[Tag, str]],
    excludes: tuple[str, ...],
    at_least_one: bool,
    stop_after_first: bool,
    pointer: str,
) -> FreeText:
    following: dict[str, list[Format]] = {}
    for trigger, place in triggers:
        if not isinstance(trigger, str) or not trigger:
            raise ConstraintError("a trigger is a string that is not empty", place)
        following[trigger] = []
    for tag, place in tags:
        begun = [trigger for trigger in following if tag.begin.startswith(trigger)]
        if len(begun) != 1:
            found = "none" if not begun else " and ".join(map(repr, begun))
            raise ConstraintError(f"begin must start with exactly one of the triggers, not {found}", f"{place}/begin")
        following[begun[0]].append(Tag(tag.begin.removeprefix(begun[0]), tag.content, tag.ends))
    for trigger, place in triggers:
        if not following[trigger]:
            raise ConstraintError("no tag begins with this trigger", place)
    return FreeText(
        tuple((trigger, Either(tuple(after))) for trigger, after in following.items()),
        excludes, at_least_one, stop_after_first, pointer,
    )  # fmt: skip


def _tags_with_separator(fields: _Fields, depth: int) -> Format:
    tags = tuple(tag for tag, _ in _tags(fields, depth))
    return Separated(tags, fields.text("separator"), fields.flag("at_least_one"), fields.flag("stop_after_first"))


def _dispatch(fields: _Fields, depth: int) -> Format:
    triggered: list[tuple[str, Format]] = []
    for rule, pointer in fields.items("rules"):
        if not isinstance(rule, list) or len(cast("list[Any]", rule)) != 2:
            raise ConstraintError("a rule is an array of a string and a format", pointer)
        trigger, content = cast("list[Any]", rule)
        if not isinstance(trigger, str) or not trigger:
            raise ConstraintError("must be a string that is not empty", f"{pointer}/0")
        if any(trigger == known for known, _ in triggered):
            raise ConstraintError(f"{trigger!r} has two rules", f"{pointer}/0")
        triggered.append((trigger, _format(content, f"{pointer}/1", depth)))
    loop = fields.values.pop("loop", True)
    if not isinstance(loop, bool):
        raise ConstraintError("loop must be true or false", f"{fields.pointer}/loop")
    return FreeText(tuple(triggered), _excludes(fields), stop_after_first=not loop, pointer=fields.pointer)


def _excludes(fields: _Fields) -> tuple[str, ...]:
    excludes = fields.texts("excludes")
    for i, text in enumerate(excludes):
        if not text:
            raise ConstraintError("an excluded string is empty", f"{fields.pointer}/excludes/{i}")
    return excludes


_READERS: dict[str, Callable[[_Fields, int], Format]] = {
    "const_string": _const_string,
    "json_schema": _json_schema,
    "regex": _regex,
    "json_string": _json_string,
    "lark": _lark,
    "any_text": _any_text,
    "sequence": _sequence,
    "or": _or,
    "optional": _optional,
    "star": _star,
    "plus": _plus,
    "repeat": _repeat,
    "tag": _tag,
    "triggered_tags": _triggered_tags,
    "tags_with_separator": _tags_with_separator,
    "dispatch": _dispatch,
}


def _older(top: _Fields) -> Format:
    tags: list[tuple[Tag, str]] = []
    for item, pointer in top.items("structures"):
        fields = _Fields(item, pointer)
        schema = Json(JsonSchema(fields.take("schema")), f"{pointer}/schema")
        tags.append((Tag(fields.text("begin"), schema, (fields.text("end"),)), pointer))
        fields.done()
    made = _triggered(top.items("triggers"), tags, (), False, False, "")
    top.done()
    return made
