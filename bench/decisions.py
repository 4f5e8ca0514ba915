"""Many questions about one long input, with the embedded model: what is computed, and how long it takes.

    python -m bench.decisions [--questions 400] [--words 800]

A third of the questions are predicates, a third choices of twelve, a third scores of ten levels. *Together* they are
one request, as `POST /v1/decisions` makes it: the input is computed once, and each question computes itself and the
branches of its options. *Apart* each of some of them is a request of a tenant of its own, who finds nothing in the
prefix cache. Tokens are those that the engine computed: of all prompts that were scored, without those in the cache.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time

from engine.model.store import resolve
from gateway import deciding
from providers.base import Message, Question, WeighRequest
from providers.local import LocalProvider
from schemas.config import EMBEDDED_MODEL, ModelSettings, Settings

MODEL = "m"
APART = 12
"""Questions that are asked one by one."""
TOPICS = "billing delivery returns login refund warranty sizes stock bug praise spam other".split()
LEVELS = tuple(f"level {i}" for i in range(10))


def question(number: int) -> Question:
    place = f"questions[{number}]"
    match number % 3:
        case 0:
            return deciding.predicate(f"Sentence {number} of the report is about money.", place=place)
        case 1:
            about = f"What is sentence {number} of the report about?"
            return deciding.choice(about, [(topic, None) for topic in TOPICS], place=place)
        case _:
            return deciding.score(f"How urgent is sentence {number} of the report?", LEVELS, place=place)


def asking(name: str, text: str, questions: tuple[Question, ...]) -> WeighRequest:
    turns = (Message("system", deciding.SYSTEM), Message("user", f"{text}\n\n"))
    return WeighRequest(name, MODEL, turns, questions, tenant=name)


async def computed(provider: LocalProvider) -> float:
    counters = (await provider.report()).counters
    return counters["prompt_tokens"] - counters["cached_tokens"]


async def measured(provider: LocalProvider, requests: list[WeighRequest]) -> tuple[float, float]:
    """(tokens computed, seconds) for ``requests``, one after another."""
    before, began = await computed(provider), time.perf_counter()
    for request in requests:
        await provider.weigh(request)
    seconds = time.perf_counter() - began
    return await computed(provider) - before, seconds


async def run(count: int, words: int) -> dict[str, tuple[float, float]]:
    """For each way to ask, tokens and milliseconds a question."""
    provider = LocalProvider(Settings(models=(ModelSettings(name=MODEL, path=str(resolve(EMBEDDED_MODEL))),)))
    await provider.start()
    try:
        questions = tuple(map(question, range(count)))
        text = " ".join(f"Sentence {i}." for i in range(words // 2))
        await provider.weigh(asking("warm", "Hello", questions[:3]))
        few = questions[:APART]
        together, first = await measured(provider, [asking("together", text, questions)])
        apart, others = await measured(provider, [asking(f"apart-{i}", text, (one,)) for i, one in enumerate(few)])
    finally:
        await provider.aclose()
    return {
        "together": (together / count, first / count * 1000),
        "apart": (apart / len(few), others / len(few) * 1000),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=400)
    parser.add_argument("--words", type=int, default=800, help="of the input")
    options = parser.parse_args()
    found = asyncio.run(run(options.questions, options.words))
    print(f"{EMBEDDED_MODEL}, {options.questions} questions about an input of {options.words} words")
    print(f"{'a question':12}{'tokens':>10}{'ms':>10}")
    for way, (tokens, milliseconds) in found.items():
        print(f"{way:12}{tokens:10.1f}{milliseconds:10.1f}")
    ways = {way: {"tokens": tokens, "ms": milliseconds} for way, (tokens, milliseconds) in found.items()}
    print(json.dumps({"bench": "decisions", "questions": options.questions, "words": options.words, **ways}))


if __name__ == "__main__":
    main()
