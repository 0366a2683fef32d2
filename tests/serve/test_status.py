"""The one table of statuses: what an error becomes on the wire, and what comes back from it."""

from __future__ import annotations

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from guard.errors import (
    Closed,
    DeadlineExceeded,
    EngineError,
    GuardError,
    InvalidInput,
    Overloaded,
    PolicyError,
    ServiceError,
    TooLarge,
)
from guard.serve.core.errors import InternalError
from guard.serve.grpc.status import from_status, to_status


@pytest.mark.parametrize(
    ("error", "code", "back"),
    [
        (Overloaded("full", 2.5), "RESOURCE_EXHAUSTED", Overloaded),
        (Closed("stopping"), "UNAVAILABLE", Closed),
        (DeadlineExceeded("late"), "DEADLINE_EXCEEDED", DeadlineExceeded),
        (TooLarge("too much"), "INVALID_ARGUMENT", TooLarge),
        (InvalidInput("empty"), "INVALID_ARGUMENT", InvalidInput),
        (PolicyError("line 3"), "INVALID_ARGUMENT", PolicyError),
        (InternalError("internal error 7"), "INTERNAL", EngineError),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_each_error_has_its_status_and_comes_back(error: GuardError, code: str, back: type[GuardError]) -> None:
    status = to_status(error)
    again = from_status(Status.FromString(status.SerializeToString()))
    assert rpc_status.to_status(status).code is grpc.StatusCode[code]
    assert type(again) is back
    assert str(again) == status.message == str(error)
    assert any(detail.Is(RetryInfo.DESCRIPTOR) for detail in status.details) == isinstance(error, Overloaded)
    if isinstance(again, Overloaded):
        assert again.retry_after_s == 2.5


@pytest.mark.parametrize("letter", ["a", "é", "文", "🙂"])
def test_a_long_message_is_cut_to_fit_a_header(letter: str) -> None:
    status = to_status(PolicyError(letter * 5000))
    assert status.message.endswith(" ...")
    assert len(status.message.encode()) <= 1504
    assert 3 * len(status.message.encode()) + status.ByteSize() * 4 / 3 < 8192


@pytest.mark.parametrize("code", [0, 3, 13, 99])
def test_a_foreign_status_is_a_service_error_that_repeats_nothing(code: int) -> None:
    error = from_status(Status(code=code, message="CANARY"))
    assert type(error) is ServiceError
    assert "CANARY" not in str(error)
