"""An engine in processes of its own: the same scores, and what happens when a process ends."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from guard import Conversation, Moderator, open_moderator
from guard.bundle import open_bundle
from guard.engines.base import Engine
from guard.engines.fake import FakeEngine
from guard.engines.pool import EnginePool
from guard.engines.registry import open_pool
from guard.errors import BundleError, EngineDown, EngineError
from guard.policy import load
from tests.fixtures import tiny_guard
from tests.fixtures.crashing import CrashingEngine, ending, refusing

POLICY = load("minimal")
TEXTS = [Conversation.of(text) for text in ("how do I bake bread?", "violates:M2", "a long text " * 100)]


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.fixture
def pool() -> Iterator[EnginePool]:
    made = EnginePool(FakeEngine(), CrashingEngine, 2)
    made.warm()
    yield made
    made.close()


def moderator(pool: EnginePool) -> Moderator:
    return Moderator(pool, POLICY)


def test_the_verdicts_are_those_of_the_engine_in_this_process(pool: EnginePool) -> None:
    assert pool.info == replace(FakeEngine.info, parallel_calls=2)
    with ThreadPoolExecutor(4) as threads:
        for verdicts in threads.map(lambda _: moderator(pool).moderate(TEXTS), range(8)):
            expected = Moderator(FakeEngine(), POLICY).moderate(TEXTS)
            assert [each.categories for each in verdicts] == [each.categories for each in expected]


@pytest.mark.parametrize("bundle", [None, tiny_guard.BUNDLE], ids=["mini", "causal"])
def test_a_bundle_is_the_same_guard_in_a_process(bundle: Path | None) -> None:
    with open_moderator(bundle, threads=1) as here, open_moderator(bundle, threads=1, workers=1) as there:
        there.engine.warm()
        assert there.info == here.info
        for policy in (here.policy, here.policy.without(here.policy.codes[:2])):
            there.engine.prepare(policy)
            for ours, theirs in zip(here.moderate(TEXTS, policy), there.moderate(TEXTS, policy), strict=True):
                assert theirs.categories == pytest.approx(ours.categories, abs=1e-6)
                assert (theirs.outcome, theirs.coverage) == (ours.outcome, ours.coverage)


def test_no_model_is_loaded_by_the_process_that_makes_the_windows() -> None:
    code = (
        "import sys; from guard import open_moderator; open_moderator(workers=1); print('onnxruntime' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_process_that_ends_fails_what_it_was_asked_and_is_replaced(
    pool: EnginePool, caplog: pytest.LogCaptureFixture
) -> None:
    pids = {worker.pid for worker in pool.workers}
    with pytest.raises(EngineDown, match="try again in a few seconds"):
        moderator(pool).check("this ends now")
    assert pool.ready, "the other one goes on"
    assert moderator(pool).check("hello").categories
    until(lambda: all(worker.ready for worker in pool.workers))
    assert len({worker.pid for worker in pool.workers} & pids) == 1
    assert caplog.messages == [
        "the process of an engine has ended with code 3; another is started",
        "an engine is ready again in place of one whose process ended",
    ]
    assert len(moderator(pool).moderate(TEXTS)) == 3


def test_while_none_is_ready_it_says_so_at_once() -> None:
    pool = EnginePool(FakeEngine(), CrashingEngine)
    pool.warm()
    try:
        for _ in range(2):
            (pid,) = (worker.pid for worker in pool.workers)
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            until(lambda: not pool.ready)
            with pytest.raises(EngineDown):
                moderator(pool).check("hello")
            pool.prepare(POLICY)
            until(lambda: pool.ready)
            assert moderator(pool).check("hello").categories
    finally:
        pool.close()


@pytest.mark.parametrize("what", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_to_the_whole_group_do_not_end_it(pool: EnginePool, what: signal.Signals) -> None:
    for worker in pool.workers:
        assert worker.pid is not None
        os.kill(worker.pid, what)
    assert len(moderator(pool).moderate(TEXTS)) == 3
    assert all(worker.ready for worker in pool.workers)


def test_errors_travel_without_the_text(pool: EnginePool) -> None:
    with pytest.raises(EngineError, match=r"^the engine failed with RuntimeError$"):
        moderator(pool).check("kumquat breaks score")
    assert len(moderator(pool).moderate(TEXTS)) == 3


def test_an_answer_that_cannot_be_sent_hangs_nobody(pool: EnginePool) -> None:
    with pytest.raises(EngineDown):
        moderator(pool).check("this cannot be sent")
    assert len(moderator(pool).moderate(TEXTS)) == 3


def test_a_policy_that_takes_long_delays_no_batch(pool: EnginePool) -> None:
    with ThreadPoolExecutor(1) as threads:
        preparing = threads.submit(pool.prepare, replace(POLICY, id="slow"))
        for _ in range(4):
            assert len(moderator(pool).moderate(TEXTS)) == 3
        assert not preparing.done()
        pool.close()


@pytest.mark.parametrize(
    ("opener", "kind", "message"),
    [(refusing, BundleError, "damaged"), (ending, EngineError, "ended before it was ready")],
)
def test_an_engine_that_cannot_be_opened_is_an_error_of_warm(
    opener: Callable[[], Engine], kind: type[Exception], message: str
) -> None:
    pool = EnginePool(FakeEngine(), opener)
    with pytest.raises(kind, match=message):
        pool.warm()
    pool.close()
    assert not pool.ready


def test_a_bundle_that_was_replaced_meanwhile_is_not_opened(tmp_path: Path) -> None:
    root = tmp_path / "bundle"
    shutil.copytree(tiny_guard.BUNDLE, root)
    pool = open_pool(open_bundle(root), 1, 1)
    shutil.rmtree(root)
    shutil.copytree(open_bundle().root, root)
    with pytest.raises(BundleError, match=r"holds model .* now, in place of .*; load it with SIGHUP"):
        pool.warm()
    pool.close()


def test_closing_waits_for_nothing() -> None:
    pool = EnginePool(FakeEngine(), CrashingEngine, 2)
    pool.warm()
    processes = [psutil.Process(worker.pid) for worker in pool.workers]
    with ThreadPoolExecutor(1) as threads:
        hanging = threads.submit(moderator(pool).check, "this hangs")
        until(lambda: bool(pool._busy))
        begun = time.monotonic()
        pool.close()
        assert isinstance(hanging.exception(), EngineDown)
    assert time.monotonic() - begun < 2
    assert not any(process.is_running() for process in processes)
    with pytest.raises(EngineError, match="closed"):
        moderator(pool).check("hello")
    pool.close()


CLOSED_BY_NOBODY = """
from guard import open_moderator
if __name__ == "__main__":
    moderator = open_moderator("fake", workers=2)
    moderator.engine.warm()
    print(moderator.check("hello").outcome.name, *(worker.pid for worker in moderator.engine.workers), flush=True)
    {last}
"""


@pytest.mark.parametrize("last", ["", "raise SystemExit", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"])
def test_no_process_outlives_the_one_that_started_it(last: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(CLOSED_BY_NOBODY.format(last=last))
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60)
    outcome, *pids = done.stdout.split()
    assert outcome == "SAFE"
    until(lambda: not any(psutil.pid_exists(int(pid)) for pid in pids))
