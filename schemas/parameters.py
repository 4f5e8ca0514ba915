"""What becomes of every request parameter: the one table behind the checks at the door and `docs/parameters.md`.

Gateways lose schemas because they drop what they do not know. Here each parameter is *honoured* (it takes effect),
*neutral* (by the API's own definition it cannot change the answer, so accepting it promises nothing), or *refused* by
name. A parameter that is not in the table is refused by name as well. ``python -m schemas.parameters`` prints the
page.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

Kind = Literal["honoured", "neutral", "refused"]
Endpoint = Literal["chat", "completions", "responses", "decisions", "messages", "count_tokens"]
ALL: tuple[Endpoint, ...] = ("chat", "completions", "responses")
BOTH: tuple[Endpoint, ...] = ("chat", "completions")
NEWER: tuple[Endpoint, ...] = ("chat", "responses")
RESPONSES: tuple[Endpoint, ...] = ("responses",)
DECISIONS: tuple[Endpoint, ...] = ("decisions",)
CACHING: tuple[Endpoint, ...] = (*NEWER, *DECISIONS)
ANTHROPIC: tuple[Endpoint, ...] = ("messages", "count_tokens")
MESSAGES: tuple[Endpoint, ...] = ("messages",)
CHAT: tuple[Endpoint, ...] = ("chat",)
COMPLETIONS: tuple[Endpoint, ...] = ("completions",)


@dataclass(frozen=True, slots=True)
class Parameter:
    """``only``: the values that pass (null always does, and means "absent"); None = every value of the right type."""

    name: str
    kind: Kind
    endpoints: tuple[Endpoint, ...]
    note: str
    only: tuple[object, ...] | None = None


def honoured(name: str, endpoints: tuple[Endpoint, ...], note: str) -> Parameter:
    return Parameter(name, "honoured", endpoints, note)


def neutral(name: str, endpoints: tuple[Endpoint, ...], note: str, *only: object) -> Parameter:
    return Parameter(name, "neutral", endpoints, note, only or None)


def refused(name: str, endpoints: tuple[Endpoint, ...], note: str, *but: object) -> Parameter:
    return Parameter(name, "refused", endpoints, note, but)


SLUICE = (
    "`policy`: who may answer, docs/routing.md. "
    "`fields`: each field of the JSON with its log-probability, as it is complete. "
    "`pass_on`: a remote answer under a constraint is streamed before it is validated. "
    "`close`: a constrained answer is brought to its end within `max_tokens`."
)

OPENAI_PARAMETERS = (
    honoured("model", (*ALL, *DECISIONS), "One of `GET /v1/models`."),
    honoured("messages", CHAT, "Roles system, developer (rendered as system), user, assistant, tool; text parts only."),
    honoured("prompt", COMPLETIONS, "A text, token ids, or a list of up to 64 of either; mixed lists are refused."),
    honoured("stream", ALL, "Server-sent events."),
    honoured("stream_options", BOTH, "`include_usage`. `include_obfuscation: true` is refused. Only with `stream`."),
    honoured("n", BOTH, "1 to 128 choices; all prompts of a completion together have at most 128."),
    honoured("max_tokens", BOTH, "For each choice. Chat: as far as the context goes by default. Completions: 16."),
    honoured("max_completion_tokens", CHAT, "The newer name of `max_tokens`; both together are refused."),
    honoured("temperature", ALL, "0 to 2; 0 is greedy. Default 1."),
    honoured("top_p", ALL, "0 to 1; 0 takes the most likely token. Default 1."),
    honoured("top_k", ALL, "0 or -1: off."),
    honoured("min_p", ALL, "0 to 1."),
    honoured("seed", ALL, "A 64-bit integer; choice *i* draws from the stream (seed, i)."),
    honoured("presence_penalty", ALL, "-2 to 2."),
    honoured("frequency_penalty", ALL, "-2 to 2."),
    honoured("repetition_penalty", ALL, "0.01 to 100; 1 is off. Counts prompt and answer."),
    honoured("logit_bias", ALL, "Token id to -100..100. Under a constraint a forbidden token stays forbidden."),
    honoured("stop", ALL, "Up to 16 strings. Under a constraint they act only where the text is complete."),
    honoured("stop_token_ids", ALL, "Up to 64 ids. Under a constraint they act only where the text is complete."),
    honoured("ignore_eos", ALL, "Goes on past end-of-sequence tokens; refused with a constraint."),
    honoured("logprobs", BOTH, "Chat: true or false. Completions: 0 to 20. The model's own, before mask and bias."),
    honoured("top_logprobs", CHAT, "0 to 20; needs `logprobs: true`."),
    honoured("response_format", BOTH, "text, json_object, json_schema: always enforced, `strict` or not."),
    honoured("structured_outputs", BOTH, "Exactly one kind, see the API page; disable_any_whitespace."),
    honoured("guided_json", BOTH, "Old name of `structured_outputs.json`; the header `x-sluice-deprecated` says so."),
    honoured("guided_regex", BOTH, "Old name of `structured_outputs.regex`; the header `x-sluice-deprecated` says so."),
    honoured(
        "guided_choice", BOTH, "Old name of `structured_outputs.choice`; the header `x-sluice-deprecated` says so."
    ),
    honoured(
        "guided_grammar", BOTH, "Old name of `structured_outputs.grammar`; the header `x-sluice-deprecated` says so."
    ),
    honoured(
        "tools", NEWER, "Up to 128 functions and custom tools; custom ones take text, or a `lark` or `regex` grammar."
    ),
    honoured("tool_choice", NEWER, "none, auto, required, a tool by name, allowed_tools."),
    honoured("parallel_tool_calls", NEWER, "`false`: at most one call. Default true, where the model can."),
    honoured("input", RESPONSES, "A text, or items: messages, calls and their outputs."),
    honoured("input", DECISIONS, "A text, or items as in Responses, with `input_json` parts; shown as a text."),
    honoured("questions", DECISIONS, "1 to 400: predicate, choice of 2 to 255, score of 2 to 10 levels."),
    honoured("instructions", RESPONSES, "A system message before the input."),
    honoured("text", RESPONSES, "`format`: text, json_object, json_schema; `verbosity` may be `medium`."),
    honoured("max_output_tokens", RESPONSES, "By default as far as the context goes."),
    honoured("top_logprobs", RESPONSES, "0 to 20; needs `message.output_text.logprobs` in `include`."),
    honoured("include", RESPONSES, "`message.output_text.logprobs`; `reasoning.encrypted_content` passes."),
    honoured("sluice", ALL, SLUICE),
    honoured("sluice", DECISIONS, "`policy`: who may answer, docs/routing.md."),
    honoured(
        "provider", (*ALL, *DECISIONS), "OpenRouter's preferences, those that mean the same here: docs/routing.md."
    ),
    honoured("previous_response_id", RESPONSES, "One that was stored for the same tenant; every other id answers 404."),
    honoured("conversation", RESPONSES, "One of `/v1/conversations`, of the same tenant; every other id answers 404."),
    neutral("user", ALL, "Names an end user for the operator's abuse monitoring."),
    neutral("safety_identifier", CACHING, "Names an end user for the operator's abuse monitoring."),
    honoured("background", RESPONSES, "`true` needs a server that stores; with `stream` its events can be resumed."),
    honoured("store", RESPONSES, "`true` needs `responses.store` in the settings, where it is the default."),
    neutral("metadata", NEWER, "Labels; Responses give them back."),
    neutral("store", CHAT, "Nothing of chat is stored.", False),
    neutral("service_tier", NEWER, "One tier is served, the default one; the answer says so.", "auto", "default"),
    neutral("prediction", CHAT, "A guess at the answer's text: may change its speed, never the answer."),
    neutral("prompt_cache_key", CACHING, "A routing hint; every prefix is cached, for its tenant alone."),
    neutral("prompt_cache_retention", NEWER, "A bound on how long prefixes are kept; here memory, never a disk."),
    neutral("verbosity", CHAT, "`medium` is the default length of answers; the others need a trained model.", "medium"),
    honoured("reasoning_effort", CHAT, "`none` or `medium`: whether a model that can think does so first."),
    neutral("modalities", CHAT, "Text is what there is.", ["text"]),
    neutral("prompt_cache_options", CACHING, "`implicit` is what happens anyway.", {}, {"mode": "implicit"}),
    neutral("echo", COMPLETIONS, "`false` is the default.", False),
    neutral("suffix", COMPLETIONS, "An empty suffix asks for nothing.", ""),
    neutral("best_of", COMPLETIONS, "1 is the default.", 1),
    neutral("priority", BOTH, "0 is the default; order is the operator's decision.", 0),
    honoured("chat_template_kwargs", CHAT, "`enable_thinking`, which says the same as `reasoning_effort`."),
    neutral("guided_decoding_backend", BOTH, "`auto` leaves the choice to the server.", "auto"),
    neutral("max_tool_calls", RESPONSES, "About tools that run at the server, of which there are none."),
    neutral("truncation", RESPONSES, "`disabled` is the default.", "disabled"),
    honoured("reasoning", RESPONSES, "`effort`: `none` or `medium`, whether a model that can think does so first."),
    neutral("stream_options", RESPONSES, "Nothing is padded.", {}, {"include_obfuscation": False}),
    refused("functions", CHAT, "The old form of `tools`; an empty list passes.", []),
    refused(
        "function_call", CHAT, "The old form of `tool_choice`; `none` and `auto` mean a plain answer.", "none", "auto"
    ),
    refused("prompt", RESPONSES, "No prompt templates are stored."),
    refused("background_options", RESPONSES, "There are none."),
    refused("context_management", RESPONSES, "The input is taken as it is."),
    refused("access_programs", RESPONSES, "There are none."),
    refused("image", RESPONSES, "The models read text."),
    refused("audio", CHAT, "The models write text."),
    refused("moderation", NEWER, "No moderation model is served."),
    refused("web_search_options", CHAT, "There is no web search."),
    refused("guided_whitespace_pattern", BOTH, "Whitespace is bounded; ask `structured_outputs` for compact JSON."),
    refused("ebnf", BOTH, "SGLang's name, for another notation; use `structured_outputs.grammar`."),
    refused("regex", BOTH, "SGLang's name; use `structured_outputs.regex`."),
    refused("json_schema", BOTH, "SGLang's name; use `response_format` or `structured_outputs.json`."),
)

ANTHROPIC_PARAMETERS = (
    honoured("model", ANTHROPIC, "One of `GET /v1/models`."),
    honoured("messages", ANTHROPIC, "Text, tool_use and tool_result blocks; the last one is not the assistant's."),
    honoured("system", ANTHROPIC, "A text, or text blocks."),
    honoured("max_tokens", MESSAGES, "What exceeds the context ends as `model_context_window_exceeded`."),
    honoured("stream", MESSAGES, "Server-sent events."),
    honoured("stop_sequences", MESSAGES, "Up to 16. Under a constraint they act only where the text is complete."),
    honoured("temperature", MESSAGES, "0 to 1; 0 is greedy. Default 1."),
    honoured("top_p", MESSAGES, "0 to 1; 0 takes the most likely token. Default 1."),
    honoured("top_k", MESSAGES, "0: off."),
    honoured("tools", ANTHROPIC, "Up to 128 of the caller's own: their input is always enforced, `strict` or not."),
    honoured("tool_choice", ANTHROPIC, "auto, any, tool, none, with `disable_parallel_tool_use`."),
    honoured("output_config", ANTHROPIC, "`format`: json_schema, always enforced; `effort` may be `high`."),
    honoured("output_format", ANTHROPIC, "Old name of `output_config.format`; see `x-sluice-deprecated`."),
    honoured("sluice", MESSAGES, SLUICE),
    neutral("cache_control", ANTHROPIC, "A hint; every prefix is cached, for its tenant alone."),
    neutral("metadata", MESSAGES, "Names an end user for the operator's abuse monitoring."),
    neutral("service_tier", MESSAGES, "One tier is served.", "auto", "standard_only"),
    neutral("speed", ANTHROPIC, "`standard` is the default.", "standard"),
    honoured("thinking", ANTHROPIC, "`disabled`: a model that can think does not. No budgets."),
    neutral("mcp_servers", MESSAGES, "An empty list asks for nothing.", []),
    refused("container", MESSAGES, "No code runs here."),
    refused("context_management", MESSAGES, "The messages are taken as they are."),
    refused("diagnostics", MESSAGES, "There are none."),
    refused("inference_geo", MESSAGES, "Where the server stands is the operator's decision."),
    refused("user_profile_id", ANTHROPIC, "There are no profiles."),
    refused("workspace_id", ANTHROPIC, "There are no workspaces; a key has a tenant."),
)

PARAMETERS = OPENAI_PARAMETERS + ANTHROPIC_PARAMETERS

GUARDED: dict[Endpoint, tuple[Parameter, ...]] = {
    endpoint: tuple(p for p in PARAMETERS if endpoint in p.endpoints and p.only is not None)
    for endpoint in (*ALL, *DECISIONS, *ANTHROPIC)
}
"""The parameters whose value must be looked at before a request goes on."""

PAGE = """# Request parameters

