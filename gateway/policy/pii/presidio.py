"""Microsoft Presidio's recognisers beside the built-in ones (extra ``presidio``): identity, licence and account numbers
of more countries, wallets, and with a spaCy model names of people and places.

Nothing is downloaded: a model that is not installed is refused. What Presidio looks up on the network (its recognisers
of addresses and URLs ask for the list of top-level domains) is left to the built-in kinds. A placeholder has the form
of what it stands for, but of Presidio's kinds not their checksums.
"""

from __future__ import annotations

import re
import threading
from functools import cache
from typing import TYPE_CHECKING

from gateway.config import ConfigError
from gateway.policy.pii.finding import BuiltIn, Finder, Found, apart, every_kind
from gateway.policy.pii.kinds import Kind
from schemas.config import PersonalData

if TYPE_CHECKING:
    from presidio_analyzer import AnalyzerEngine
    from presidio_analyzer.nlp_engine import SpacyNlpEngine

ONLINE = frozenset({"EMAIL_ADDRESS", "URL"})
BESIDE = frozenset({"CREDIT_CARD", "DATE_TIME", "EMAIL", "IBAN_CODE", "ID", "IP_ADDRESS", "ORGANIZATION", "UUID"})
"""What the built-in kinds find, and what is not about a person by itself: looked for only where it is named."""


class Presidio:
    """A `Finder`: the built-in kinds, and ``entities`` as ``analyzer`` finds them."""

    max_characters = 50_000
    """Which takes about a second."""

    def __init__(self, analyzer: AnalyzerEngine, language: str, entities: list[str], min_score: float) -> None:
        self._analyzer = analyzer
        self._language = language
        self._entities = entities
        self._min_score = min_score
        # spaCy's pipelines do not promise to be used by several threads at once.
        self._alone = threading.Lock()

    def find(self, text: str) -> list[Found]:
        with self._alone:
            told = self._analyzer.analyze(text, self._language, self._entities, score_threshold=self._min_score)
        analyzed = [Found(one.start, one.end, kind_of(one.entity_type)) for one in told]
        return apart([*every_kind(text), *analyzed], len(text))


@cache
def kind_of(entity: str) -> Kind:
    """Of what Presidio has judged already: any text without line ends is one."""
    return Kind(entity.lower().replace("_", " "), re.compile(r"[^\r\n]+"), bool)


def finder_of(settings: PersonalData) -> Finder:
    """Raises `ConfigError` for what is asked for and not installed, or not known."""
    if not settings.presidio:
        return BuiltIn()
    try:
        from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
    except ImportError:
        message = "`pii.presidio` is on, and Presidio is not installed: pip install 'sluice[presidio]'"
        raise ConfigError(message) from None
    pipeline = _pipeline(settings)
    registry = RecognizerRegistry(supported_languages=[settings.language])
    registry.load_predefined_recognizers(languages=[settings.language], nlp_engine=pipeline)
    analyzer = AnalyzerEngine(registry, pipeline, supported_languages=[settings.language])
    known = set(analyzer.get_supported_entities(settings.language)) - ONLINE
    entities = sorted(known - BESIDE if settings.entities is None else settings.entities)
    if unknown := set(entities) - known:
        named = ", ".join(sorted(unknown))
        raise ConfigError(f"`pii.entities`: Presidio has no {named} in `{settings.language}` that it finds offline")
    return Presidio(analyzer, settings.language, entities, settings.min_score)


def _pipeline(settings: PersonalData) -> SpacyNlpEngine:
    """spaCy's, loaded: a blank one splits words, and knows no names."""
    import spacy
    from presidio_analyzer.nlp_engine import SpacyNlpEngine

    name = settings.spacy_model
    if name is not None and not spacy.util.is_package(name):
        raise ConfigError(f"`pii.spacy_model`: there is no package `{name}` here")
    pipeline = SpacyNlpEngine()
    try:
        pipeline.nlp = {settings.language: spacy.blank(settings.language) if name is None else spacy.load(name)}
    except ImportError:
        raise ConfigError(f"`pii.language`: spaCy does not know `{settings.language}`") from None
    return pipeline
