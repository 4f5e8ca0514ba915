"""What structural tags mean, said a second time: a backtracking recogniser over texts, sharing nothing with the
compiler.

`ends(document, text, at)` is the set of places where a format that begins at ``at`` may end.
"""

from __future__ import annotations

import json
import re
from typing import Any

from jsonschema import Draft202012Validator

Document = dict[str, Any]


def accepts(document: Document, text: str) -> bool:
    return len(text) in _ends(document["format"], text, 0, ())


def _ends(form: Document, text: str, at: int, stops: tuple[str, ...]) -> set[int]:
    """``stops``: what the tag around it ends with; free text that comes last in a tag goes as far as the first of
    them, and what is returned is then the place after it."""
    kind = form["type"]
    if kind in ("any_text", "triggered_tags"):
        return _free_text(form, text, at, stops)
    if kind == "or":
        return {end for element in form["elements"] for end in _ends(element, text, at, stops)}
    if kind == "sequence":
        places = {at}
        for element in form["elements"][:-1]:
            places = {end for place in places for end in _ends(element, text, place, ())}
        return {end for place in places for end in _ends(form["elements"][-1], text, place, stops)}
    found = _plain_ends(form, text, at)
    return {end + len(stop) for end in found for stop in stops if text.startswith(stop, end)} if stops else found


def _plain_ends(form: Document, text: str, at: int) -> set[int]:
    match form["type"]:
        case "const_string":
            value = form["value"]
            return {at + len(value)} if text.startswith(value, at) else set()
        case "regex":
            pattern = re.compile(form["pattern"])
            return {end for end in range(at, len(text) + 1) if pattern.fullmatch(text, at, end)}
        case "json_schema":
            return {end for end in range(at, len(text) + 1) if _validates(form["json_schema"], text[at:end])}
        case "tag":
            begin = form["begin"]
            stops = form["end"] if isinstance(form["end"], list) else [form["end"]]
            return _ends(form["content"], text, at + len(begin), tuple(stops)) if text.startswith(begin, at) else set()
        case "optional":
            return {at} | _ends(form["content"], text, at, ())
        case "star":
            return _many(form["content"], text, at)
        case "plus":
            return {
                end for place in _ends(form["content"], text, at, ()) for end in _many(form["content"], text, place)
            }
        case "repeat":
            places, found = {at}, set()
            for n in range(form["max"] + 1):
                found |= places if n >= form["min"] else set()
                places = {end for place in places for end in _ends(form["content"], text, place, ())}
            return found
        case "tags_with_separator":
            return _separated(form, text, at)
    raise AssertionError(form["type"])


def _many(content: Document, text: str, at: int) -> set[int]:
    found, todo = set[int](), {at}
    while todo:
        found |= todo
        todo = {end for place in todo for end in _ends(content, text, place, ())} - found
    return found


def _separated(form: Document, text: str, at: int) -> set[int]:
    found = set() if form.get("at_least_one") else {at}
    seen, todo = set[int](), {at}
    while todo:
        seen |= todo
        ended = {end for place in todo for tag in form["tags"] for end in _ends(tag, text, place, ())}
        found |= ended
        if form.get("stop_after_first"):
            break
        n = len(form["separator"])
        todo = {end + n for end in ended if text.startswith(form["separator"], end)} - seen
    return found


def _free_text(form: Document, text: str, at: int, stops: tuple[str, ...]) -> set[int]:
    found = set[int]()
    triggers: list[str] = form.get("triggers", [])
    begins, seen = {at}, set[int]()
    first = True
    while begins:
        begin = begins.pop()
        seen.add(begin)
        for place in range(begin, len(text) + 1):
            if first and form.get("at_least_one") and place > begin:
                break
            if first and form.get("at_least_one"):
                ended = [trigger for trigger in triggers if text.startswith(trigger, place)]
            else:
                written = text[begin:place]
                ended = [trigger for trigger in triggers if written.endswith(trigger)]
                stopped = [stop for stop in stops if stop and written.endswith(stop)]
                if "" in stops or not stops:
                    stopped = []
                if not ended and not stopped:
                    if any(excluded in written for excluded in form.get("excludes", ())):
                        break
                    if not stops or "" in stops:
                        found.add(place)
                        if "" in stops:
                            found |= {place + len(stop) for stop in stops if text.startswith(stop, place)}
                    continue
                if stopped:
                    found.add(place)
            for tag in form.get("tags", ()):
                for trigger in ended:
                    if tag["begin"].startswith(trigger):
                        start = place if first and form.get("at_least_one") else place - len(trigger)
                        after = _ends(tag, text, start, ())
                        if form.get("stop_after_first"):
                            if stops:
                                found |= {
                                    end + len(stop) for end in after for stop in stops if text.startswith(stop, end)
                                }
                            else:
                                found |= after
                        else:
                            begins |= after - seen
            break
        first = False
    return found


def _validates(schema: Any, text: str) -> bool:
    if text != text.strip() or not text:
        return False
    try:
        value = json.loads(text)
    except ValueError:
        return False
    if text != json.dumps(value, separators=(",", ":"), ensure_ascii=False):
        return False
    return Draft202012Validator(schema).is_valid(value)
