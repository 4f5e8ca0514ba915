"""One choice of a generation: token ids come in, text and calls come out."""

from __future__ import annotations

from collections.abc import Iterator

from engine.model.tokenizer import Detokenizer, Tokenizer
from providers.base import CallBegun, CallDelta, Candidate, Delta, ScoredToken
from providers.stops import StopFinder
from providers.tool_calls import Arguments, Begun, CallReader, Piece, Text
from schemas.engine import TokenLogprobs, Tokens

Spoken = Delta | CallBegun | CallDelta


class ChoiceText:
    """Characters are never split, stop strings never shown, and calls told apart from text by ``reader``."""

    def __init__(
        self, choice: int, tokenizer: Tokenizer, stops: tuple[str, ...], constrained: bool, reader: CallReader | None
    ) -> None:
        self.choice = choice
        self.tokens = 0
        self.ended = False
        self._tokenizer = tokenizer
        self._detokenizer = Detokenizer(tokenizer)
        self._stops = StopFinder(stops, constrained)
        self._reader = reader
        self._calls = 0

    @property
    def stop(self) -> str | None:
        """The stop string at which the text ended; what comes after it is nothing any more."""
        return self._stops.found

    def take(self, event: Tokens) -> Iterator[Spoken]:
        """What new tokens say; nothing while all that is new is held back."""
        self.tokens += len(event.ids)
        text = ""
        for i, token in enumerate(event.ids):
            text += self._stops.feed(self._detokenizer.feed((token,)))
            if event.complete is not None:
                self._stops.boundary(event.complete[i])
        scores = tuple(map(self._scored, event.ids, event.logprobs)) if event.logprobs is not None else ()
        if self._reader is None:
            if text or scores:
                yield Delta(self.choice, text, scores)
            return
        # Log-probabilities are those of the text; the API has no place for those of a call.
        scores = scores if self._reader.in_text else ()
        for piece in self._reader.feed(text):
            yield self._spoken(piece, scores)
            scores = ()
        if scores and self._reader.in_text:
            yield Delta(self.choice, "", scores)

    def rest(self) -> Iterator[Spoken]:
        """What was held back until the end."""
        text = self._stops.feed(self._detokenizer.flush()) + self._stops.flush()
        if self._reader is None:
            if text:
                yield Delta(self.choice, text)
            return
        for piece in (*self._reader.feed(text), *self._reader.flush()):
            yield self._spoken(piece, ())

    def _spoken(self, piece: Piece, scores: tuple[ScoredToken, ...]) -> Spoken:
        match piece:
            case Text(text):
                return Delta(self.choice, text, scores)
            case Begun(name, custom):
                self._calls += 1
                return CallBegun(self.choice, self._calls - 1, name, custom)
            case Arguments(text):
                return CallDelta(self.choice, self._calls - 1, text)

    def _scored(self, token: int, scores: TokenLogprobs) -> ScoredToken:
        top = tuple(map(self._candidate, scores.top_ids, scores.top_logprobs))
        return ScoredToken(self._candidate(token, scores.logprob), top)

    def _candidate(self, token: int, logprob: float) -> Candidate:
        data = self._tokenizer.token_bytes(token) if token < self._tokenizer.vocab_size else b""
        if data is None:
            data = self._tokenizer.token_text(token).encode()
        return Candidate(token, data, logprob)