Generated from `schemas/parameters.py` by `python -m schemas.parameters`; a test keeps it in step.

Every parameter is honoured, neutral by the API's own definition, or refused with a 400 that names it. Parameters that
are not listed are refused by name. `null` means "absent" everywhere.
"""


def page() -> str:
    """`docs/parameters.md`."""
    openai = _table(
        OPENAI_PARAMETERS,
        {"chat": "chat", "completions": "completions", "responses": "responses", "decisions": "decisions"},
    )
    anthropic = _table(ANTHROPIC_PARAMETERS, {"messages": "messages", "count_tokens": "count"})
    return f"{PAGE}\n## OpenAI's API\n\n{openai}\n## Anthropic's API\n\n{anthropic}"


def _table(parameters: tuple[Parameter, ...], columns: dict[Endpoint, str]) -> str:
    lines = [f"| parameter | {' | '.join(columns.values())} | what becomes of it | passes | notes |\n"]
    lines.append("|---" * (4 + len(columns)) + "|\n")
    for p in parameters:
        where = " | ".join("yes" if endpoint in p.endpoints else "" for endpoint in columns)
        values = "any" if p.only is None else ", ".join(f"`{json.dumps(value)}`" for value in p.only) or "only `null`"
        lines.append(f"| `{p.name}` | {where} | {p.kind} | {values} | {p.note} |\n")
    return "".join(lines)


if __name__ == "__main__":
    print(page(), end="")
