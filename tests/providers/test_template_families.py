"""Prompts of each family's template, as transformers renders them, and what the family's models may write.

`templates/` has a template a family in the form that it publishes, written anew from what is documented: turns, tools,
calls, results and thoughts, with the family's own refusals.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.utils.chat_template_utils import render_jinja_template

from engine.grammar_worker import constraint_of
from engine.model.chat_template import ChatTemplate
from engine.model.errors import ChatTemplateError
from engine.model.tokenizer import Tokenizer
from fsm import TokenTable, compile_constraint
from providers.base import Call, Delta, GenerateRequest, Message, Thought, Tool, Tools
from providers.choice_text import ChoiceText
from providers.preparing import Preparer
from providers.prompting import Prompter
from providers.thinking import Stage
from providers.tool_calls import CallReader
from providers.tool_formats import HERMES, LLAMA3, MISTRAL, MISTRAL_ARGS, ToolFormat, format_of
from schemas.engine import Tokens
from tests.providers.bytewise import byte_tokenizer

FOLDER = Path(__file__).parent / "templates"
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
SPECIAL = ("</s>", "<s>", "<|im_start|>", "<|im_end|>", "<|eot_id|>", "<|start_header_id|>", "[INST]", "[/INST]")
BYTES = TokenTable.from_bytes([*(bytes([b]) for b in range(256)), None], [256])

FAMILIES: dict[str, ToolFormat | None] = {
    "llama3": LLAMA3,
    "qwen25": HERMES,
    "qwen3": HERMES,
    "qwen35": HERMES,
    "hermes": HERMES,
    "mistral_v3": MISTRAL,
    "mistral_v11": MISTRAL_ARGS,
    "smollm2": None,
    "deepseek_r1": None,
}
KNOWING = [name for name, format in FAMILIES.items() if format is not None]
family = pytest.mark.parametrize("name", FAMILIES)
knowing = pytest.mark.parametrize("name", KNOWING)

CITY = '{"type":"object","properties":{"city":{"enum":["Oslo","Rome"]}},"required":["city"]}'
WEATHER = Tool("weather", CITY, "The weather.")
CLOCK = Tool("clock", '{"type":"object","maxProperties":0}')

words = st.text(alphabet="ab \n\"'\\{}<>é🦆", min_size=1, max_size=12)
texts = words.filter(lambda text: bool(text.strip()))


def source(name: str) -> str:
    return (FOLDER / f"{name}.jinja").read_text()


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return byte_tokenizer(*SPECIAL)


def prompter(tokenizer: Tokenizer, name: str) -> Prompter:
    return Prompter(tokenizer, ChatTemplate(source(name), TOKENS))


def by_transformers(name: str, turns: list[dict[str, Any]], tools: list[Any] | None, **more: Any) -> str:
    rendered: Any = render_jinja_template(
        [turns], tools=tools, chat_template=source(name), add_generation_prompt=True, **TOKENS, **more
    )
    return rendered[0][0]


def as_dict(message: Message, short: bool) -> dict[str, Any]:
    """A turn as transformers documents it. ``short``: with ids as Mistral's templates want them."""

    def id_of(id: str) -> str:
        return hashlib.sha256(id.encode()).hexdigest()[:9] if short else id

    turn: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.thoughts:
        turn["reasoning_content"] = message.thoughts
    if message.name:
        turn["name"] = message.name
    if message.call_id:
        turn["tool_call_id"] = id_of(message.call_id)
    if message.calls:
        turn["tool_calls"] = [
            {"id": id_of(call.id), "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.calls
        ]
    return turn


def described(*tools: Tool) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for tool in tools:
        about: dict[str, Any] = {"name": tool.name}
        if tool.description:
            about["description"] = tool.description
        found.append({"type": "function", "function": {**about, "parameters": json.loads(tool.parameters)}})
    return found


@family
def test_the_family_is_read_off_the_template(name: str) -> None:
    assert format_of(source(name)) == FAMILIES[name]


@family
@settings(max_examples=15, deadline=None)
@given(system=st.none() | texts, said=st.lists(st.tuples(texts, texts), max_size=2), last=texts)
def test_conversations(
    tokenizer: Tokenizer, name: str, system: str | None, said: list[tuple[str, str]], last: str
) -> None:
    turns = [Message("system", system)] if system is not None else []
    for asked, answered in said:
        turns += [Message("user", asked), Message("assistant", answered)]
    turns.append(Message("user", last))
    expected = by_transformers(name, [as_dict(turn, False) for turn in turns], None)
    assert prompter(tokenizer, name).tokens(turns) == tokenizer.encode(expected, special=True)


@knowing
@settings(max_examples=15, deadline=None)
@given(system=st.booleans(), city=texts, result=texts, answered=texts, again=st.booleans())
def test_calls_and_results(
    tokenizer: Tokenizer, name: str, system: bool, city: str, result: str, answered: str, again: bool
) -> None:
    """Tools, a call, its result, the answer, and a question more."""
    turns = [Message("system", "Be brief.")] if system else []
    turns += [
        Message("user", "How is it?"),
        Message("assistant", "", calls=(Call("call_1", "weather", {"city": city}),)),
        Message("tool", result, "weather", call_id="call_1"),
    ]
    if again:
        turns += [Message("assistant", answered), Message("user", "Thanks")]
    short = FAMILIES[name] in (MISTRAL, MISTRAL_ARGS)
    expected = by_transformers(name, [as_dict(turn, short) for turn in turns], described(WEATHER, CLOCK))
    assert prompter(tokenizer, name).tokens(turns, [WEATHER, CLOCK]) == tokenizer.encode(expected, special=True)


TOGETHER = (
    Message("user", "Oslo and Rome?"),
    Message("assistant", "", calls=(Call("a", "weather", {"city": "Oslo"}), Call("b", "weather", {"city": "Rome"}))),
    Message("tool", "rain", "weather", call_id="a"),
    Message("tool", "sun", "weather", call_id="b"),
)
APART = (
    TOGETHER[0],
    Message("assistant", "", calls=TOGETHER[1].calls[:1]),
    TOGETHER[2],
    Message("assistant", "", calls=TOGETHER[1].calls[1:]),
    TOGETHER[3],
)


@knowing
def test_several_calls(tokenizer: Tokenizer, name: str) -> None:
    """Families with one call a turn are told of several one by one."""
    format = FAMILIES[name]
    assert format is not None
    turns = [as_dict(turn, format in (MISTRAL, MISTRAL_ARGS)) for turn in (TOGETHER if format.several else APART)]
    expected = by_transformers(name, turns, described(WEATHER))
    assert prompter(tokenizer, name).tokens(TOGETHER, [WEATHER]) == tokenizer.encode(expected, special=True)


def test_a_template_of_its_own_for_tools(tokenizer: Tokenizer) -> None:
    """As Hermes 2 Pro has: transformers takes it where there are tools, and nowhere else."""
    both = Prompter(tokenizer, ChatTemplate(source("smollm2"), TOKENS, source("hermes")))
    turns = [Message("user", "Hi")]
    assert both.format is HERMES
    assert both.tokens(turns) == prompter(tokenizer, "smollm2").tokens(turns)
    assert both.tokens(turns, [WEATHER]) == prompter(tokenizer, "hermes").tokens(turns, [WEATHER])


@pytest.mark.parametrize("name", ["qwen3", "qwen35"])
@pytest.mark.parametrize("thinking", [None, False, True])
def test_the_switch_and_earlier_thoughts(tokenizer: Tokenizer, name: str, thinking: bool | None) -> None:
    turns = [
        Message("user", "How is it?"),
        Message("assistant", "Wait.", calls=TOGETHER[1].calls[:1], thoughts="Look it up."),
        TOGETHER[2],
    ]
    told = {} if thinking is None else {"enable_thinking": thinking}
    expected = by_transformers(name, [as_dict(turn, False) for turn in turns], described(WEATHER), **told)
    draft = prompter(tokenizer, name).draft(turns, [WEATHER], thinking=thinking)
    assert draft.text == expected and "<think>\nLook it up.\n</think>" in expected
    stage: Stage = "never" if thinking is False else "begun" if name == "qwen35" else "ahead"
    assert draft.stage == stage


@pytest.mark.parametrize(("name", "stage"), [("deepseek_r1", "begun"), ("qwen25", "never"), ("smollm2", "never")])
def test_other_stages(tokenizer: Tokenizer, name: str, stage: Stage) -> None:
    assert prompter(tokenizer, name).draft([Message("user", "?")]).stage == stage


@pytest.mark.parametrize(
    ("name", "turns", "why"),
    [
        ("mistral_v3", [Message("user", "a"), Message("user", "b")], "must alternate"),
        ("mistral_v11", [Message("assistant", "a")], "must alternate"),
        ("llama3", [Message("system", "a")], "there is none"),
    ],
)
def test_a_family_refuses_in_its_own_words(tokenizer: Tokenizer, name: str, turns: list[Message], why: str) -> None:
    with pytest.raises(ChatTemplateError, match=why):
        prompter(tokenizer, name).tokens(turns, [WEATHER])


THOUGHTS = {"qwen3": "<think>\nOslo, then.\n</think>\n\n", "qwen35": "Oslo, then.\n</think>\n\n"}
THOUGHTS["deepseek_r1"] = THOUGHTS["qwen35"]
CALLS = {
    "llama3": '{"name": "weather", "parameters": {"city": "Oslo"}}',
    "mistral_v3": (
        '[TOOL_CALLS] [{"name": "weather", "arguments": {"city": "Oslo"}}, {"name": "clock", "arguments": {}}]'
    ),
    "mistral_v11": '[TOOL_CALLS]weather[ARGS]{"city": "Oslo"}\n[TOOL_CALLS]clock[ARGS]{}',
}
PAIR = (
    '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>\n'
    '<tool_call>\n{"name": "clock", "arguments": {}}\n</tool_call>'
)


@family
@pytest.mark.parametrize("required", [False, True])
@pytest.mark.parametrize("size", [1, 5, 1000])
def test_what_a_model_writes_is_enforced_and_read(tokenizer: Tokenizer, name: str, required: bool, size: int) -> None:
    """The family's own spelling is what the constraint admits; a name or an argument of another kind it does not."""
    tools = Tools((WEATHER, CLOCK), ("weather", "clock"), required=required)
    preparer = Preparer("m", tokenizer, prompter(tokenizer, name))
    prepared = preparer.prepare(GenerateRequest("r", "m", (Message("user", "Hi"),), tools=tools))
    assert prepared.plan is not None and prepared.constraint is not None
    said = "" if required else "Let me see. "
    text = THOUGHTS.get(name, "") + said + CALLS.get(name, PAIR)
    program = compile_constraint(constraint_of(prepared.constraint), BYTES)

    def accepts(text: str) -> bool:
        matcher = program.matcher()
        return all(matcher.advance(byte) for byte in text.encode()) and matcher.accepting

    assert accepts(text)
    assert not accepts(text.replace('"Oslo"', '"Bonn"')) and not accepts(text.replace("weather", "whether"))

    choice = ChoiceText(0, tokenizer, (), True, CallReader(prepared.plan.format), prepared.stage)
    ids = tokenizer.encode(text, special=False)
    events: list[Any] = []
    for start in range(0, len(ids), size):
        events += choice.take(Tokens("r", 0, ids[start : start + size]))
    events += choice.rest()
    thought = "".join(event.text for event in events if isinstance(event, Thought))
    assert thought == ("Oslo, then." if name in THOUGHTS else "")
    assert "".join(event.text for event in events if isinstance(event, Delta)).strip() == said.strip()
    called: list[tuple[str, str]] = []
    for event in events:
        match event:
            case Thought() | Delta():
                pass
            case _ if hasattr(event, "name"):
                called.append((event.name, ""))
            case _:
                called[-1] = called[-1][0], called[-1][1] + event.arguments
    expected = [("weather", '{"city": "Oslo"}'), ("clock", "{}")]
    assert called == (expected[:1] if name == "llama3" else expected)
