"""The HTTP application: the wire formats of the table, health, metrics and the OpenAPI document."""

from __future__ import annotations

import asyncio
import json
import re
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, TypeVar

from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from guard.errors import DeadlineExceeded, ServiceError, TooLarge
from guard.serve.core.candidate import RewardRequest
from guard.serve.core.errors import public
from guard.serve.core.keys import Keys, Scope
from guard.serve.core.live import Live
from guard.serve.core.origin import admitted
from guard.serve.core.request import Request as Asked
from guard.serve.core.rewards import Rewards
from guard.serve.core.service import Service
from guard.serve.http.body import parse
from guard.serve.http.openapi import document
from guard.serve.http.playground import Handler
from guard.serve.http.status import retry_after, status
from guard.serve.http.table import INFO_TRANSLATORS, REWARD_TRANSLATORS, TRANSLATORS
from guard.serve.http.translator import Context, Format, InfoTranslator, Judged, RewardTranslator, Translator
from guard.serve.metrics import CONTENT_TYPE, Metrics

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}", re.ASCII)
_NOBODY = 499  # reads the answer: what nginx logs for a caller that is gone
T = TypeVar("T")
Answering = Callable[[Service, Request], Awaitable[Any]]
FORMATS: tuple[Format[Any], ...] = (*TRANSLATORS, *REWARD_TRANSLATORS, *INFO_TRANSLATORS)


class _Gone(Exception):
    """The caller has closed its connection."""


def app(
    live: Live, rewards: Rewards, metrics: Metrics, keys: Keys | None, playground: Mapping[str, Handler]
) -> ASGIApp:
    """The application of a service, for any ASGI server.

    keys: None where no key is needed. playground: its files by their paths; none where it is not served.
    """
    answering: list[tuple[Format[Any], Answering]] = [(each, partial(_answer, each)) for each in TRANSLATORS]
    answering += [(each, partial(_reward, each, rewards)) for each in REWARD_TRANSLATORS]
    answering += [(each, partial(_inform, each)) for each in INFO_TRANSLATORS]
    routes = [Route(each.path, _translated(each, live, keys, by), methods=["POST"]) for each, by in answering]
    described = _json(document(FORMATS))

    async def openapi(_: Request) -> Response:
        return Response(described, media_type="application/json")

    return _with_pages(routes, {**_operations(live, metrics, keys), "/openapi.json": openapi, **playground})


def operations(live: Live, metrics: Metrics, keys: Keys | None) -> ASGIApp:
    """The application that tells how a service is, and answers no request."""
    return _with_pages([], _operations(live, metrics, keys))


def _with_pages(routes: list[Route], pages: Mapping[str, Handler]) -> ASGIApp:
    """The routes, and pages to GET."""
    known = ", ".join([route.path for route in routes] + list(pages))

    async def no_such_path(request: Request, _: Exception) -> Response:
        return _plain(404, f"no such path; known: {known}")

    errors: Any = {404: no_such_path, 405: _wrong_method}
    return Starlette(
        routes=routes + [Route(path, page, methods=["GET"]) for path, page in pages.items()], exception_handlers=errors
    )


def _operations(live: Live, metrics: Metrics, keys: Keys | None) -> Mapping[str, Handler]:
    """Pages by their paths."""

    async def health(_: Request) -> Response:
        return Response(_json({"status": "ok"}), media_type="application/json")

    async def readiness(_: Request) -> Response:
        if live.service.ready:
            return Response(_json({"status": "ready"}), media_type="application/json")
        return Response(_json({"status": "not ready"}), 503, media_type="application/json")

    async def measures(request: Request) -> Response:
        try:
            with _allowed(keys, request, "metrics"):
                return Response(metrics.page(), media_type=CONTENT_TYPE)
        except ServiceError as problem:
            return _plain(status(problem, {}), str(problem))

    return {"/healthz": health, "/readyz": readiness, "/metrics": measures}


