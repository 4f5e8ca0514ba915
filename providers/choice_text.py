"""One choice of a generation: token ids come in, text and calls come out."""

from __future__ import annotations

from collections.abc import Iterator

from engine.model.tokenizer import Detokenizer, Tokenizer
from providers.base import CallBegun, CallDelta, Candidate, Delta, ScoredToken, Spoken, Thought
from providers.stops import StopFinder
from providers.thinking import Stage, ThoughtReader
from providers.tool_calls import Arguments, Begun, CallReader, Piece, Text
from schemas.engine import TokenLogprobs, Tokens

MAX_CALLS = 128
"""Of one answer: the tools that OpenAI takes, and the calls that its SDKs do. A small model may go on for ever."""


class ChoiceText:
    """Characters are never split, stop strings never shown, and calls told apart from text by ``reader``. What is
    thought before the answer, where ``stage`` says so, is told apart too, and stops at no stop string.

    ``tokens``: how many there were; ``thought_tokens``: of them those before the answer. ``full``: there are as many
    calls as there may be, the last one complete.
    """

    def __init__(
        self,
        choice: int,
        tokenizer: Tokenizer,
        stops: tuple[str, ...],
        constrained: bool,
        reader: CallReader | None,
        stage: Stage = "never",
    ) -> None:
        self.choice = choice
        self.tokens = 0
        self.thought_tokens = 0
        self.ended = False
        self.full = False
        self._thoughts = None if stage == "never" else ThoughtReader(stage)
        self._undecided: list[ScoredToken | None] = []
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
        thoughts = text = ""
        scored: list[ScoredToken | None] = []
        for i, token in enumerate(event.ids):
            thought, answer = self._told_apart(self._detokenizer.feed((token,)))
            thoughts += thought
            text += self._stops.feed(answer)
            if event.complete is not None:
                self._stops.boundary(event.complete[i])
            self._undecided.append(self._scored(token, event.logprobs[i]) if event.logprobs is not None else None)
            scored += self._decided()
        if thoughts:
            yield Thought(self.choice, thoughts)
        scores = tuple(one for one in scored if one is not None)
        if self._reader is None:
            if text or scores:
                yield Delta(self.choice, text, scores)
            return
        # Log-probabilities are those of the text; the API has no place for those of a call.
        scores = scores if self._reader.in_text else ()
        for piece in self._reader.feed(text):
            if isinstance(piece, Begun) and self._calls == MAX_CALLS:
                break
            yield self._spoken(piece, scores)
            scores = ()
        # Text that follows from a constraint may come together with the beginning of one call more.
        self.full = self._calls == MAX_CALLS and (self._reader.in_text or self._reader.begun > MAX_CALLS)
        if scores and self._reader.in_text:
            yield Delta(self.choice, "", scores)

    def rest(self, *, cut: bool = False) -> Iterator[Spoken]:
        """What was held back until the end. ``cut``: the model had more to say."""
        thoughts, text = self._told_apart(self._detokenizer.flush())
        if self._thoughts is not None:
            more, rest = self._thoughts.flush()
            thoughts, text = thoughts + more, text + rest
        if thoughts:
            yield Thought(self.choice, thoughts)
        text = self._stops.feed(text) + self._stops.flush()
        if self._reader is None:
            if text:
                yield Delta(self.choice, text)
            return
        for piece in (*self._reader.feed(text), *self._reader.flush(cut=cut)):
            yield self._spoken(piece, ())

    def _decided(self) -> list[ScoredToken | None]:
        """The tokens that are known to be the answer's now; those of thoughts are counted."""
        place = "answer" if self._thoughts is None else self._thoughts.place
        if place == "ahead":
            return []
        decided, self._undecided = self._undecided, []
        if place == "answer":
            return decided
        self.thought_tokens += len(decided)
        return []

    def _told_apart(self, text: str) -> tuple[str, str]:
        """(thoughts, answer)"""
        return ("", text) if self._thoughts is None else self._thoughts.feed(text)

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
