"""From request Structs to what a provider is asked. What msgspec cannot say about one field, or two, is checked here.

Wire values that mean "off" or "default" become the neutral values of `schemas.engine.Sampling`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from gateway.chat_tools import chat_tools
from gateway.constraint import Constraint
from gateway.conversation import turns_of
from gateway.errors import invalid
from gateway.policy.asking import stated
from providers.base import GenerateRequest, Message
from schemas.engine import ModelCard, Sampling
from schemas.openai.chat import ChatRequest
from schemas.openai.completions import MAX_PROMPTS, CompletionRequest
from schemas.openai.generation import MAX_CHOICES, Effort, SamplingFields

DEFAULT_COMPLETION_TOKENS = 16
"""OpenAI's default for ``max_tokens`` of completions; chat goes as far as the context does."""


def chat_request(
    fields: ChatRequest, card: ModelCard, constraint: Constraint | None, *, id: str, tenant: str
) -> GenerateRequest:
    """Raises `ApiError`."""
    if fields.max_tokens is not None and fields.max_completion_tokens is not None:
        raise invalid("'max_tokens' and 'max_completion_tokens' are two names of one thing.", "max_tokens")
    if fields.top_logprobs is not None and not fields.logprobs:
        raise invalid("'top_logprobs' is allowed only together with 'logprobs: true'.", "top_logprobs")
    logprobs = (fields.top_logprobs or 0) if fields.logprobs else None
    messages = turns_of(fields.messages)
    max_tokens = fields.max_tokens or fields.max_completion_tokens
    request = request_of(fields, card, constraint, messages, max_tokens, logprobs, id=id, tenant=tenant)
    return replace(request, tools=chat_tools(fields), n=fields.n or 1, thinking=_thinking(fields))


def _thinking(fields: ChatRequest) -> bool | None:
    """Whether the model is to think first. Raises `ApiError` where two fields disagree."""
    asked = fields.chat_template_kwargs.enable_thinking if fields.chat_template_kwargs else None
    thinking = thinks(fields.reasoning_effort)
    if asked is not None and thinking is not None and asked != thinking:
        param = "chat_template_kwargs.enable_thinking"
        raise invalid(f"'{param}' and 'reasoning_effort' ask for different things.", param)
    return asked if thinking is None else thinking


def thinks(effort: Effort | None) -> bool | None:
    """Whether a model is to think that is asked for this effort; None = as it does by itself."""
    return None if effort is None else effort != "none"


def completion_requests(
    fields: CompletionRequest, card: ModelCard, constraint: Constraint | None, *, id: str, tenant: str
) -> list[GenerateRequest]:
    """One for each prompt; their choices are numbered on. Raises `ApiError`."""
    prompts = _prompts(fields.prompt)
    if len(prompts) > MAX_PROMPTS or len(prompts) * (fields.n or 1) > MAX_CHOICES:
        limits = f"{MAX_PROMPTS} prompts and {MAX_CHOICES} choices"
        raise invalid(f"A request has at most {limits}; this one has {len(prompts)} × n={fields.n or 1}.", "prompt")
    for prompt in prompts:
        if not prompt:
            raise invalid("A prompt is empty.", "prompt")
        if isinstance(prompt, list):
            known_ids(prompt, card, "prompt")
    max_tokens = fields.max_tokens or DEFAULT_COMPLETION_TOKENS
    asked = (
        request_of(fields, card, constraint, prompt, max_tokens, fields.logprobs, id=f"{id}-{i}", tenant=tenant)
        for i, prompt in enumerate(prompts)
    )
    return [replace(request, n=fields.n or 1) for request in asked]


def request_of(
    fields: SamplingFields,
    card: ModelCard,
    constraint: Constraint | None,
    prompt: tuple[Message, ...] | str | list[int],
    max_tokens: int | None,
    logprobs: int | None,
    *,
    id: str,
    tenant: str,
) -> GenerateRequest:
    """Of one choice, without tools. ``logprobs``: how many candidates a token. Raises `ApiError`."""
    if fields.ignore_eos and constraint is not None:
        raise invalid("A constraint decides where the text may end: 'ignore_eos' cannot overrule it.", "ignore_eos")
    known_ids(fields.logit_bias or (), card, "logit_bias")
    known_ids(fields.stop_token_ids or (), card, "stop_token_ids")
    stop = fields.stop or ()
    if fields.sluice and fields.sluice.fields and logprobs is None:
        logprobs = 0
    return GenerateRequest(
        id=id,
        model=card.name,
        prompt=prompt,
        sampling=_sampling(fields, logprobs),
        constraint=constraint.spec if constraint else None,
        close=bool(fields.sluice and fields.sluice.close),
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        stop_token_ids=tuple(fields.stop_token_ids or ()),
        max_tokens=max_tokens,
        ignore_eos=bool(fields.ignore_eos),
        tenant=tenant,
        pass_on=fields.sluice is not None and fields.sluice.pass_on,
        degrades=constraint is not None and constraint.degrades,
        policy=stated(fields.sluice, fields.provider),
    )


def _sampling(fields: SamplingFields, logprobs: int | None) -> Sampling:
    top_k = max(fields.top_k or 0, 0)
    top_p = 1.0 if fields.top_p is None else fields.top_p
    if top_p == 0.0:
        # The smallest nucleus there is: the most likely token.
        top_p, top_k = 1.0, 1
    return Sampling(
        temperature=1.0 if fields.temperature is None else fields.temperature,
        top_p=top_p,
        top_k=top_k,
        min_p=fields.min_p or 0.0,
        seed=None if fields.seed is None else fields.seed % 2**64,
        presence_penalty=fields.presence_penalty or 0.0,
        frequency_penalty=fields.frequency_penalty or 0.0,
        repetition_penalty=fields.repetition_penalty or 1.0,
        logit_bias=fields.logit_bias or None,
        logprobs=logprobs,
    )


def known_ids(ids: dict[int, float] | list[int] | tuple[()], card: ModelCard, param: str) -> None:
    """Raises `ApiError` for an id that the model does not have. Of remote models it is not known."""
    if not card.vocab_size:
        return
    for token in ids:
        if not 0 <= token < card.vocab_size:
            known = f"0 to {card.vocab_size - 1}"
            raise invalid(f"{token} in '{param}' is not a token of {card.name}, which has {known}.", param)


def _prompts(prompt: str | list[str | int | list[int]]) -> list[str | list[int]]:
    if isinstance(prompt, str):
        return [prompt]
    kinds = {type(entry) for entry in prompt}
    if len(kinds) > 1:
        raise invalid("'prompt' mixes texts, token ids and lists of token ids.", "prompt")
    if kinds == {int}:
        return [cast(list[int], prompt)]
    return cast(list[str | list[int]], prompt)
