"""Figures for Prometheus: what the HTTP side sees itself, and what the engine reports.

The engine's `Report` names its own figures; they appear as ``sluice_engine_<name>`` (gauges), ``..._total`` (counters)
and ``..._seconds`` (histograms), so a new figure in the engine needs nothing here but, at best, a sentence in `HELP`.
Observations are given out once: one `EngineFigures` folds them, at each scrape.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from schemas.engine import Report

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
TOKEN_SECONDS = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.0, 4.0)

HELP = {
    "up": "1 while the engine answers.",
    "running": "Sequences in the running batch.",
    "waiting": "Requests waiting for their first step.",
    "parked": "Sequences waiting for the grammar worker.",
    "kv_blocks_used": "KV blocks in use.",
    "kv_blocks_total": "KV blocks there are.",
    "prompt_tokens": "Prompt tokens admitted.",
    "generated_tokens": "Tokens sampled.",
    "forced_tokens": "Tokens appended without sampling, where a constraint left no choice.",
    "cached_tokens": "Prompt tokens taken from the prefix cache.",
    "kv_blocks_pinned": "KV blocks of prefixes that are kept for good.",
    "restored_tokens": "Of those, tokens that came back from the host's memory.",
    "host_blocks_used": "KV blocks kept in the host's memory.",
    "host_blocks_total": "KV blocks that the host's memory has room for.",
    "host_stored_blocks": "KV blocks copied out to the host's memory.",
    "host_loaded_blocks": "KV blocks copied back from the host's memory.",
    "prefix_restored_tokens": "Prompt tokens found in the host's memory.",
    "tenants_waiting": "Tenants with requests that wait to be admitted.",
    "displaced": "Sequences that gave a slot or KV blocks to another tenant's, or to one of a higher priority.",
    "prefix_asked_tokens": "Prompt tokens looked up in the prefix cache.",
    "prefix_hit_tokens": "Prompt tokens found in the prefix cache.",
    "compiling": "Constraints being compiled.",
    "constraint_bytes": "Memory of compiled constraints.",
    "mask_rows": "Distinct mask rows in memory.",
    "mask_rows_warm": "Steps whose mask row was known.",
    "mask_rows_cold": "Steps whose mask row had to be made.",
    "preemptions": "Sequences that lost their KV blocks and were computed again.",
    "mask_misses": "Steps that met a grammar state not expanded yet.",
    "ttft": "From submission to the first token.",
    "time_per_output_token": "Between two tokens of a sequence.",
    "queue_time": "From submission to the first step.",
    "compile_time": "Of one constraint, up to admission.",
}


class EngineFigures(Collector):
    """The last report as gauges and counters; observations accumulate in histograms."""

    def __init__(self) -> None:
        self._report = Report("", {"up": 0.0}, {}, {})
        self._histograms: dict[str, Histogram] = {}

    def fold(self, report: Report | None) -> None:
        """Take a report in; None says that the engine gave none: only "up" changes then."""
        if report is None:
            self._report.gauges["up"] = 0.0
            return
        report.gauges["up"] = 1.0
        self._report = report
        for name, values in report.observations.items():
            histogram = self._histograms.get(name) or self._histogram(name)
            for value in values:
                histogram.observe(value)

    def _histogram(self, name: str) -> Histogram:
        buckets = TOKEN_SECONDS if "token" in name else SECONDS
        full_name = f"sluice_engine_{name.removesuffix('_seconds')}_seconds"
        histogram = Histogram(full_name, _help(name), buckets=buckets, registry=None)
        self._histograms[name] = histogram
        return histogram

    def collect(self) -> Iterator[Metric]:
        for name, value in self._report.gauges.items():
            yield GaugeMetricFamily(f"sluice_engine_{name}", _help(name), value)
        for name, value in self._report.counters.items():
            yield CounterMetricFamily(f"sluice_engine_{name}", _help(name), value)
        for histogram in self._histograms.values():
            yield from histogram.collect()


def _help(name: str) -> str:
    return HELP.get(name, name.replace("_", " ") + ".")


class Metrics:
    """One registry an application, so that several can live in one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.engine = EngineFigures()
        self.registry.register(self.engine)
        self.requests = Counter(
            "sluice_http_requests", "Requests answered.", ("route", "method", "status"), registry=self.registry
        )
        self.duration = Histogram(
            "sluice_http_request_duration_seconds",
            "From the request's first byte to the answer's last.",
            ("route",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.first_token = Histogram(
            "sluice_http_time_to_first_token_seconds",
            "From the request's first byte to the first text of its answer.",
            ("route",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.in_flight = Gauge("sluice_http_requests_in_flight", "Requests not yet answered.", registry=self.registry)
        self.disconnects = Counter(
            "sluice_http_disconnects", "Clients that went away before their answer ended.", registry=self.registry
        )
        self.batch_lines = Counter(
            "sluice_batch_lines", "Lines of batches answered here.", ("outcome",), registry=self.registry
        )
