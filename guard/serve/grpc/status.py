"""Errors as google.rpc.Status and back: one table, used by the server and by the client.

Only messages that guard itself wrote for the caller cross the wire. Everything else becomes INTERNAL with an id; the
log names the id and the kind of the error, never its text, which may repeat a user's words.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from contextlib import suppress
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from guard.errors import Closed, EngineError, GuardError, InvalidInput, Overloaded, PolicyError, ServiceError, TooLarge

DOMAIN = "guard"
DETAILS_KEY = "grpc-status-details-bin"
_LONGEST = 1500  # bytes of a message: it travels twice in a header of 8 KiB, once percent-encoded

# error, status, and what the caller is told (None: the error's own message)
_TABLE: tuple[tuple[type[BaseException], grpc.StatusCode, str | None], ...] = (
    (Overloaded, grpc.StatusCode.RESOURCE_EXHAUSTED, None),
    (Closed, grpc.StatusCode.UNAVAILABLE, None),
    (TooLarge, grpc.StatusCode.INVALID_ARGUMENT, None),
    (InvalidInput, grpc.StatusCode.INVALID_ARGUMENT, None),
    (PolicyError, grpc.StatusCode.INVALID_ARGUMENT, None),
    (TimeoutError, grpc.StatusCode.DEADLINE_EXCEEDED, "no verdict before the deadline; allow more time"),
    (asyncio.CancelledError, grpc.StatusCode.CANCELLED, "the request was cancelled"),
)
_CODES = {code.value[0]: code for code in grpc.StatusCode}
_KINDS = {kind.__name__: kind for kind in (*(row[0] for row in _TABLE), EngineError) if issubclass(kind, GuardError)}

log = logging.getLogger("guard.serve")


def to_status(error: BaseException) -> Status:
    """The status of an error, with google.rpc.ErrorInfo, and RetryInfo where trying again later makes sense."""
    for kind, code, fixed in _TABLE:
        if isinstance(error, kind):
            retry = (_retry_info(error),) if isinstance(error, Overloaded) else ()
            return _status(code, str(error) if fixed is None else fixed, kind, *retry)
    incident = uuid.uuid4().hex
    log.error("request failed with id %s: %s", incident, type(error).__name__)
    return _status(grpc.StatusCode.INTERNAL, f"internal error {incident}; the server's log names its kind", EngineError)


def _status(code: grpc.StatusCode, message: str, reason: type[BaseException], *details: Message) -> Status:
    if len(data := message.encode()) > _LONGEST:
        message = data[:_LONGEST].decode(errors="ignore") + " ..."
    status = Status(code=code.value[0], message=message)
    for detail in (ErrorInfo(reason=reason.__name__, domain=DOMAIN), *details):
        status.details.add().Pack(detail)
    return status


def _retry_info(error: Overloaded) -> RetryInfo:
    delay = Duration()
    delay.FromMilliseconds(round(error.retry_after_s * 1e3))
    return RetryInfo(retry_delay=delay)


def code_of(status: Status) -> grpc.StatusCode:
    return _CODES[status.code]


def from_status(status: Status) -> GuardError:
    """The error that the server raised, with its message; a ServiceError if it was none of guard's own."""
    info, retry = ErrorInfo(), RetryInfo()
    for detail in status.details:
        detail.Unpack(info)
        detail.Unpack(retry)
    if info.domain != DOMAIN:
        return ServiceError(f"the server answered {_CODES.get(status.code, grpc.StatusCode.UNKNOWN).name}")
    error = _KINDS.get(info.reason, ServiceError)(status.message)
    if isinstance(error, Overloaded):
        error.retry_after_s = retry.retry_delay.ToMilliseconds() / 1e3
    return error


def from_rpc(error: grpc.RpcError, target: str, timeout_s: float) -> GuardError:
    """The error of a failed call to `target`."""
    metadata: Any = error.trailing_metadata()  # pairs in both kinds of client, of different types
    with suppress(DecodeError):  # of whatever else listens there
        for key, value in metadata or ():
            if key == DETAILS_KEY:
                return from_status(Status.FromString(value))
    code = error.code()
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return ServiceError(f"{target}: no answer within {timeout_s:g} s; is the server overloaded? Allow more time")
    if code is grpc.StatusCode.UNAVAILABLE:  # the transport's own words: an address and a reason
        return ServiceError(f"{target}: cannot be reached: {error.details()}; is `guard serve` running there?")
    return ServiceError(f"{target}: the call failed with {code.name}")