def _translated(translator: Format[Any], live: Live, keys: Keys | None, by: Answering) -> Handler:
    """The endpoint of a wire format. by: how the core answers it. Whatever goes wrong is an answer in the format's own
    shape."""

    async def answer(request: Request) -> Response:
        started = time.perf_counter()
        given = request.headers.get("x-request-id", "")
        headers = {"x-request-id": given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex}
        number, body = _NOBODY, None
        observer = live.service.observer
        with observer.call(translator.path, request.headers):
            try:
                with _allowed(keys, request, "moderate"), live.use() as service:
                    number, body = 200, await by(service, request)
            except (_Gone, ClientDisconnect):
                pass
            except Exception as problem:  # noqa: BLE001 - passed on to the caller
                error = public(problem)
                number = status(error, translator.statuses)
                body = translator.error(number, error)
                if seconds := retry_after(error):
                    headers["retry-after"] = seconds
            finally:
                observer.called(translator.path, str(number), time.perf_counter() - started)
        return Response(_json(body), number, headers, media_type="application/json")

    return answer


def _allowed(keys: Keys | None, request: Request, scope: Scope) -> AbstractContextManager[None]:
    return admitted(keys, request.headers, request.client.host if request.client else "", scope)


async def _answer(translator: Translator[Any], service: Service, request: Request) -> Any:
    sent = await _sent(translator.body, service, request)
    model, batch = service.moderator.engine.info.digest, service.limits.batch_conversations
    context = Context(request.headers, model, service.policy_names, batch)
    work = translator.plan(sent, context)
    judging = asyncio.gather(*(_judged(translator, service, each) for each in work.requests))
    return work.reply(await _unless_gone(request, judging))


async def _reward(translator: RewardTranslator[Any], rewards: Rewards, service: Service, request: Request) -> Any:
    sent = await _sent(translator.body, service, request)
    scoring = rewards.score(service, RewardRequest(tuple(translator.candidates(sent))))
    return translator.reply(sent, await _unless_gone(request, scoring))


async def _inform(translator: InfoTranslator[Any], service: Service, request: Request) -> Any:
    sent = await _sent(translator.body, service, request)
    return translator.reply(await service.info(translator.options(sent)), service.policy_names)


async def _sent(kind: type[BaseModel], service: Service, request: Request) -> BaseModel:
    limit = service.limits.request_bytes
    too_large = TooLarge(f"the body is larger than {limit} bytes; send less")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise too_large
    data = bytearray()
    try:
        async with asyncio.timeout(service.limits.request_seconds):
            async for chunk in request.stream():
                data += chunk
                if len(data) > limit:
                    raise too_large
    except TimeoutError:
        raise DeadlineExceeded("the body did not arrive in time") from None
    return parse(bytes(data), kind)


async def _judged(translator: Translator[Any], service: Service, asked: Asked) -> Judged:
    answers = await service.judge(asked)
    policy = await service.policy(asked.options)
    if translator.prepare is not None and policy is not service.moderator.policy:
        await asyncio.to_thread(translator.prepare, policy)
    return Judged(policy, answers)


async def _unless_gone(request: Request, work: Awaitable[T]) -> T:
    """What the work returns; cancels it and raises _Gone when the caller closes its connection first."""
    working, gone = asyncio.ensure_future(work), asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait([working, gone], return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise _Gone
        return working.result()
    finally:
        for task in (working, gone):
            task.cancel()
        # Nobody else looks at how they end, of which asyncio would complain in the log.
        await asyncio.gather(working, gone, return_exceptions=True)


async def _wrong_method(request: Request, problem: Any) -> Response:
    allowed = problem.headers.get("Allow", "") if problem.headers else ""
    response = _plain(405, f"this path does not take the method; allowed: {allowed}")
    response.headers["allow"] = allowed
    return response


def _plain(number: int, message: str) -> Response:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    return Response(_json({"error": error}), number, media_type="application/json")


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
