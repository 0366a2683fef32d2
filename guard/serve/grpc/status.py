"""Conversion between errors and google.rpc.Status: one table for server and client."""

from __future__ import annotations

from contextlib import suppress
from typing import cast

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from guard.errors import (
    Closed,
    DeadlineExceeded,
    EngineDown,
    EngineError,
    GuardError,
    InvalidInput,
    Overloaded,
    PermissionDenied,
    PolicyError,
    QuotaExceeded,
    ReloadFailed,
    ServiceError,
    TooLarge,
    Unauthenticated,
    UnknownPolicy,
)

DOMAIN = "guard"
_LONGEST = 1500  # bytes of a message: it travels twice in a header of 8 KiB, once percent-encoded

# The first kind that fits counts; its name is the reason of google.rpc.ErrorInfo.
_TABLE: dict[type[GuardError], grpc.StatusCode] = {
    QuotaExceeded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Closed: grpc.StatusCode.UNAVAILABLE,
    DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    TooLarge: grpc.StatusCode.INVALID_ARGUMENT,
    InvalidInput: grpc.StatusCode.INVALID_ARGUMENT,
    UnknownPolicy: grpc.StatusCode.NOT_FOUND,
    PolicyError: grpc.StatusCode.INVALID_ARGUMENT,
    Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    ReloadFailed: grpc.StatusCode.FAILED_PRECONDITION,
    EngineDown: grpc.StatusCode.UNAVAILABLE,
    EngineError: grpc.StatusCode.INTERNAL,
}
_KINDS = {kind.__name__: kind for kind in _TABLE}


def to_status(error: GuardError) -> Status:
    """The status of a public error (serve.core.errors), with RetryInfo where it applies."""
    kind = next(kind for kind in _TABLE if isinstance(error, kind))
    message = str(error)
    if len(data := message.encode()) > _LONGEST:
        message = data[:_LONGEST].decode(errors="ignore") + " ..."
    status = Status(code=_TABLE[kind].value[0], message=message)
    details: list[Message] = [ErrorInfo(reason=kind.__name__, domain=DOMAIN)]
    if isinstance(error, Overloaded):
        delay = Duration()
        delay.FromMilliseconds(round(error.retry_after_s * 1e3))
        details.append(RetryInfo(retry_delay=delay))
    for detail in details:
        status.details.add().Pack(detail)
    return status


def from_status(status: Status) -> GuardError:
    """The error of the server, with its message; ServiceError if it is not one of guard's."""
    info, retry = ErrorInfo(), RetryInfo()
    for detail in status.details:
        detail.Unpack(info)
        detail.Unpack(retry)
    if info.domain != DOMAIN:
        names = {code.value[0]: code.name for code in grpc.StatusCode}
        return ServiceError(f"the server answered {names.get(status.code, 'UNKNOWN')}")
    error = _KINDS.get(info.reason, ServiceError)(status.message)
    if isinstance(error, Overloaded):
        error.retry_after_s = retry.retry_delay.ToMilliseconds() / 1e3
    return error


def from_rpc(error: grpc.RpcError, target: str, timeout_s: float) -> GuardError:
    """The error of a failed call to `target`."""
    with suppress(DecodeError, ValueError):  # details of whatever else listens there
        status = rpc_status.from_call(cast(grpc.Call, error))
        if status is not None:
            return from_status(status)
    code = error.code()
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlineExceeded(
            f"{target}: no answer within {timeout_s:g} s; the server may be overloaded: increase the timeout"
        )
    if code is grpc.StatusCode.UNAVAILABLE:  # the transport's message: an address and a reason
        details = str(error.details())
        hint = "is `guard serve` running there?"
        if any(word in details.lower() for word in ("certificate", "handshake", "verification")):
            hint = "does it use TLS, with a certificate that your `ca` signed for this name?"
        return ServiceError(f"{target}: cannot be reached: {details}; {hint}")
    if code is grpc.StatusCode.CANCELLED:  # not from the service: gRPC cancelled a call that it never dispatched
        return Closed(f"{target}: the call failed with CANCELLED; the server has stopped or is overloaded")
    return ServiceError(f"{target}: the call failed with {code.name}")
