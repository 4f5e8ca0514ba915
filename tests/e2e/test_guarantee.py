"""What the project promises: every finished answer validates, whatever the model, the schema and the sampling
parameters do.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import validators
from jsonschema.protocols import Validator

from tests.e2e.conftest import MODEL, Server
from tests.e2e.schemas import OWN, real, viable

TEMPERATURES = (0.0, 1.0, 1.5)


def validator(schema: Any) -> Validator:
    """Formats are asserted, as the server does by default."""
    kind = validators.validator_for(schema, default=validators.Draft202012Validator)
    return kind(schema, format_checker=kind.FORMAT_CHECKER)


async def _answers(
    server: Server, schemas: dict[str, Any], max_tokens: int, at_once: int
) -> list[tuple[str, float, str, str]]:
    """(schema, temperature, finish reason, text) of every schema at every temperature."""
    gate = asyncio.Semaphore(at_once)
    async with server.async_client() as client:

        async def ask(name: str, temperature: float) -> tuple[str, float, str, str]:
            async with gate:
                answer = await client.chat.completions.create(
                    model=MODEL,
                    messages=[{"role": "user", "content": f"Give me one short example of a {name} as JSON."}],
                    response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schemas[name]}},
                    temperature=temperature,
                    max_tokens=max_tokens,
                    seed=7,
                )
            choice = answer.choices[0]
            return name, temperature, choice.finish_reason, choice.message.content or ""

        return await asyncio.gather(*(ask(name, t) for name in schemas for t in TEMPERATURES))


def _hold(answers: list[tuple[str, float, str, str]], schemas: dict[str, Any]) -> float:
    """Check every answer; returns the share that finished, and says which did not."""
    unfinished: list[tuple[str, float]] = []
    for name, temperature, reason, text in answers:
        where = f"{name} at {temperature}: {text!r}"
        if reason == "stop":
            error = next(validator(schemas[name]).iter_errors(json.loads(text)), None)
            assert error is None, f"{where}: {error}"
        else:
            assert reason == "length", where
            assert viable(schemas[name], text), where
            unfinished.append((name, temperature))
    print(f"{len(answers)} answers, cut by their length: {unfinished}")
    return sum(reason == "stop" for _, _, reason, _ in answers) / len(answers)


def test_answers_of_a_few_schemas_validate(server: Server) -> None:
    schemas = OWN | real(4)
    assert _hold(asyncio.run(_answers(server, schemas, max_tokens=256, at_once=8)), schemas) > 0.5


@pytest.mark.slow
def test_answers_of_sixty_schemas_validate_and_finish(server: Server) -> None:
    schemas = OWN | real(60)
    if len(schemas) < 60:
        pytest.skip("the real schemas (../shared/data/maskbench.jsonl.gz) are not here")
    finished = _hold(asyncio.run(_answers(server, schemas, max_tokens=2048, at_once=24)), schemas)
    print(f"finished with stop: {finished:.1%} of {3 * len(schemas)}")
    assert finished >= 0.9


@pytest.mark.slow
def test_answers_of_thirty_open_schemas_validate_where_they_finish(server: Server) -> None:
    """Free strings, open objects and long arrays: many answers are cut, none may be wrong."""
    schemas = real(30, ending=False)
    if not schemas:
        pytest.skip("the real schemas (../shared/data/maskbench.jsonl.gz) are not here")
    _hold(asyncio.run(_answers(server, schemas, max_tokens=400, at_once=24)), schemas)


SAMPLING = st.fixed_dictionaries(
    {},
    optional={
        "temperature": st.floats(0, 2),
        "top_p": st.floats(0.05, 1),
        "presence_penalty": st.floats(-2, 2),
        "frequency_penalty": st.floats(-2, 2),
        "seed": st.integers(0, 2**31),
        "stop": st.sampled_from(['"', "}", ",", "a", ["1", " "]]),
        "logit_bias": st.dictionaries(st.integers(0, 49_151).map(str), st.integers(-100, 100), max_size=5),
        "n": st.integers(1, 2),
        "logprobs": st.booleans(),
    },
)
VENDOR = st.fixed_dictionaries(
    {}, optional={"top_k": st.integers(1, 50), "min_p": st.floats(0, 0.5), "repetition_penalty": st.floats(0.8, 1.5)}
)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sampling=SAMPLING, vendor=VENDOR, name=st.sampled_from(sorted(OWN)))
def test_no_sampling_parameter_makes_a_finished_answer_invalid(
    server: Server, sampling: dict[str, Any], vendor: dict[str, Any], name: str
) -> None:
    answer = server.client().chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": f"A {name}, as JSON."}],
        response_format={"type": "json_schema", "json_schema": {"name": name, "schema": OWN[name]}},
        max_tokens=100,
        extra_body=vendor,
        **sampling,
    )
    _hold([(name, 0.0, c.finish_reason, c.message.content or "") for c in answer.choices], OWN)
