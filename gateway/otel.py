"""`gateway.tracing` over the OpenTelemetry SDK. Imported only when tracing is on (extra ``otel``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry import propagate, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from providers.base import GenerateRequest

_FROM_FIELDS = {
    "prompt_tokens": "gen_ai.usage.input_tokens",
    "completion_tokens": "gen_ai.usage.output_tokens",
    "cached_tokens": "gen_ai.usage.cache_read.input_tokens",
    "finish_reasons": "gen_ai.response.finish_reasons",
    "contract": "sluice.contract",
    "provider": "sluice.provider",
    "served_model": "gen_ai.response.model",
    "attempts": "sluice.attempts",
    "cost_usd": "sluice.cost_usd",
    "error": "error.type",
}


def otlp_exporter(endpoint: str) -> SpanExporter:
    return OTLPSpanExporter(endpoint=endpoint)


class OtelSpan:
    def __init__(self, span: trace.Span) -> None:
        self._span = span

    def end(self, status: int, fields: Mapping[str, Any]) -> None:
        for name, attribute in _FROM_FIELDS.items():
            if (value := fields.get(name)) is not None:
                self._span.set_attribute(attribute, value)
        self._span.set_attribute("http.response.status_code", status)
        if status >= 500 or "error" in fields:
            self._span.set_status(StatusCode.ERROR)
        self._span.end()


class OtelTracing:
    """A tracer provider of its own: the process-wide one belongs to whoever embeds the gateway."""

    def __init__(self, exporter: SpanExporter, service_name: str) -> None:
        self._provider = TracerProvider(resource=Resource.create({"service.name": service_name}))
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("sluice")

    def start(self, operation: str, request: GenerateRequest, headers: Mapping[str, str]) -> OtelSpan:
        sampling = request.sampling
        attributes: dict[str, Any] = {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": "sluice",
            "gen_ai.request.model": request.model,
            "gen_ai.response.model": request.model,
            "gen_ai.response.id": request.id,
            "gen_ai.request.temperature": sampling.temperature,
            "gen_ai.request.top_p": sampling.top_p,
            "gen_ai.request.choice.count": request.n,
            "gen_ai.output.type": "text" if request.constraint is None else "json",
        }
        optional = {
            "gen_ai.request.max_tokens": request.max_tokens,
            "gen_ai.request.seed": sampling.seed,
        }
        attributes.update({name: value for name, value in optional.items() if value is not None})
        parent = propagate.extract(dict(headers))
        name = f"{operation} {request.model}"
        return OtelSpan(self._tracer.start_span(name, parent, SpanKind.SERVER, attributes=attributes))

    def shutdown(self) -> None:
        self._provider.shutdown()
