"""The audit log: a line for each conversation, durable as asked, rotated, and without text unless it is wanted."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import stat
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from guard import Conversation, Outcome, Verdict
from guard.errors import ConfigError, EngineError, GuardError, Overloaded
from guard.serve.core.audit import Audit, AuditLog, Fsync, digest
from guard.serve.core.keys import new_key
from guard.serve.core.request import Request
from guard.serve.limits import Limits
from guard.serve.logs import JsonLines
from tests.fixtures.served import BrokenEngine, HeldEngine, serve

HELLO, BAD = Conversation.of("hello kumquat"), Conversation.of("so violates:S4")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_a_line_for_each_conversation_of_both_listeners(file: Path, tmp_path: Path) -> None:
    clear, key = new_key("gateway", ("moderate",))
    keys = tmp_path / "keys.yaml"
    keys.write_text(f"keys: [{{name: gateway, sha256: {key.sha256}}}]")
    async with serve(rest=True, audit=Audit(file, fsync="always"), api_keys=keys, api_key=clear) as served:
        verdict = await served.client.moderate(HELLO)
        assert len(lines(file)) == 1  # before the answer
        await served.client.moderate_each([BAD, Conversation.of("x" * 300_000)])
        async with httpx.AsyncClient(base_url=str(served.running.rest_url), trust_env=False, timeout=20) as http:
            await http.post("/v1/check", json={"prompt": "hello kumquat"}, headers={"x-api-key": clear})
    first, bad, long, posted = lines(file)
    assert first | {"time": posted["time"]} == posted
    assert first == {
        "time": first["time"],
        "caller": "gateway",
        "sha256": digest(HELLO),
        "outcome": "SAFE",
        "p_unsafe": round(verdict.p_unsafe, 6),
        "flagged": [],
        "target": "prompt",
        "unjudged": [],
        "policy": verdict.policy,
        "model": verdict.model,
    }
    assert (bad["outcome"], bad["flagged"], bad["sha256"]) == ("UNSAFE", ["S4"], digest(BAD))
    assert (long["outcome"], long["error"]) == ("ERROR", "InvalidInput")
    assert "kumquat" not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


async def test_text_only_where_it_is_wanted_and_exact_scores_all_the_same(file: Path) -> None:
    async with serve(audit=Audit(file, text=True), scores="labels") as served:
        await served.client.moderate(HELLO)
    (line,) = lines(file)
    assert line["messages"] == [{"role": "user", "content": "hello kumquat"}]
    assert 0 < line["p_unsafe"] < 0.5


async def test_errors_of_whole_requests_are_lines_too(file: Path) -> None:
    async with serve(BrokenEngine(), audit=Audit(file)) as served:
        answers = await served.client.moderate_each([HELLO, Conversation.of("kumquat breaks score")])
        assert [isinstance(each, Verdict) for each in answers] == [True, False]
        with pytest.raises(GuardError):
            await served.client.moderate(HELLO, policy="none")
    assert [each.get("error") for each in lines(file)] == [None, "InternalError", "UnknownPolicy"]
    assert "kumquat" not in file.read_text()


async def test_a_flood_that_is_refused_leaves_no_lines(file: Path) -> None:
    engine = HeldEngine()
    async with serve(engine, Limits(queue_windows=1), audit=Audit(file)) as served:
        waiting = asyncio.create_task(served.client.moderate(HELLO))
        await served.accepted(1)
        for _ in range(20):
            with pytest.raises(Overloaded):
                await served.client.moderate(BAD)
        engine.gate.set()
        await waiting
    assert [line["outcome"] for line in lines(file)] == ["SAFE"]


async def test_a_full_disk(caplog: pytest.LogCaptureFixture) -> None:
    full = Path("/dev/full")
    async with serve(audit=Audit(full, fsync="always")) as served:
        with pytest.raises(EngineError, match="internal error"):
            await served.client.moderate(HELLO)
    async with serve(rest=True, audit=Audit(full, fsync="never")) as served:
        assert (await served.client.moderate(HELLO)).outcome is Outcome.SAFE
        async with httpx.AsyncClient(trust_env=False, timeout=20) as http:
            while "guard_audit_lost_total 1.0" not in (await http.get(f"{served.running.rest_url}/metrics")).text:
                pass
    assert "the audit log cannot be written: No space left on device" in caplog.messages


class Counted(AuditLog):
    """Counts how often it was synced."""

    syncs = 0

    def _sync(self) -> None:
        super()._sync()
        self.syncs += 1


@pytest.mark.parametrize(("fsync", "syncs"), [("second", 1), ("never", 0), ("always", 3)])
async def test_what_was_written_last_is_synced_when_nothing_follows(file: Path, fsync: Fsync, syncs: int) -> None:
    audit = Counted(Audit(file, fsync=fsync))
    for _ in range(3):
        await audit.judged(Request((HELLO,)), [EngineError("gone")])
    started = time.monotonic()
    while audit.syncs < syncs:
        await asyncio.sleep(0.01)
        assert time.monotonic() < started + 10
    assert fsync != "second" or time.monotonic() > started + 0.9  # and not after each
    await asyncio.sleep(0.1)
    assert audit.syncs == syncs
    assert len(lines(file)) == 3
    audit.close()


async def test_a_disk_that_hangs_holds_so_many_bytes_and_the_rest_is_counted(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lost: list[int] = []
    line = len(AuditLog(Audit(file))._lines(Request((HELLO,)), [EngineError("gone")]))
    file = file.with_name("other.jsonl")
    audit = AuditLog(Audit(file, fsync="never"), lambda: lost.append(1), backlog=5 * line + line // 2)
    hanging = threading.Event()
    audit._thread.submit(hanging.wait)
    for _ in range(9):
        await audit.judged(Request((HELLO,)), [EngineError("gone")])
    assert len(lost) == 4
    hanging.set()
    while len(lines(file)) < 5:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    await audit.judged(Request((HELLO,)), [EngineError("gone")])
    audit.close()
    assert (len(lines(file)), len(lost)) == (6, 4)
    behind = [message for message in caplog.messages if "bytes behind; lines are lost" in message]
    assert len(behind) == 1


async def test_an_answer_waits_for_no_disk_that_is_behind(file: Path) -> None:
    audit = AuditLog(Audit(file, fsync="always"), backlog=10)
    with pytest.raises(EngineError, match="the audit log is behind"):
        await audit.judged(Request((HELLO,)), [EngineError("gone")])
    audit.close()


async def test_rotation_keeps_so_many_files_and_every_line_of_them(file: Path) -> None:
    async with serve(audit=Audit(file, rotate_bytes=1500, keep=2)) as served:
        for index in range(20):
            await served.client.moderate(Conversation.of(f"text {index}"))
    kept = [file.with_name("audit.jsonl.2"), file.with_name("audit.jsonl.1"), file]
    assert sorted(file.parent.iterdir()) == sorted(kept)
    assert all(0 < path.stat().st_size <= 1500 for path in kept)
    digests = [line["sha256"] for path in kept for line in lines(path)]
    assert digests == [digest(Conversation.of(f"text {index}")) for index in range(20)][-len(digests) :]
    assert len(digests) > 5


async def test_a_file_that_was_moved_is_opened_anew(file: Path) -> None:
    audit = AuditLog(Audit(file))
    os.replace(file, file.with_name("moved"))
    audit._looked -= 2
    assert audit._append(b"{}\n") is None
    audit.close()
    assert (file.read_text(), file.with_name("moved").read_text()) == ("{}\n", "")


def test_one_process_writes_it_and_the_folder_must_exist(file: Path) -> None:
    audit = AuditLog(Audit(file))
    with pytest.raises(ConfigError, match="another process writes it"):
        AuditLog(Audit(file))
    audit.close()
    AuditLog(Audit(file)).close()
    with pytest.raises(ConfigError, match="Not a directory"):
        AuditLog(Audit(file / "none" / "audit.jsonl"))


def test_log_lines_as_json() -> None:
    try:
        raise RuntimeError("kumquat")
    except RuntimeError as error:
        record = logging.LogRecord(
            "guard.serve", logging.ERROR, __file__, 1, "so %s", ("it",), (RuntimeError, error, None)
        )
    line = json.loads(JsonLines().format(record))
    assert {name: line[name] for name in ("level", "logger", "message", "error")} == {
        "level": "error",
        "logger": "guard.serve",
        "message": "so it",
        "error": "RuntimeError",
    }
