"""What a request becomes before the engine sees it: the ids of its prompt, and one constraint for all that the model is
to write, thoughts and calls included."""

from __future__ import annotations

from dataclasses import dataclass

from engine.model.errors import ChatTemplateError
from engine.model.tokenizer import Tokenizer
from providers.base import GenerateRequest, Message, Prompt, ProviderError, Tool
from providers.call_plan import Plan, plan_calls
from providers.prompting import Draft, Prompter
from providers.thinking import Stage, after_thoughts, blame_answer
from providers.tool_formats import ToolFormat
from schemas.constraint import ConstraintSpec


@dataclass(frozen=True, slots=True)
class Prepared:
    """``constraint``: of all that is written; ``answer``: of what comes after thoughts. ``plan``: of the calls."""

    prompt: list[int]
    constraint: ConstraintSpec | None
    plan: Plan | None = None
    stage: Stage = "never"
    answer: ConstraintSpec | None = None

    def blame(self, error: ProviderError) -> ProviderError:
        """The engine's refusal of ``constraint``, told of what the caller wrote."""
        if self.answer is not None:
            error = blame_answer(error, self.answer)
        return self.plan.blame(error) if self.plan else error


@dataclass(frozen=True, slots=True)
class Preparer:
    """Of one model. ``prompter``: None where the model has no chat template."""

    model: str
    tokenizer: Tokenizer
    prompter: Prompter | None

    def prepare(self, request: GenerateRequest) -> Prepared:
        """Raises `ProviderError`."""
        turns = request.prompt
        if not isinstance(turns, tuple):
            return Prepared(self.tokens(turns), request.constraint)
        prompter = self.templated()
        plan = plan_calls(request.tools, prompter.format, request.constraint) if request.tools else None
        constraint = plan.constraint if plan else request.constraint
        draft = self._draft(turns, request, plan, request.thinking)
        if request.thinking is None and _cannot_follow(draft.stage, constraint):
            # Nobody has asked for thoughts, and the answer must not be without its constraint.
            draft = self._draft(turns, request, plan, False)
        if draft.stage == "never":
            if request.thinking:
                raise self._refused("does not think before it answers")
            return Prepared(prompter.ids(draft, plan.begun if plan else ""), constraint, plan)
        if request.thinking is False:
            raise self._refused("always thinks before it answers")
        if request.tools and plan and plan.begun:
            plan = plan_calls(request.tools, prompter.format, request.constraint, begin_in_prompt=False)
            constraint = plan.constraint
        ids = prompter.ids(draft)
        if constraint is None:
            return Prepared(ids, None, plan, draft.stage)
        whole = after_thoughts(draft.stage, constraint)
        if whole is None:
            raise self._refused("thinks before it answers, which cannot be had together with this constraint")
        return Prepared(ids, whole, plan, draft.stage, constraint)

    def tokens(self, prompt: Prompt, tools: tuple[Tool, ...] = ()) -> list[int]:
        """The ids of a prompt. Raises `ProviderError`."""
        if isinstance(prompt, list):
            return prompt
        if isinstance(prompt, str):
            return self.tokenizer.encode(prompt, special=False, begin=True)
        return self.templated().ids(self._drafted(prompt, tools, None, None))

    def _draft(
        self, turns: tuple[Message, ...], request: GenerateRequest, plan: Plan | None, thinking: bool | None
    ) -> Draft:
        offered = request.tools.offered if request.tools else ()
        return self._drafted(turns, offered, plan.format if plan else None, thinking)

    def _drafted(
        self, turns: tuple[Message, ...], offered: tuple[Tool, ...], format: ToolFormat | None, thinking: bool | None
    ) -> Draft:
        try:
            return self.templated().draft(turns, offered, format, thinking)
        except ChatTemplateError as error:
            raise ProviderError("invalid_request", str(error), param="messages") from error
        except RecursionError:
            raise ProviderError("invalid_request", "The messages or the tools are nested too deeply.") from None

    def templated(self) -> Prompter:
        """Raises `ProviderError` where there is no template."""
        if self.prompter is None:
            message = f"The model `{self.model}` has no chat template: use /v1/completions."
            raise ProviderError("invalid_request", message, param="messages")
        return self.prompter

    def _refused(self, why: str) -> ProviderError:
        return ProviderError("invalid_request", f"The model `{self.model}` {why}.", param="reasoning_effort")


def _cannot_follow(stage: Stage, constraint: ConstraintSpec | None) -> bool:
    return stage != "never" and constraint is not None and after_thoughts(stage, constraint) is None
