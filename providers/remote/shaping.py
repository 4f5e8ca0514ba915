"""How a request's constraint and tools are put to an API, and how what comes back is judged.

    JSON Schema     the API's response format, translated; where that cannot be: JSON mode or none, and told in words
    JSON object     JSON mode, or told in words
    choice          vLLM's `choice`, an enumeration in a schema, or told in words
    regex, Lark,    vLLM's own fields, or told in words
    structural tag

Every answer is judged against the original in each case.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from providers.base import GenerateRequest, ProviderError, Tool
from providers.custom_tools import described
from providers.remote.judging import judged
from providers.remote.recognition import Recogniser, SentenceCheck
from providers.remote.translation import VALUE, Schema, translate
from providers.remote.validation import Check, ChoiceCheck, InputCheck, JsonCheck, validator_of
from schemas.constraint import (
    ChoiceSpec,
    ConstraintSpec,
    JsonObjectSpec,
    JsonSchemaSpec,
    LarkSpec,
    RegexSpec,
    StructuralTagSpec,
)
from schemas.policy import Enforcement
from schemas.providers import Capabilities

ANY_OBJECT = '{"type":"object"}'


@dataclass(frozen=True, slots=True)
class ShapedTool:
    """``parameters``: what the API is sent; ``strict``: it is asked to enforce that; ``whole``: that is all of the
    original."""

    name: str
    description: str | None
    custom: bool
    parameters: Schema
    strict: bool
    whole: bool
    check: Check


@dataclass(frozen=True, slots=True)
class Shaping:
    """``schema``: for the API's response format, enforced if ``strict``. ``json_mode``: instead of one. ``native``:
    vLLM's ``structured_outputs``. ``instruction``: what the model is told in words. ``check``: of a text, None without
    a constraint. ``tools``: those that may be called. ``held``: how all of it is held."""

    schema: Schema | None = None
    strict: bool = False
    json_mode: bool = False
    native: dict[str, Any] | None = None
    instruction: str = ""
    check: Check | None = None
    tools: tuple[ShapedTool, ...] = ()
    held: Enforcement | None = None


async def shape(request: GenerateRequest, can: Capabilities, recogniser: Recogniser) -> Shaping:
    """Raises `ProviderError` for a constraint, or a tool's schema, that is none or cannot be judged."""
    tools = await _tools(request, can, recogniser)
    output = Shaping()
    if request.constraint is not None:
        if request.tools is None or not request.tools.required:
            output = await _output(request.constraint, can, recogniser, beside_tools=bool(tools))
    held = None
    if output.check is not None or tools:
        promised = output.held != "validated" and all(tool.whole for tool in tools)
        held = "provider-strict" if promised and can.contract else "validated"
    return Shaping(
        output.schema, output.strict, output.json_mode, output.native, output.instruction, output.check, tools, held
    )


async def _tools(request: GenerateRequest, can: Capabilities, recogniser: Recogniser) -> tuple[ShapedTool, ...]:
    if request.tools is None:
        return ()
    shaped: list[ShapedTool] = []
    strict = can.strict_tools and len(request.tools.callable) <= can.max_strict_tools
    for number, tool in enumerate(request.tools.offered):
        if tool.name not in request.tools.callable:
            continue
        try:
            shaped.append(await _tool(tool, can, recogniser, strict=strict))
        except ProviderError as error:
            raise ProviderError(error.kind, error.message, pointer=error.pointer, tool=number) from None
    return tuple(shaped)


async def _tool(tool: Tool, can: Capabilities, recogniser: Recogniser, *, strict: bool) -> ShapedTool:
    """Raises `ProviderError`. A custom tool is a function of one string, as in `providers.custom_tools`."""
    await judged(validator_of, tool.parameters, "assert")
    original = json.loads(tool.parameters)
    sent = await judged(translate, original, can) if strict else None
    if sent is not None and sent.wrapped:
        sent = None
    check: Check = JsonCheck(tool.parameters, sent=sent)
    if tool.grammar is not None:
        await recogniser.check(tool.grammar)
    if tool.custom:
        check = InputCheck(check, SentenceCheck(recogniser, tool.grammar) if tool.grammar is not None else None)
    whole = sent is not None and sent.whole and tool.grammar is None
    schema = original if sent is None else sent.schema
    return ShapedTool(tool.name, described(tool), tool.custom, schema, sent is not None, whole, check)


