"""Does the mask help the answer? Extractions with the embedded model: free, prompted with the schema, and constrained.

    python -m bench.extraction [--cases 100] [--data FILE]

The records are instances of MaskBench's schemas with 3 to 10 plain fields. Each is told as sentences in a seeded order
("The publication date is 2022-01-01."), and the model is asked for it as JSON, greedily, in at most 320 tokens:

    free        the names of the keys in the prompt
    prompted    the schema in the prompt
    bounded     the schema in the prompt and as the constraint, whitespace as models write it
    compact     the same, without whitespace
    unprompted  the names of the keys in the prompt, the schema as the constraint

Constrained answers are closed within their tokens. *Valid*: the whole text is JSON that satisfies the schema. *Fields*:
how many of the told fields are there with the told value, in the first JSON object of the text, wherever it stands, so
that prose around it costs validity alone. The prompt ends with the chat template's own tokens, which no token of the
answer could merge with: there is nothing to heal.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from jsonschema import Draft202012Validator
from jsonschema.validators import validator_for

from bench.maskbench import DATA, load_cases
from engine.model.store import resolve
from providers.base import Delta, GenerateRequest, Message, ProviderError
from providers.local import LocalProvider
from schemas.config import EMBEDDED_MODEL, ModelSettings, Settings
from schemas.constraint import JsonSchemaSpec
from schemas.engine import Sampling

MAX_TOKENS = 320
AT_ONCE = 32


@dataclass(frozen=True)
class Record:
    """A schema, what is told, and the fields to be found in it."""

    schema: Any
    text: str
    fields: dict[str, Any]


@dataclass
class Score:
    """Of one way to ask, over all records."""

    asked: int = 0
    refused: int = 0
    valid: int = 0
    whole: int = 0
    shares: list[float] = field(default_factory=list)


def records(path: Path, count: int, seed: int) -> list[Record]:
    """The first plain record of each case, in a seeded order."""
    rng = random.Random(seed)
    found: list[Record] = []
    for case in load_cases(path, None, seed):
        plain = next((data for valid, text in case.tests if valid and _plain(data := json.loads(text))), None)
        if plain is None:
            continue
        sentences = [f"The {_words(key)} is {_told(value)}." for key, value in plain.items()]
        rng.shuffle(sentences)
        found.append(Record(case.schema, " ".join(sentences), plain))
    return found[:count]


def _plain(data: Any) -> bool:
    if not isinstance(data, dict) or not 3 <= len(data) <= 10:
        return False
    return all(
        (isinstance(value, (str, int, float)) and len(str(value)) <= 60)
        or (isinstance(value, list) and 0 < len(value) <= 4 and all(isinstance(x, (str, int)) for x in value))
        for value in data.values()
    )


def _words(key: str) -> str:
    return key.replace("_", " ").replace("-", " ").strip()


def _told(value: Any) -> str:
    if isinstance(value, list):
        return " and ".join(map(_told, value))
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)


def ask(record: Record, schema_in_prompt: bool) -> tuple[Message, ...]:
    keys = ", ".join(record.fields)
    form = f"the schema {json.dumps(record.schema)}" if schema_in_prompt else f"the keys {keys}"
    system = f"You extract facts from text. Answer with one JSON object that has {form}, and nothing else."
    return Message("system", system), Message("user", record.text)


def judge(record: Record, text: str, score: Score) -> None:
    try:
        whole = json.loads(text)
    except ValueError:
        whole = None
    check: Any = validator_for(record.schema, default=Draft202012Validator)
    score.valid += whole is not None and check(record.schema).is_valid(whole)
    said = whole if isinstance(whole, dict) else first_object(text)
    right = sum(key in said and said[key] == value for key, value in record.fields.items())
    score.shares.append(right / len(record.fields))
    score.whole += right == len(record.fields)


def first_object(text: str) -> dict[str, Any]:
    """The first JSON object in a text, or none."""
    decoder = json.JSONDecoder()
    for i, character in enumerate(text):
        if character == "{":
            try:
                found, _ = decoder.raw_decode(text, i)
            except ValueError:
                continue
            return found
    return {}


Whitespace = Literal["compact", "bounded"]
WAYS: dict[str, tuple[bool, Whitespace | None]] = {
    "free": (False, None),
    "prompted": (True, None),
    "bounded": (True, "bounded"),
    "compact": (True, "compact"),
    "unprompted": (False, "bounded"),
}


async def run(chosen: list[Record], progress: Callable[[str], None]) -> dict[str, Score]:
    provider = LocalProvider(Settings(models=(ModelSettings(name="m", path=str(resolve(EMBEDDED_MODEL))),)))
    await provider.start()
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(way: str, i: int, record: Record, score: Score) -> None:
        in_prompt, whitespace = WAYS[way]
        constraint = JsonSchemaSpec(json.dumps(record.schema), whitespace=whitespace) if whitespace else None
        request = GenerateRequest(
            f"{way}-{i}", "m", ask(record, in_prompt), Sampling(temperature=0.0), constraint,
            close=constraint is not None, max_tokens=MAX_TOKENS, clip=True,
        )  # fmt: skip
        async with gate:
            score.asked += 1
            try:
                generation = await provider.generate(request)
            except ProviderError as error:
                score.refused += 1
                progress(f"{way} {i}: {error.message}")
                return
            text = "".join([event.text async for event in generation if isinstance(event, Delta)])
            await generation.aclose()
        judge(record, text, score)

    scores = {way: Score() for way in WAYS}
    for way, score in scores.items():
        await asyncio.gather(*(one(way, i, record, score) for i, record in enumerate(chosen)))
        progress(f"{way}: {score.valid} of {score.asked} valid")
    await provider.aclose()
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, default=DATA, help="a file in MaskBench's format")
    options = parser.parse_args()
    scores = asyncio.run(run(records(options.data, options.cases, options.seed), lambda line: print(line, flush=True)))
    print(f"\n{EMBEDDED_MODEL}, {options.cases} records\n{'':12}{'valid':>8}{'fields':>8}{'whole':>8}{'refused':>9}")
    line: dict[str, Any] = {"bench": "extraction", "cases": options.cases}
    for way, score in scores.items():
        answered = max(1, len(score.shares))
        shares = {
            "valid": score.valid / answered,
            "fields": sum(score.shares) / answered,
            "whole": score.whole / answered,
        }
        print(f"{way:12}" + "".join(f"{share:8.1%}" for share in shares.values()) + f"{score.refused:9}")
        line[way] = shares | {"refused": score.refused}
    print(json.dumps(line))


if __name__ == "__main__":
    main()
