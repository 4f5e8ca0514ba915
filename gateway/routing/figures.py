"""Who was asked, who was left out and why, and how those did who were asked, for Prometheus.

Labels are names of the settings' providers and models, rules of policies, and kinds of errors: all from lists that no
request can lengthen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from gateway.metrics import SECONDS
from gateway.policy.selection import Candidate, Selection
from providers.base import ErrorKind

BREAKER_STATES = ("closed", "half-open", "open")


class RoutingFigures:
    """Without a ``registry`` nobody reads them."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        who = ("provider", "model")
        self._answers = Counter("sluice_route_answers", "Requests, by who answered.", who, registry=registry)
        self._exclusions = Counter(
            "sluice_route_exclusions", "Candidates left out, by the rule.", ("provider", "rule"), registry=registry
        )
        self._nobody = Counter(
            "sluice_route_nobody", "Requests that nobody may answer under their policy.", registry=registry
        )
        self._fallbacks = Counter(
            "sluice_route_fallbacks",
            "Requests that somebody else answered after this provider had failed.",
            ("provider", "error"),
            registry=registry,
        )
        self._errors = Counter("sluice_provider_errors", "Failures of providers.", (*who, "error"), registry=registry)
        self._ttft = Histogram(
            "sluice_provider_time_to_first_token_seconds",
            "From asking a provider to the first text of its answer.",
            who,
            buckets=SECONDS,
            registry=registry,
        )
        self._answering = Histogram(
            "sluice_provider_answer_seconds",
            "From asking a provider to the end of its answer.",
            who,
            buckets=SECONDS,
            registry=registry,
        )

    def selected(self, selection: Selection) -> None:
        """Each rule against a candidate counts; those that allow and deny by name are one, "lists"."""
        for candidate, objections in selection.excluded:
            for objection in objections:
                rule = "lists" if "," in objection.rule else objection.rule
                self._exclusions.labels(candidate.endpoint.name, rule).inc()

    def nobody(self) -> None:
        self._nobody.inc()

    def answered(self, candidate: Candidate, failed: Iterable[tuple[str, str]]) -> None:
        """``failed``: providers that were asked before, and what became of that."""
        self._answers.labels(candidate.endpoint.name, candidate.model).inc()
        for provider, error in failed:
            self._fallbacks.labels(provider, error).inc()

    def began(self, candidate: Candidate, seconds: float) -> None:
        self._ttft.labels(candidate.endpoint.name, candidate.model).observe(seconds)

    def ended(self, candidate: Candidate, seconds: float) -> None:
        self._answering.labels(candidate.endpoint.name, candidate.model).observe(seconds)

    def failed(self, candidate: Candidate, error: ErrorKind) -> None:
        self._errors.labels(candidate.endpoint.name, candidate.model, error).inc()


class BreakerFigures(Collector):
    """The states of all circuit breakers at the time of a scrape. ``breakers``: provider → state."""

    def __init__(self, breakers: Callable[[], Iterable[tuple[str, str]]]) -> None:
        self._breakers = breakers

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(
            "sluice_provider_breaker", "1 for the state of a provider's breaker.", labels=("provider", "state")
        )
        for provider, found in self._breakers():
            for state in BREAKER_STATES:
                family.add_metric((provider, state), float(state == found))
        yield family
