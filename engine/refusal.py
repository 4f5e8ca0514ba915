"""What a request must be, whatever else is running. Ranges of sampling parameters are checked on the HTTP side."""

from __future__ import annotations

from schemas.engine import Submit


def malformed(request: Submit, vocab_size: int, *, constrained: bool) -> str | None:
    """What is wrong with a request in itself, beginning with the field's name; None if nothing is."""
    if not request.prompt:
        return "prompt: at least one token is needed"
    if request.max_tokens < 1:
        return f"max_tokens: {request.max_tokens} is below 1"
    if request.n < 1:
        return f"n: {request.n} is below 1"
    if request.ignore_eos and constrained:
        return "ignore_eos: under a constraint, the constraint says where the text ends"
    if request.close and not constrained:
        return "close: only a constraint says when a text is complete"
    if request.close and request.sampling.logprobs is not None:
        return "close: log-probabilities are not given where tokens may be chosen to come to an end"
    if not 0 <= (request.sampling.logprobs or 0) <= vocab_size:
        return f"sampling.logprobs: {request.sampling.logprobs} is not between 0 and {vocab_size}"
    ids = {
        "prompt": request.prompt,
        "stop_token_ids": request.stop_token_ids,
        "sampling.logit_bias": list(request.sampling.logit_bias or ()),
    }
    for field, values in ids.items():
        if values and not (0 <= min(values) and max(values) < vocab_size):
            place = next(i for i, token in enumerate(values) if not 0 <= token < vocab_size)
            return f"{field}[{place}]: {values[place]} is no token id (0 to {vocab_size - 1})"
    return None


def no_candidates(candidates: list[int], vocab_size: int) -> str | None:
    """What is wrong with the tokens to score, as in `malformed`."""
    for place, token in enumerate(candidates):
        if not 0 <= token < vocab_size:
            return f"candidates[{place}]: {token} is no token id (0 to {vocab_size - 1})"
    return None
