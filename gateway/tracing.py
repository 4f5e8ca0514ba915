"""OpenTelemetry traces, one server span a generation, by the GenAI semantic conventions (``gen_ai.*``, in development).

Off by default: then nothing of OpenTelemetry is imported. Credentials of the collector come from OpenTelemetry's own
``OTEL_EXPORTER_OTLP_HEADERS``. Prompts, answers and stop strings are never recorded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from providers.base import GenerateRequest
from schemas.config import Telemetry


class Span(Protocol):
    def end(self, status: int, fields: Mapping[str, Any]) -> None:
        """End the span of a request answered with ``status``; ``fields`` are those of its log line."""
        ...


class Tracing(Protocol):
    def start(self, operation: str, request: GenerateRequest, headers: Mapping[str, str]) -> Span | None:
        """A span named "<operation> <model>", below the caller's if ``headers`` carry a ``traceparent``."""
        ...

    def shutdown(self) -> None:
        """Send what has not been sent."""
        ...


class NoTracing:
    """Tracing that is off."""

    def start(self, operation: str, request: GenerateRequest, headers: Mapping[str, str]) -> Span | None:
        return None

    def shutdown(self) -> None:
        pass


def open_tracing(telemetry: Telemetry) -> Tracing:
    """Spans go to the OTLP/HTTP collector that ``telemetry`` names ("http://collector:4318/v1/traces"), if any."""
    if telemetry.otlp_endpoint is None:
        return NoTracing()
    from gateway.otel import OtelTracing, otlp_exporter

    return OtelTracing(otlp_exporter(telemetry.otlp_endpoint), telemetry.service_name)
