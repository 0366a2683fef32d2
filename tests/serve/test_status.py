"""The one table of errors: what a caller is told, and what it gets back from it."""

from __future__ import annotations

import asyncio
import logging
import re

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from guard.errors import (
    BundleError,
    Closed,
    EngineError,
    GuardError,
    InvalidInput,
    Overloaded,
    PolicyError,
    ServiceError,
)
from guard.serve.grpc.status import code_of, from_status, to_status


@pytest.mark.parametrize(
    ("error", "code", "back"),
    [
        (Overloaded("full"), "RESOURCE_EXHAUSTED", Overloaded),
        (Closed("stopping"), "UNAVAILABLE", Closed),
        (InvalidInput("empty"), "INVALID_ARGUMENT", InvalidInput),
        (PolicyError("line 3"), "INVALID_ARGUMENT", PolicyError),
        (TimeoutError("CANARY"), "DEADLINE_EXCEEDED", ServiceError),
        (asyncio.CancelledError("CANARY"), "CANCELLED", ServiceError),
        (EngineError("CANARY"), "INTERNAL", EngineError),
        (BundleError("CANARY"), "INTERNAL", EngineError),
        (ServiceError("CANARY"), "INTERNAL", EngineError),
        (ValueError("CANARY"), "INTERNAL", EngineError),
        (MemoryError("CANARY"), "INTERNAL", EngineError),
        (StopIteration("CANARY"), "INTERNAL", EngineError),
    ],
)
def test_each_error_has_its_status_and_comes_back(
    error: BaseException, code: str, back: type[GuardError], caplog: pytest.LogCaptureFixture
) -> None:
    status = to_status(error)
    again = from_status(Status.FromString(status.SerializeToString()))
    assert code_of(status) is grpc.StatusCode[code]
    assert type(again) is back
    assert str(again) == status.message != ""
    assert "CANARY" not in status.message + caplog.text
    if "CANARY" not in str(error):
        assert status.message == str(error)
    if code == "INTERNAL":
        (record,) = caplog.records
        assert record.levelno == logging.ERROR
        assert record.exc_info is None
        assert type(error).__name__ in record.getMessage()
        assert re.search(r"[0-9a-f]{32}", record.getMessage())[0] in status.message
    else:
        assert not caplog.records
    assert any(detail.Is(RetryInfo.DESCRIPTOR) for detail in status.details) == (code == "RESOURCE_EXHAUSTED")


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
