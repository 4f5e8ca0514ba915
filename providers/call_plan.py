"""How a request with tools is put to an engine that knows text and constraints only.

one function must be called   the prompt ends with the beginning of the call; the answer is its arguments
"""

from __future__ import annotations

from dataclasses import dataclass

from providers.base import ProviderError, Tool, Tools
from providers.tool_formats import ToolFormat
from schemas.constraint import ConstraintSpec, JsonSchemaSpec


@dataclass(frozen=True, slots=True)
class Plan:
    """``begun``: what the prompt ends with, the beginning of a call of ``call``. ``tools``: whose schemas are in the
    constraint, with their places in `Tools.offered`."""

    constraint: ConstraintSpec
    begun: str
    call: str | None
    tools: list[tuple[int, Tool]]

    def blame(self, error: ProviderError) -> ProviderError:
        """The engine's refusal of the constraint, with the tool that is at fault."""
        if error.kind.endswith("constraint") or error.kind == "constraint_too_large":
            return ProviderError(error.kind, error.message, pointer=error.pointer, tool=self.tools[0][0])
        return error


def plan_calls(tools: Tools, format: ToolFormat, constraint: ConstraintSpec | None) -> Plan:
    """``constraint``: of an answer that is no call. Raises `ProviderError`."""
    callable = [(i, tool) for i, tool in enumerate(tools.offered) if tool.name in tools.callable]
    if not tools.required or len(callable) > 1 or tools.parallel:
        raise ProviderError("invalid_request", "Only one named tool can be called so far.", param="tool_choice")
    tool = callable[0][1]
    return Plan(JsonSchemaSpec(tool.parameters), format.begin(tool.name), tool.name, callable)