async def _output(
    constraint: ConstraintSpec, can: Capabilities, recogniser: Recogniser, *, beside_tools: bool
) -> Shaping:
    structured = "none" if beside_tools and not can.beside_tools else can.structured
    match constraint:
        case JsonSchemaSpec():
            return await _json(constraint, can, structured)
        case JsonObjectSpec():
            check = JsonCheck(ANY_OBJECT, compact=constraint.whitespace == "compact")
            # OpenAI's JSON mode wants the word in the conversation, and others forget it without.
            text = "Answer with one JSON object, and nothing else."
            mode = can.json_mode and structured != "none"
            return Shaping(json_mode=mode, instruction=text, check=check, held="validated")
        case ChoiceSpec(choices):
            return _choice(choices, can, structured)
        case RegexSpec(pattern):
            native = {"regex": pattern} if "regex" in can.native and constraint.dialect == "python" else None
            text = f"Answer with a text that matches this regular expression as a whole, and nothing else:\n{pattern}"
        case LarkSpec(grammar):
            native = {"grammar": grammar} if "grammar" in can.native and constraint == LarkSpec(grammar) else None
            text = f"Answer with a sentence of this Lark grammar, and nothing else:\n{grammar}"
        case StructuralTagSpec(document):
            native = {"structural_tag": document} if "structural_tag" in can.native else None
            text = f"Answer with a text in the form of this structural tag, and nothing else:\n{document}"
    await recogniser.check(constraint)
    check = SentenceCheck(recogniser, constraint)
    return Shaping(native=native, instruction="" if native else text, check=check, held=_held(native is not None, can))


async def _json(constraint: JsonSchemaSpec, can: Capabilities, structured: str) -> Shaping:
    await judged(validator_of, constraint.schema, constraint.formats)
    original = json.loads(constraint.schema)
    sent = await judged(translate, original, can) if structured == "schema" else None
    compact = constraint.whitespace == "compact"
    check = JsonCheck(constraint.schema, constraint.formats, sent, compact)
    if sent is not None:
        return Shaping(schema=sent.schema, strict=can.contract, check=check, held=_held(sent.whole, can))
    text = (
        "Answer with one JSON value that is valid under the following JSON Schema, and with nothing else:\n"
        f"{constraint.schema}"
    )
    mode = can.json_mode and structured != "none" and isinstance(original, dict) and original.get("type") == "object"
    return Shaping(json_mode=mode, instruction=text, check=check, held="validated")


def _choice(choices: list[str], can: Capabilities, structured: str) -> Shaping:
    if not choices:
        raise ProviderError("invalid_constraint", "There is nothing to choose from.")
    check = ChoiceCheck(frozenset(choices), quoted=False)
    if "choice" in can.native:
        return Shaping(native={"choice": choices}, check=check, held=_held(True, can))
    quoted = ChoiceCheck(check.choices, quoted=True)
    wrapper = {
        "type": "object",
        "properties": {VALUE: {"type": "string", "enum": list(dict.fromkeys(choices))}},
        "required": [VALUE],
        "additionalProperties": False,
    }
    sent = translate(wrapper, can) if structured == "schema" else None
    if sent is not None:
        return Shaping(schema=sent.schema, strict=can.contract, check=quoted, held=_held(sent.whole, can))
    listed = "\n".join(json.dumps(choice, ensure_ascii=False) for choice in choices)
    text = f"Answer with exactly one of these texts, without its quotes, and with nothing else:\n{listed}"
    return Shaping(instruction=text, check=quoted, held="validated")


def _held(whole: bool, can: Capabilities) -> Enforcement:
    """``whole``: the API is sent all of the constraint."""
    return "provider-strict" if whole and can.contract else "validated"
