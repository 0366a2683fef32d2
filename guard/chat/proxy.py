"""The proxy's application: OpenAI's `POST /v1/chat/completions`, moderated on the way in and on the way out."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from guard import strict_json
from guard.chat import completion as completions
from guard.chat import prompt as prompts
from guard.chat import upstream
from guard.chat.chunks import ChunkStream
from guard.chat.completion import UpstreamError
from guard.chat.gate import Gate, gate
from guard.chat.options import ChatOptions
from guard.chat.ruling import Answer, Ruling
from guard.conversation import Conversation
from guard.errors import GuardError, InvalidInput, TooLarge
from guard.moderator import GuardInfo
from guard.serve.core.errors import public
from guard.serve.http.api.openai_error import error as error_body
from guard.serve.http.status import retry_after, status
from guard.serve.limits import Limits
from guard.stream import drive_async
from guard.verdict import Outcome

log = logging.getLogger("guard.proxy")
OUTCOME, SIDE, CATEGORIES = "x-guard-outcome", "x-guard-side", "x-guard-categories"
_WORDS = {Outcome.SAFE: "passed", Outcome.UNSAFE: "blocked", Outcome.INCOMPLETE: "unjudged"}
_JSON = "application/json"


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

    async def complete(request: Request) -> Response:
        side = "prompt"
        try:
            body = await _body(request, limits.request_bytes)
            prompt = prompts.parse(body)
            answers = await guard.judge(prompt.conversations)
            now = gate(prompt, options, await _info(guard), answers)
            refused = now.refused
            if refused is not None:
                return _refusal(now, refused, body)
            response = await _forward(client, request, prompts.forwarded(body), prompt.stream, api_key)
            if response.status_code >= 400 or not prompt.stream:
                try:
                    await response.aread()
                finally:
                    await response.aclose()
            if response.status_code >= 400:
                return _passed(response)
            side = "reply"
            headers = upstream.response_headers(response.headers)
            if prompt.stream:
                headers |= _outcome("streaming", None, now.asked)
                events = _events(guard, now, response, limits)
                return StreamingResponse(events, 200, headers, media_type="text/event-stream")
            return await _whole(guard, now, response, headers)
        except Exception as problem:  # noqa: BLE001 - passed on to the caller
            return _failed(problem, side)

    async def models(request: Request) -> Response:
        try:
            sent = upstream.request_headers(request.headers, api_key)
            return _passed(await client.get("models", headers=sent))
        except httpx.HTTPError as problem:
            return _failed(problem, "upstream")

    async def health(_: Request) -> Response:
        return Response(_json({"status": "ok"}), media_type=_JSON)

    async def readiness(_: Request) -> Response:
        ready = guard.ready()
        return Response(_json({"status": "ready" if ready else "stopping"}), 200 if ready else 503, media_type=_JSON)

    routes = [
        Route("/v1/chat/completions", complete, methods=["POST"]),
        Route("/v1/models", models, methods=["GET"]),
        Route("/healthz", health, methods=["GET"]),
        Route("/readyz", readiness, methods=["GET"]),
    ]
    errors: Any = {404: _no_such_path, 405: _no_such_path}
    return Starlette(routes=routes, exception_handlers=errors)


async def _info(guard: Judge) -> GuardInfo | None:
    try:
        return await guard.info()
    except GuardError:  # the answers say so, too, and what that means
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
        client.build_request("POST", "chat/completions", content=_json(body), headers=headers), stream=True
    )


async def _whole(guard: Judge, now: Gate, response: httpx.Response, headers: dict[str, str]) -> Response:
    completion = upstream.parsed(response.content)
    replies = completions.replies(completion, now.prompt.messages)
    answers = iter(await guard.judge([each for each in replies if each is not None]))
    each = [None if reply is None else next(answers) for reply in replies]
    made = now.answered(completion, each)
    ruling = Ruling(tuple(answer for answer in each if answer is not None))
    if now.options.release == "observe":
        headers |= _outcome("observed", None, Ruling((*now.asked.answers, *ruling.answers)))
    else:
        headers |= _outcome(_WORDS[ruling.outcome], "reply", ruling)
    return Response(_json(made), 200, headers, media_type=_JSON)


def _refusal(now: Gate, outcome: Outcome, body: Mapping[str, Any]) -> Response:
    made = now.refusal(outcome, str(body.get("model", "")))
    headers = _outcome(_WORDS[outcome], "prompt", now.asked)
    if not now.prompt.stream:
        return Response(_json(made), 200, headers, media_type=_JSON)
    sent = completions.as_chunks(made)
    if now.prompt.asked:
        sent.append(now.chunk({key: sent[0][key] for key in ("id", "object", "created", "model")}, ()))
    events = b"".join([*map(_event, sent), _DONE])
    return Response(events, 200, headers, media_type="text/event-stream")


_DONE = b"data: [DONE]\n\n"


async def _events(guard: Judge, now: Gate, response: httpx.Response, limits: Limits) -> AsyncIterator[bytes]:
    """The events of a moderated stream. One that fails ends with an error in place of `[DONE]`."""
    machine = ChunkStream(now.prompt.messages, now.prompt.choices, now.options, limits.conversation_characters)

    async def judge(conversation: Conversation) -> Answer:
        return (await guard.judge([conversation]))[0]

    try:
        async with aclosing(drive_async(machine, upstream.chunks(response), judge)) as sent:
            async for chunk in sent:
                yield _event(chunk)
        for chunk in machine.last():
            yield _event(chunk)
        if now.prompt.asked:
            yield _event(now.chunk(machine.head, machine.answers))
        yield _DONE
    except upstream.InStream as problem:
        yield _event(problem.payload)
    except Exception as problem:  # noqa: BLE001 - passed on to the caller
        yield _event(_error(problem)[1])
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


def _failed(problem: Exception, side: str) -> Response:
    number, body = _error(problem)
    headers = {OUTCOME: "failed", SIDE: side}
    if isinstance(problem, GuardError) and (seconds := retry_after(problem)):
        headers["retry-after"] = seconds
    return Response(_json(body), number, headers, media_type=_JSON)


def _error(problem: Exception) -> tuple[int, dict[str, Any]]:
    """The status and body of what failed: the request, the upstream, or the guard. No text of either side is in it."""
    if isinstance(problem, httpx.TimeoutException):
        return 504, _upstream_error("the upstream did not answer in time")
    if isinstance(problem, httpx.HTTPError | httpx.StreamError):
        return 502, _upstream_error(f"the upstream cannot be reached or broke off ({type(problem).__name__})")
    if isinstance(problem, UpstreamError):
        return 502, _upstream_error(str(problem))
    error = public(problem)
    number = status(error, {})
    body = error_body(number, error)
    if number >= 500 or number == 429:
        body["error"] |= {"type": "server_error", "code": "moderation_failed"}
    return (503 if number == 500 else number), body


def _upstream_error(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "server_error", "param": None, "code": "upstream_failed"}}


async def _no_such_path(request: Request, problem: Exception) -> Response:
    message = "only POST /v1/chat/completions and GET /v1/models are here; nothing else of the upstream is moderated"
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": "not_found"}
    return Response(_json({"error": error}), getattr(problem, "status_code", 404), media_type=_JSON)


def _event(value: Any) -> bytes:
    return b"data: " + _json(value) + b"\n\n"


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
