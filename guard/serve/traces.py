"""OpenTelemetry spans of calls, exported by OTLP; the usual variables, OTEL_*, say where to and how many."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from guard.serve.core.info import ServiceInfo
from guard.serve.core.observer import Observer
from guard.verdict import Verdict

# A caller's mistake is no failure of the server's.
_FAILED = frozenset({"INTERNAL", "UNAVAILABLE", "DEADLINE_EXCEEDED", "UNKNOWN", "500", "503", "504"})


class Traces(Observer):
    """An Observer whose calls are spans, children of the caller's (`traceparent`); each verdict is an event.

    `close` it to export what is left.
    """

    def __init__(self, version: str) -> None:
        self._provider = TracerProvider(resource=Resource.create({"service.name": "guard", "service.version": version}))
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("guard.serve", version)
        self._context = TraceContextTextMapPropagator()
        self._codes: frozenset[str] = frozenset()

    def close(self) -> None:
        self._provider.shutdown()

    def describe(self, info: ServiceInfo) -> None:
        self._codes |= frozenset(info.policy.codes)  # of earlier policies, too, by which accepted requests are judged

    @contextmanager
    def call(self, method: str, headers: Mapping[str, str]) -> Iterator[None]:
        parent = self._context.extract(headers)
        name = method if method.startswith("/") else f"guard.v1/{method}"
        # An exception's text may hold that of a conversation.
        with self._tracer.start_as_current_span(
            name, parent, SpanKind.SERVER, record_exception=False, set_status_on_exception=False
        ):
            yield

    def called(self, method: str, code: str, seconds: float) -> None:
        span = trace.get_current_span()
        span.set_attribute("guard.code", code)
        if code in _FAILED:
            span.set_status(Status(StatusCode.ERROR))

    def judged(self, verdict: Verdict) -> None:
        flagged = [code if code in self._codes else "other" for code in verdict.flagged]
        trace.get_current_span().add_event(
            "verdict",
            {
                "guard.outcome": verdict.outcome.value,
                "guard.target": verdict.target.value,
                "guard.flagged": flagged,
                "guard.policy": verdict.policy,
                "guard.model": verdict.model,
                "guard.tokens": verdict.coverage.tokens_total,
                "guard.windows": verdict.coverage.windows,
                "guard.tokenize_ms": verdict.timings.tokenize_ms,
                "guard.queue_ms": verdict.timings.queue_ms,
                "guard.infer_ms": verdict.timings.infer_ms,
            },
        )

    def refused(self, reason: str) -> None:
        trace.get_current_span().add_event("refused", {"guard.reason": reason})
