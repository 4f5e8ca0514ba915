"""The most tokens that a request can have, before any tokenizer was asked.

No tokenizer makes more tokens of a text than it has bytes, so bytes bound the prompt whoever answers. What providers
add around turns and tools is allowed for generously: a reservation that is too low could be overrun, one that is too
high is given back a moment later.
"""

from __future__ import annotations

import msgspec

from gateway.policy.prices import Tokens
from providers.base import GenerateRequest, Message
from schemas.constraint import ConstraintSpec, JsonSchemaSpec

TURN_TOKENS = 16
"""Around each turn: role, name, separators."""
TOOLS_TOKENS = 1024
"""What a provider says to its model about tools before it describes the first."""
INSTRUCTION_TOKENS = 1024
"""What a model is told about a constraint that its API does not take, beside the constraint itself."""


def most_tokens(request: GenerateRequest, context_length: int, max_output: int | None) -> Tokens:
    """Of one call. A call that repairs an answer carries that answer too, and some words about it; it is a call of its
    own, whose prompt may be longer, but not than the context."""
    completion = min(request.max_tokens or context_length, max_output or context_length, context_length)
    prompt = prompt_bytes(request)
    if request.constraint is not None or request.tools is not None:
        prompt += completion + INSTRUCTION_TOKENS
    return Tokens(min(prompt, context_length), 0, completion * request.n)


def prompt_bytes(request: GenerateRequest) -> int:
    """A bound on the tokens of the prompt."""
    prompt = request.prompt
    if isinstance(prompt, list):
        size = len(prompt)
    elif isinstance(prompt, str):
        size = _bytes(prompt) + TURN_TOKENS
    else:
        size = sum(_turn_bytes(turn) for turn in prompt)
    if request.tools is not None:
        size += TOOLS_TOKENS
        size += sum(
            _bytes(tool.name, tool.description or "", tool.parameters) + TURN_TOKENS for tool in request.tools.offered
        )
    return size + _constraint_bytes(request.constraint)


def _turn_bytes(turn: Message) -> int:
    calls = sum(len(msgspec.json.encode(call.arguments)) + _bytes(call.name) + TURN_TOKENS for call in turn.calls)
    return TURN_TOKENS + _bytes(turn.content, turn.name or "", turn.thoughts) + calls


def _constraint_bytes(constraint: ConstraintSpec | None) -> int:
    match constraint:
        case None:
            return 0
        case JsonSchemaSpec():
            # Twice: translated for the API, and in words.
            return INSTRUCTION_TOKENS + 2 * _bytes(constraint.schema)
        case _:
            return INSTRUCTION_TOKENS + 2 * len(msgspec.json.encode(constraint))


def _bytes(*texts: str) -> int:
    return sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
