"""What every call goes through: its key, its message, its errors as statuses, its measurement."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
from google.protobuf.message import DecodeError
from google.protobuf.message import Message as Proto
from grpc_status import rpc_status

from guard.errors import DeadlineExceeded, InvalidInput
from guard.serve.core.errors import public
from guard.serve.core.keys import Keys, Scope
from guard.serve.core.live import Live
from guard.serve.core.origin import ORIGIN, admitted
from guard.serve.grpc.status import to_status
from guard.serve.grpc.unread import Unread

Context = grpc.aio.ServicerContext[Proto, bytes]
Sent = TypeVar("Sent", bound=Proto)
_QUIET_SECONDS, _DRAIN_SECONDS = 0.05, 1.0


@dataclass(frozen=True, slots=True)
class Shared:
    """What the calls of a listener have in common. keys: those of which each must have one; None: no key is needed."""

    live: Live
    keys: Keys | None
    unread: Unread


def handler(
    shared: Shared, scope: Scope, method: Callable[[Sent, Context], Awaitable[Proto]], kind: type[Sent]
) -> grpc.RpcMethodHandler[bytes, bytes]:
    """The handler of a method. Its errors become statuses (`status.py`)."""
    name = kind.DESCRIPTOR.name.removesuffix("Request")

    # Not the generated registration: grpc.aio answers an error of a handler, or of a malformed message, with the
    # error's text, which it also logs.
    async def call(data: bytes, context: Context) -> bytes:
        started = time.perf_counter()
        code = "CANCELLED"
        sent, observer = headers(context), shared.live.service.observer
        with observer.call(name, sent):
            try:
                with admitted(shared.keys, sent, host(context), scope):
                    caller = ORIGIN.get().client
                    shared.unread.check(caller)
                    answer = (await method(_parse(kind, data), context)).SerializeToString()
                context.add_done_callback(shared.unread.hold(caller, len(answer)))  # type: ignore[arg-type]
                code = "OK"
                return answer
            except Exception as error:  # noqa: BLE001 - passed on to the caller
                status = rpc_status.to_status(to_status(public(error)))
                code = status.code.name
            finally:
                observer.called(name, code, time.perf_counter() - started)
        # `abort` and not `set_code`, which sends headers first: a client retries only before it receives headers.
        await context.abort(status.code, status.details, status.trailing_metadata)

    return grpc.unary_unary_rpc_method_handler(call)


def stream_handler(
    shared: Shared,
    scope: Scope,
    method: Callable[[AsyncIterator[Sent], Context], AsyncGenerator[Proto, None]],
    kind: type[Sent],
) -> grpc.RpcMethodHandler[bytes, bytes]:
    """As `handler`, for a method with streams of both: it makes no response before the last one is written, so that a
    client that does not read holds no memory. It may take `stream_seconds`."""
    name = kind.DESCRIPTOR.name.removesuffix("Request")

    async def call(_: object, context: Context) -> None:
        started = time.perf_counter()
        seconds, observer = shared.live.service.limits.stream_seconds, shared.live.service.observer
        code = "CANCELLED"
        given = headers(context)
        with observer.call(name, given):
            async with _received(kind, context) as sent:
                try:
                    with admitted(shared.keys, given, host(context), scope):
                        async with asyncio.timeout(seconds), aclosing(method(sent, context)) as responses:
                            async for response in responses:
                                await context.write(response.SerializeToString())
                    code = "OK"
                    return
                except Exception as error:  # noqa: BLE001 - passed on to the caller
                    if context.cancelled():  # a write to a client that has gone
                        return
                    late = DeadlineExceeded(f"the stream took longer than {seconds:g} s")
                    status = rpc_status.to_status(to_status(late if isinstance(error, TimeoutError) else public(error)))
                    code = status.code.name
                finally:
                    observer.called(name, code, time.perf_counter() - started)
                await sent.quiet()
                await context.abort(status.code, status.details, status.trailing_metadata)

    return grpc.stream_stream_rpc_method_handler(call)


class _Received(AsyncIterator[Sent]):
    """The messages of a stream. A wait for the next one may be cancelled, which a read of gRPC's may not."""

    def __init__(self, kind: type[Sent], waiting: asyncio.Queue[Any]) -> None:
        self._kind, self._waiting = kind, waiting

    async def __anext__(self) -> Sent:
        data = await self._waiting.get()
        if isinstance(data, bytes):
            return _parse(self._kind, data)
        self._waiting.put_nowait(data)  # the end stays
        raise StopAsyncIteration

    async def quiet(self) -> None:
        """Returns when nothing has come for a moment: a status that meets a write of grpc.aio's client becomes INTERNAL
        there."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_SECONDS):
                while isinstance(await asyncio.wait_for(self._waiting.get(), _QUIET_SECONDS), bytes):
                    pass


@asynccontextmanager
async def _received(kind: type[Sent], context: Context) -> AsyncIterator[_Received[Sent]]:
    waiting: asyncio.Queue[Any] = asyncio.Queue(1)

    async def read() -> None:
        data: Any = b""
        while isinstance(data, bytes):
            data = await context.read()
            await waiting.put(data)

    reading = asyncio.create_task(read())
    try:
        yield _Received(kind, waiting)
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


def headers(context: Context) -> dict[str, str]:
    metadata = context.invocation_metadata() or ()
    return {key: value for key, value in metadata if isinstance(value, str)}


def host(context: Context) -> str:
    """The caller's address without its port."""
    return context.peer().rpartition(":")[0]


def _parse(kind: type[Sent], data: bytes) -> Sent:
    try:
        return kind.FromString(data)
    except DecodeError:
        raise InvalidInput(
            f"{len(data)} bytes are not a valid {kind.DESCRIPTOR.full_name}; is its text UTF-8?"
        ) from None
