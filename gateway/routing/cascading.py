"""Small models first: an answer is kept if it is whole and its model was sure of it, else the next larger one is asked.

How sure is the geometric mean of the probabilities of the tokens that were drawn, the lowest of all choices. Where a
provider gives no log-probabilities nothing is known, and that is not enough. (FrugalGPT, Chen et al. 2023, learns a
scorer for this; the mean needs no training and no second model.)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from math import exp

import msgspec

from providers.base import Delta, Finished, GenerateRequest, GenerationEvent


def scored(request: GenerateRequest) -> GenerateRequest:
    """``request`` with log-probabilities of the drawn tokens, at least."""
    if request.sampling.logprobs is not None:
        return request
    return replace(request, sampling=msgspec.structs.replace(request.sampling, logprobs=0))


def unscored(event: GenerationEvent) -> GenerationEvent:
    """``event`` without the scores that the client did not ask for."""
    return replace(event, tokens=()) if isinstance(event, Delta) and event.tokens else event


def confidence(events: Iterable[GenerationEvent]) -> float:
    """Of a whole answer, 0 to 1; 0 where a choice was cut or nothing is known."""
    sums: defaultdict[int, list[float]] = defaultdict(list)
    cut: set[int] = set()
    choices: set[int] = set()
    for event in events:
        if isinstance(event, Delta):
            sums[event.choice].extend(token.sampled.logprob for token in event.tokens)
        elif isinstance(event, Finished):
            choices.add(event.choice)
            if event.reason != "stop":
                cut.add(event.choice)
    if cut or not choices or any(not sums[choice] for choice in choices):
        return 0.0
    return min(exp(sum(sums[choice]) / len(sums[choice])) for choice in choices)
