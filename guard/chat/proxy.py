"""The proxy's application: OpenAI's `POST /v1/chat/completions`, moderated on the way in and on the way out."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any

import httpx
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from guard import strict_json
from guard.chat import prompt as prompts
from guard.chat import upstream
from guard.chat.completion import UpstreamError
from guard.chat.events import Event, events
from guard.chat.gate import Gate, gate
from guard.chat.options import ChatOptions
from guard.chat.relay import Relay
from guard.chat.ruling import Answer, Ruling
from guard.conversation import Conversation
from guard.errors import GuardError, InvalidInput, Overloaded, PermissionDenied, TooLarge, Unauthenticated
from guard.moderator import GuardInfo
from guard.serve.client.fail_open import FailOpen, Side
from guard.serve.core.errors import public
from guard.serve.http.api.openai_error import error as error_body
from guard.serve.http.status import retry_after, status
from guard.serve.limits import Limits
from guard.serve.metrics import CONTENT_TYPE
from guard.stream import drive_async
from guard.verdict import Outcome

log = logging.getLogger("guard.proxy")
OUTCOME, SIDE, CATEGORIES = "x-guard-outcome", "x-guard-side", "x-guard-categories"
_WORDS = {Outcome.SAFE: "passed", Outcome.UNSAFE: "blocked", Outcome.INCOMPLETE: "unjudged"}
_JSON, _EVENTS = "application/json", "text/event-stream"
_UPSTREAM, _GUARD = "upstream_failed", "moderation_failed"


@dataclass(frozen=True, slots=True)
class Judge:
    """A guard: `judge` gives a verdict or error for each conversation, and raises none of guard's; `info` is what it
    judges by, `ready` whether it can."""

    judge: Callable[[Sequence[Conversation]], Awaitable[list[Answer]]]
    info: Callable[[], Awaitable[GuardInfo]]
    ready: Callable[[], bool] = lambda: True


def app(
    guard: Judge, client: httpx.AsyncClient, options: ChatOptions, limits: Limits, api_key: str | None = None
) -> ASGIApp:
    """The application. client: with the upstream's address as its base URL. api_key: sent in place of callers' own.

    Only chat completions and the list of models exist: whatever else the upstream has would not be moderated.
    """

    passes = FailOpen()
    registry = CollectorRegistry()
    registry.register(_Passes(passes))

    async def complete(request: Request) -> Response:
        side: Side = "prompt"
        try:
            body = await _body(request, limits.request_bytes)
            now = gate(body, options, passes)
            answers = await guard.judge(now.prompt.conversations)
            now = now.judged(answers, await _info(guard))
            if (refused := now.refused) is not None:
                return _refusal(now, refused, str(body.get("model", "")))
            response = await _forward(client, request, prompts.forwarded(body), now.prompt.stream, api_key)
            side = "reply"
            if response.status_code >= 400 or not now.prompt.stream:
                try:
                    await response.aread()
                finally:
                    await response.aclose()
                return _passed(response) if response.status_code >= 400 else await _whole(guard, now, response)
            return await _stream(guard, now, response, limits)
        except Exception as problem:  # noqa: BLE001 - passed on to the caller
            return _failed(problem, side)

    async def models(request: Request) -> Response:
        try:
            sent = upstream.request_headers(request.headers, api_key)
            return _passed(await client.get("models", headers=sent))
        except httpx.HTTPError as problem:
            return _failed(problem, "reply")

    async def health(_: Request) -> Response:
        return Response(upstream.json_bytes({"status": "ok"}), media_type=_JSON)

    async def measures(_: Request) -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE)

    async def readiness(_: Request) -> Response:
        ready = guard.ready()
        return Response(
            upstream.json_bytes({"status": "ready" if ready else "stopping"}), 200 if ready else 503, media_type=_JSON
        )

    routes = [
        Route("/v1/chat/completions", complete, methods=["POST"]),
        Route("/v1/models", models, methods=["GET"]),
        Route("/healthz", health, methods=["GET"]),
        Route("/readyz", readiness, methods=["GET"]),
        Route("/metrics", measures, methods=["GET"]),
    ]
    errors: Any = {404: _no_such_path, 405: _no_such_path}
    return Starlette(routes=routes, exception_handlers=errors)


async def _info(guard: Judge) -> GuardInfo | None:
    try:
        return await guard.info()
    except Exception:  # noqa: BLE001 - the answers say so, too, and what that means
        return None


async def _body(request: Request, limit: int) -> dict[str, Any]:
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > limit:
            raise TooLarge(f"the body is larger than {limit} bytes; send less")
    try:
        body = strict_json.parse(data.decode(), constants=False)
    except UnicodeDecodeError as problem:
        raise InvalidInput(f"the body is not UTF-8 (byte {problem.start})") from None
    if not isinstance(body, dict):
        raise InvalidInput("the body must be a JSON object")
    return body


async def _forward(
    client: httpx.AsyncClient, request: Request, body: Mapping[str, Any], stream: bool, api_key: str | None
) -> httpx.Response:
    headers = upstream.request_headers(request.headers, api_key) | {"content-type": _JSON}
    headers["accept"] = "text/event-stream" if stream else _JSON
    return await client.send(
        client.build_request("POST", "chat/completions", content=upstream.json_bytes(body), headers=headers),
        stream=True,
    )


async def _whole(guard: Judge, now: Gate, response: httpx.Response) -> Response:
    headers = upstream.response_headers(response.headers)
    try:
        completion = upstream.parsed(response.content)
    except UpstreamError as problem:
        if now.holds:
            raise
        now.passes.passed("reply", problem)
        return _passed(response)
    replies = now.replies(completion)
    answers = iter(await guard.judge([each for each in replies if each is not None]))
    each = [None if reply is None else next(answers) for reply in replies]
    made = now.answered(completion, each)
    ruling = Ruling(tuple(answer for answer in each if answer is not None))
    if now.holds:
        word = _WORDS[Outcome.INCOMPLETE if ruling.error else ruling.outcome]
        headers |= _outcome(word, "reply", ruling)
    else:
        headers |= _outcome("observed", None, Ruling((*now.asked.answers, *ruling.answers)))
    return Response(upstream.json_bytes(made), 200, headers, media_type=_JSON)


def _refusal(now: Gate, outcome: Outcome, model: str) -> Response:
    headers = _outcome(_WORDS[outcome], "prompt", now.asked)
    if not now.prompt.stream:
        made = now.refusal(outcome, model)
        return Response(upstream.json_bytes(made), 200, headers, media_type=_JSON)
    events = [*map(upstream.event, now.refusal_chunks(outcome, model)), upstream.END]
    return Response(b"".join(each.raw for each in events), 200, headers, media_type=_EVENTS)


async def _stream(guard: Judge, now: Gate, response: httpx.Response, limits: Limits) -> Response:
    """The answer as a stream. Raises UpstreamError where it begins with something else, unless all is shown anyway."""
    incoming = events(response.aiter_bytes())
    first: list[Event] = []
    try:
        while now.holds and not first:
            event = await anext(incoming, None)
            if event is None:
                raise UpstreamError("the upstream's answer is no stream of events")
            with suppress(upstream.InStream):  # is sent on where it belongs
                if upstream.chunk(event) is None and event.data is None:
                    continue
            first = [event]
    except BaseException:
        await response.aclose()
        raise
    headers = upstream.response_headers(response.headers) | _outcome("streaming", None, now.asked)
    sent = _events(guard, now, response, first, incoming, limits.conversation_characters)
    kind = _EVENTS if now.holds else response.headers.get("content-type", _EVENTS)
    return StreamingResponse(sent, 200, headers, media_type=kind)


async def _events(
    guard: Judge,
    now: Gate,
    response: httpx.Response,
    first: Sequence[Event],
    incoming: AsyncIterator[Event],
    longest: int,
) -> AsyncIterator[bytes]:
    """The events of a moderated stream. One that fails ends with an error in place of `[DONE]`."""
    machine = Relay(now, longest, upstream.chunk, upstream.event)
    ended = False

    async def source() -> AsyncIterator[Event]:
        nonlocal ended
        for event in first:
            ended |= event.data == upstream.DONE
            yield event
        while not ended and (following := await anext(incoming, None)) is not None:
            ended = following.data == upstream.DONE
            if not (ended and late):
                yield following

    async def judge(conversation: Conversation) -> Answer:
        return (await guard.judge([conversation]))[0]

    # Clients read nothing behind the end, so that it waits for what the last check may bring before it.
    late = now.prompt.asked or now.options.on_errors != "allow"
    try:
        async with aclosing(drive_async(machine, source(), judge)) as sent:
            async for event in sent:
                yield event.raw
        if now.holds and not ended and not machine.complete:
            raise UpstreamError("the upstream ended its stream before the reply was complete")
        for event in machine.last():
            yield event.raw
        if now.holds or machine.stopped or (ended and late):
            yield upstream.END.raw
    except upstream.InStream as problem:
        yield upstream.event(problem.payload).raw
    except Exception as problem:  # noqa: BLE001 - passed on to the caller
        yield upstream.event(_error(problem, "reply")[1]).raw
    finally:
        await response.aclose()


def _outcome(word: str, side: str | None, ruling: Ruling) -> dict[str, str]:
    headers = {OUTCOME: word}
    if side is not None:
        headers[SIDE] = side
    if ruling.flagged:
        headers[CATEGORIES] = ",".join(ruling.flagged).encode("ascii", "replace").decode()
    return headers


def _passed(response: httpx.Response) -> Response:
    """An answer of the upstream as it is."""
    headers = upstream.response_headers(response.headers)
    return Response(response.content, response.status_code, headers, media_type=response.headers.get("content-type"))


def _failed(problem: Exception, side: Side) -> Response:
    number, body = _error(problem, side)
    headers = {OUTCOME: "failed", SIDE: side}
    if isinstance(problem, GuardError) and (seconds := retry_after(problem)):
        headers["retry-after"] = seconds
    return Response(upstream.json_bytes(body), number, headers, media_type=_JSON)


def _error(problem: Exception, side: Side) -> tuple[int, dict[str, Any]]:
    """The status and body of what failed: the request, the upstream, or the guard. No text of either side is in it."""
    if isinstance(problem, httpx.TimeoutException):
        return 504, _server_error("the upstream did not answer in time", _UPSTREAM)
    if isinstance(problem, httpx.HTTPError | httpx.StreamError):
        reason = f"the upstream cannot be reached or broke off ({type(problem).__name__})"
        return 502, _server_error(reason, _UPSTREAM)
    if isinstance(problem, UpstreamError):
        return 502, _server_error(str(problem), _UPSTREAM)
    if isinstance(problem, InvalidInput):
        if side == "reply":  # the caller did not write it
            return 502, _server_error(f"the upstream's reply cannot be judged: {problem}", _UPSTREAM)
        number = status(problem, {})
        return number, error_body(number, problem)
    if isinstance(problem, Overloaded):
        return 429, _server_error(str(problem), _GUARD)
    if isinstance(problem, Unauthenticated | PermissionDenied):
        log.error("the guard refuses the key of this proxy: %s", type(problem).__name__)
        return 503, _server_error("the guard refuses the key of this proxy", _GUARD)
    return 503, _server_error(str(public(problem)), _GUARD)


def _server_error(message: str, code: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "server_error", "param": None, "code": code}}


class _Passes(Collector):
    """The counts of what passed without a verdict, for Prometheus."""

    def __init__(self, passes: FailOpen) -> None:
        self._passes = passes

    def collect(self) -> Iterator[Metric]:
        counter = CounterMetricFamily(
            "guard_fail_open", "What passed without a verdict, by side and error.", labels=("side", "error")
        )
        for labels, count in self._passes.counts.items():
            counter.add_metric(labels, count)
        yield counter


async def _no_such_path(request: Request, problem: Exception) -> Response:
    message = "only POST /v1/chat/completions and GET /v1/models are here; nothing else of the upstream is moderated"
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": "not_found"}
    return Response(upstream.json_bytes({"error": error}), getattr(problem, "status_code", 404), media_type=_JSON)
