"""What every unary call goes through: its key, its message, its errors as statuses, its measurement."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from typing import TypeVar

import grpc
from google.protobuf.message import DecodeError
from google.protobuf.message import Message as Proto
from grpc_status import rpc_status

from guard.errors import InvalidInput
from guard.serve.core.errors import public
from guard.serve.core.keys import Keys, Scope
from guard.serve.core.live import Live
from guard.serve.grpc.status import to_status

Context = grpc.aio.ServicerContext[Proto, bytes]
Sent = TypeVar("Sent", bound=Proto)


def handler(
    live: Live, keys: Keys | None, scope: Scope, method: Callable[[Sent, Context], Awaitable[Proto]], kind: type[Sent]
) -> grpc.RpcMethodHandler[bytes, bytes]:
    """The handler of a method. Its errors become statuses (`status.py`). keys: None where no key is needed."""
    name = kind.DESCRIPTOR.name.removesuffix("Request")

    # Not the generated registration: grpc.aio answers an error of a handler, or of a malformed message, with the
    # error's text, which it also logs.
    async def call(data: bytes, context: Context) -> bytes:
        started = time.perf_counter()
        code = "CANCELLED"
        try:
            with nullcontext() if keys is None else keys.admitted(headers(context), scope):
                answer = (await method(_parse(kind, data), context)).SerializeToString()
            code = "OK"
            return answer
        except Exception as error:  # noqa: BLE001 - passed on to the caller
            status = rpc_status.to_status(to_status(public(error)))
            code = status.code.name
        finally:
            live.service.observer.called(name, code, time.perf_counter() - started)
        # `abort` and not `set_code`, which sends headers first: a client retries only before it receives headers.
        await context.abort(status.code, status.details, status.trailing_metadata)

    return grpc.unary_unary_rpc_method_handler(call)


def headers(context: Context) -> dict[str, str]:
    metadata = context.invocation_metadata() or ()
    return {key: value for key, value in metadata if isinstance(value, str)}


def _parse(kind: type[Sent], data: bytes) -> Sent:
    try:
        return kind.FromString(data)
    except DecodeError:
        raise InvalidInput(
            f"{len(data)} bytes are not a valid {kind.DESCRIPTOR.full_name}; is its text UTF-8?"
        ) from None
