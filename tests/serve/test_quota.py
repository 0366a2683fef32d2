"""Limits of each key: conversations a second, calls at a time, and how their excess is told over both listeners."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from grpc_status import rpc_status
from hypothesis import given
from hypothesis import strategies as st

from guard import AsyncGuardClient, Conversation, Outcome, Verdict, document
from guard.cli import main
from guard.errors import QuotaExceeded
from guard.serve.core.keys import Keys, new_key
from guard.serve.core.quota import Quota
from guard.v1 import moderation_pb2 as pb
from guard.v1.moderation_pb2_grpc import ModerationServiceStub
from tests.fixtures.served import HeldEngine, serve

HELLO = Conversation.of("hello")
REQUEST = pb.ModerateRequest(conversation={"messages": [{"role": "ROLE_USER", "content": "hi"}]})


def write(path: Path, **limits: Any) -> str:
    """A file with a key `app` of these limits and a key `other` without any; the first in the clear."""
    (clear, key), (_, other) = new_key("app", ("moderate",)), new_key("other", ("moderate",))
    entries = [{"name": "app", "sha256": key.sha256, **limits}, {"name": "other", "sha256": other.sha256}]
    path.write_text(document.dump({"keys": entries}))
    return clear


@given(
    st.floats(0.1, 100),
    st.lists(st.tuples(st.floats(0, 5), st.integers(1, 50)), max_size=60),
)
def test_no_more_pass_than_the_rate_and_one_burst(rate: float, asked: list[tuple[float, int]]) -> None:
    now, passed, largest = 0.0, 0, 0
    quota = Quota(lambda: now)
    for pause, conversations in asked:
        now += pause
        try:
            quota.spend(conversations, rate)
        except QuotaExceeded:
            pass
        else:
            passed, largest = passed + conversations, max(largest, conversations)
    assert passed <= max(rate, 1) + rate * now + largest + 1e-6


def test_a_caller_that_waits_as_it_is_told_gets_in() -> None:
    now = 0.0
    quota = Quota(lambda: now)
    quota.spend(20, 2)  # larger than the bucket
    for _ in range(5):
        with pytest.raises(QuotaExceeded) as refused:
            quota.spend(1, 2)
        now += refused.value.retry_after_s + 1e-9
        quota.spend(1, 2)


async def test_the_rate_over_both_listeners(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    clear = write(file, per_second=0.5)
    async with serve(rest=True, api_keys=file, api_key=clear) as served:
        assert (await served.client.moderate(HELLO)).outcome is Outcome.SAFE
        with pytest.raises(QuotaExceeded, match=r"the key may have 0\.5 conversations a second") as refused:
            await served.client.moderate(HELLO)
        assert 0 < refused.value.retry_after_s <= 2
        async with grpc.aio.insecure_channel(served.running.address) as channel:
            metadata = (("authorization", f"Bearer {clear}"),)
            with pytest.raises(grpc.aio.AioRpcError) as raw:
                await ModerationServiceStub(channel).Moderate(REQUEST, metadata=metadata)
            assert raw.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            details = rpc_status.from_call(raw.value).details
            assert any(each.Is(RetryInfo.DESCRIPTOR) for each in details)
        async with httpx.AsyncClient(base_url=str(served.running.rest_url), trust_env=False) as http:
            answer = await http.post("/v1/check", json={"prompt": "hello"}, headers={"x-api-key": clear})
            assert answer.status_code == 429
            assert int(answer.headers["retry-after"]) >= 1


async def test_a_batch_counts_as_its_conversations_and_clients_wait(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    clear = write(file, per_second=20)
    async with serve(api_keys=file, api_key=clear) as served:
        began = asyncio.get_running_loop().time()
        for _ in range(2):
            answers = await served.client.moderate_each([HELLO] * 24)
            assert all(isinstance(each, Verdict) for each in answers)
        assert asyncio.get_running_loop().time() - began > 0.2  # 5 beyond the burst, at 20 a second


async def test_calls_at_a_time_and_another_key_has_room(tmp_path: Path) -> None:
    file, engine = tmp_path / "keys.yaml", HeldEngine()
    (clear, key), (free, other) = new_key("app", ("moderate",)), new_key("other", ("moderate",))
    entries = [{"name": "app", "sha256": key.sha256, "concurrent": 2}, {"name": "other", "sha256": other.sha256}]
    file.write_text(document.dump({"keys": entries}))
    async with serve(engine, api_keys=file, api_key=clear) as served:
        waiting = [asyncio.create_task(served.client.moderate(HELLO)) for _ in range(2)]
        await served.accepted(2)
        with pytest.raises(QuotaExceeded, match="the key may have 2 calls at a time"):
            await served.client.moderate(HELLO)
        async with AsyncGuardClient(served.running.address, api_key=free) as client:
            await client.info()
        engine.gate.set()
        assert {(await each).outcome for each in waiting} == {Outcome.SAFE}
        assert (await served.client.moderate(HELLO)).outcome is Outcome.SAFE


def test_limits_survive_a_file_that_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    clear = write(file, per_second=0.01)
    valid = Keys(file, look_seconds=0)
    with valid.admitted({"x-api-key": clear}, "moderate") as caller:
        caller.spend(1)
    file.write_text(file.read_text().replace("0.01", "0.02"))
    with valid.admitted({"x-api-key": clear}, "moderate") as caller, pytest.raises(QuotaExceeded, match=r"0\.02"):
        caller.spend(1)


def test_the_command_writes_limits(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        main(["keys", "new", "app", "--per-second", "2.5", "--concurrent", "3"])
    clear, _, entry = capsys.readouterr().out.partition("\n")
    (tmp_path / "keys.yaml").write_text(entry)
    key = Keys(tmp_path / "keys.yaml").check({"x-api-key": clear}, "moderate")
    assert (key.per_second, key.concurrent) == (2.5, 3)
    with pytest.raises(SystemExit) as ended:
        main(["keys", "new", "app", "--per-second", "0"])
    assert ended.value.code == 2
    assert "per_second" in capsys.readouterr().err
