"""Text that a constraint leaves no choice about is appended, spelled as the tokenizer spells it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from engine.forced import ForcedRuns
from fsm import TokenTable, compile_constraint
from fsm.runtime import Runtime
from grammar import JsonSchema, Regex
from schemas.engine import Sampling
from tests.engine.driver import Driver, ask, chain
from tests.engine.fakes import Answer

TEXTS = ['{"name": "Ann", "birthday": "1990-01-01", "experience": [{"title": "clerk"}]}'] * 3


def tokenizer() -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator(TEXTS, trainer)
    return made


TOKENIZER = tokenizer()
END = TOKENIZER.get_vocab_size()
TABLE = TokenTable.from_tokenizer(TOKENIZER, vocab_size=END + 1, eos_ids=[END])


def run_of(constraint: Any, begun: bytes = b"") -> tuple[bytes, bytes]:
    """The text that is appended after ``begun``, and the forced text that it is a part of."""
    runtime = Runtime(TABLE)
    program = compile_constraint(constraint, TABLE, runtime=runtime)
    program.expand_ahead()
    matcher = program.matcher()
    for byte in begun:
        assert matcher.advance(TABLE.ids_of[bytes([byte])])
    runs = ForcedRuns(runtime, lambda text: TOKENIZER.encode(text, add_special_tokens=False).ids)
    forced, found = matcher.forced(), runs.after(program.number, matcher.state, matcher.row)
    assert found is not None
    run, state = found
    for token in run:
        assert matcher.advance(token)
    assert matcher.state == state
    return b"".join(TABLE.bytes_of(token) or b"" for token in run), forced


SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "experience": {"type": "array"}},
    "required": ["name", "experience"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("constraint", "begun", "appended"),
    [
        (JsonSchema(SCHEMA, whitespace="compact"), b"", b'{"name'),
        (JsonSchema(SCHEMA, whitespace="compact"), b'{"n', b"ame"),
        (JsonSchema(SCHEMA, whitespace="compact"), b'{"name":"A"', b',"experience'),
        (Regex("name: [a-z]+"), b"", b"name:"),
        (Regex("exper(ience|t)"), b"", b""),  # `exper` may become one token with what follows
        (Regex("a b|ab"), b"", b""),
        (Regex("name(s)?"), b"", b""),
        (Regex("caf\u00e9 (a|b)"), b"", "caf\u00e9".encode()),
    ],
)
def test_all_but_the_end_is_appended(constraint: Any, begun: bytes, appended: bytes) -> None:
    run, forced = run_of(constraint, begun)
    assert run == appended
    assert forced.startswith(run)


def test_the_tokens_are_those_of_the_tokenizer() -> None:
    runtime = Runtime(TABLE)
    program = compile_constraint(JsonSchema(SCHEMA, whitespace="compact"), TABLE, runtime=runtime)
    program.expand_ahead()
    runs = ForcedRuns(runtime, lambda text: TOKENIZER.encode(text, add_special_tokens=False).ids)
    matcher = program.matcher()
    matcher.forced()  # answers the misses
    found = runs.after(program.number, matcher.state, matcher.row)
    assert found is not None and list(found[0]) == TOKENIZER.encode('{"name', add_special_tokens=False).ids
    assert runs.after(0, 0, 0) == ((), 0)


def test_a_run_costs_one_forward_pass() -> None:
    tokens = (5, 6, 7, 8, 9, 10)
    asked, skipped = Driver(chain(*tokens)), Driver(chain(*tokens), skip_forced=True)
    for driver in (asked, skipped):
        (heard,) = driver.run((ask("a", [1], 20), 1))
        assert heard.answers == {0: Answer(list(tokens), "stop")}
    assert (asked.runner.forwards, skipped.runner.forwards) == (6, 1)
    assert skipped.loop.report().counters["forced_tokens"] == 5


def test_a_run_in_the_middle_is_computed_with_the_next_token() -> None:
    automaton = chain(5, 6, 7, 8, 9, 10)
    automaton.edges[4][11] = 0
    likes = Sampling(temperature=0.0, logit_bias={9: 90.0})
    driver = Driver(automaton, skip_forced=True)
    (heard,) = driver.run((ask("a", [1], 20, sampling=likes), 1))
    assert heard.answers == {0: Answer([5, 6, 7, 8, 9, 10], "stop")}
    assert driver.runner.forwards == 2


def test_a_run_that_has_no_room_is_cut_as_ever() -> None:
    (heard,) = Driver(chain(5, 6, 7, 8), skip_forced=True).run((ask("a", [1], 3), 1))
    assert heard.answers == {0: Answer([5, 6, 7], "length", False)}


def test_who_wants_log_probabilities_is_asked_for_each_token() -> None:
    driver = Driver(chain(5, 6, 7), skip_forced=True)
    (heard,) = driver.run((ask("a", [1], 9, sampling=Sampling(0.0, logprobs=1)), 1))
    assert len(heard.answers[0].logprobs) == 3 == driver.runner.forwards
    assert json.dumps(heard.answers[0].ids) == "[5, 6, 7]"


def test_runs_do_not_depend_on_what_is_expanded() -> None:
    """A sequence waits for the states of its forced text, so a cold grammar and a warm one give the same tokens."""
    runtime = Runtime(TABLE)
    program = compile_constraint(JsonSchema(SCHEMA, whitespace="compact"), TABLE, runtime=runtime)
    runs = ForcedRuns(runtime, lambda text: TOKENIZER.encode(text, add_special_tokens=False).ids)
    matcher = program.matcher()
    found, asked = None, 0
    while found is None:
        found = runs.after(program.number, matcher.state, matcher.row)
        asked += found is None
        program.answer_misses()
    assert asked > 0
    assert list(found[0]) == TOKENIZER.encode('{"name', add_special_tokens=False).ids


def test_a_sequence_waits_for_its_forced_text() -> None:
    lazy, known = (
        Driver(chain(5, 6, 7, 8, 9, lazy=True), skip_forced=True),
        Driver(chain(5, 6, 7, 8, 9), skip_forced=True),
    )
    answers = [driver.run((ask("a", [1], 20), 1))[0].answers for driver in (lazy, known)]
    assert answers == [{0: Answer([5, 6, 7, 8, 9], "stop")}] * 2
    assert lazy.runner.forwards == known.runner.forwards == 1
