"""Tokens with their log-probabilities, in the two shapes the API has for them."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from providers.base import Candidate, ScoredToken
from schemas.openai.chat import ChoiceLogprobs, TokenLogprob, TopLogprob
from schemas.openai.completions import CompletionLogprobs

LOWEST = -9999.0
"""OpenAI's figure for "very unlikely"; JSON has no minus infinity."""


def chat_logprobs(tokens: Sequence[ScoredToken]) -> ChoiceLogprobs:
    return ChoiceLogprobs([_token(token) for token in tokens])


def _token(token: ScoredToken) -> TokenLogprob:
    it = token.sampled
    top = [TopLogprob(_spelled(c.data, ""), _finite(c), list(c.data)) for c in token.top]
    return TokenLogprob(_spelled(it.data, ""), _finite(it), list(it.data), top)


class CompletionTokens:
    """One choice's tokens in the older shape, which counts offsets over the whole text."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="ignore")
        self._length = 0

    def logprobs(self, tokens: Sequence[ScoredToken]) -> CompletionLogprobs:
        """Of the choice's next tokens."""
        out = CompletionLogprobs([], [], [], [])
        for token in tokens:
            ranked = (token.sampled, *token.top)
            out.tokens.append(_spelled(token.sampled.data, "bytes:"))
            out.token_logprobs.append(_finite(token.sampled))
            out.top_logprobs.append({_spelled(c.data, "bytes:"): _finite(c) for c in ranked})
            out.text_offset.append(self._length)
            self._length += len(self._decoder.decode(token.sampled.data))
        return out


def _spelled(data: bytes, prefix: str) -> str:
    """A token's text; where it is no UTF-8 by itself, its bytes as OpenAI spells them."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return prefix + "".join(f"\\x{byte:02x}" for byte in data)


def _finite(candidate: Candidate) -> float:
    return max(candidate.logprob, LOWEST)
