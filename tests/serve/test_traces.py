"""Spans as an OTLP collector gets them: the caller's trace goes on, verdicts are events, and no text is in them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import httpx
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from guard import Category, Conversation, Policy, document
from guard.errors import GuardError
from guard.policy import dump
from guard.v1 import moderation_pb2 as pb
from guard.v1.moderation_pb2_grpc import ModerationServiceStub
from tests.fixtures.served import BrokenEngine, serve

CANARY = "kumquat"
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """An OTLP collector that keeps what it gets."""

    def __init__(self) -> None:
        self.got: list[Any] = []

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.got.append(request)
        return trace_service_pb2.ExportTraceServiceResponse()

    @property
    def spans(self) -> dict[str, Any]:
        return {
            span.name: span
            for request in self.got
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        }


@pytest.fixture
async def collector(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Collector]:
    made = Collector()
    server = grpc.server(ThreadPoolExecutor(1))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(made, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    yield made
    server.stop(0)


def attributes(holder: Any) -> dict[str, Any]:
    values = {each.key: each.value for each in holder.attributes}
    return {key: getattr(value, value.WhichOneof("value")) for key, value in values.items()}


async def test_calls_of_both_listeners_are_spans_of_the_callers_trace(collector: Collector) -> None:
    traceparent = f"00-{TRACE}-{PARENT}-01"
    async with serve(rest=True, traces=True) as served, grpc.aio.insecure_channel(served.running.address) as channel:
        conversation = {"messages": [{"role": "ROLE_USER", "content": f"{CANARY} violates:S4"}]}
        await ModerationServiceStub(channel).Moderate(
            pb.ModerateRequest(conversation=conversation), metadata=(("traceparent", traceparent),)
        )
        async with httpx.AsyncClient(base_url=str(served.running.rest_url), trust_env=False, timeout=20) as http:
            await http.post("/v1/check", json={"prompt": CANARY}, headers={"traceparent": traceparent})
    spans = collector.spans
    assert set(spans) == {"guard.v1/Moderate", "/v1/check"}
    for span in spans.values():
        assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
        assert [event.name for event in span.events] == ["verdict"]
    event = attributes(spans["guard.v1/Moderate"].events[0])
    assert event["guard.outcome"] == "UNSAFE"
    assert [each.string_value for each in event["guard.flagged"].values] == ["S4"]
    assert attributes(spans["guard.v1/Moderate"]) == {"guard.code": "OK"}
    assert attributes(spans["/v1/check"]) == {"guard.code": "200"}
    assert CANARY not in str(collector.got)


async def test_no_text_is_in_spans_of_errors_or_in_codes_that_a_caller_brings(collector: Collector) -> None:
    own = Policy("own", "1", CANARY, (Category(CANARY, CANARY, f"A {CANARY}."),))
    async with serve(BrokenEngine(), rest=True, traces=True) as served:
        for text in (f"{CANARY} breaks read", f"{CANARY} breaks score", f"{CANARY} is cancelled", CANARY * 50_000):
            with pytest.raises(GuardError):
                await served.client.moderate(Conversation.of(text))
        await served.client.moderate(Conversation.of(f"violates:{CANARY}"), policy=own)
        async with httpx.AsyncClient(base_url=str(served.running.rest_url), trust_env=False, timeout=20) as http:
            for headers in ({}, {"traceparent": CANARY}, {"baggage": f"a={CANARY}"}):
                body = {"prompt": f"{CANARY} breaks score", "policy": document.dump({"id": CANARY}), CANARY: 1}
                assert (await http.post("/v1/check", json=body, headers=headers)).status_code == 400
            page = (await http.get("/metrics")).text
    assert len(collector.got) >= 1
    assert CANARY not in str(collector.got)
    assert CANARY not in page
    assert 'guard_flagged_total{category="other"} 1.0' in page
    assert dump(own)
