"""The drivers: checks while deltas come, slow consumers, failures and cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from guard.conversation import Conversation, Message
from guard.errors import EngineError
from guard.stream import HoldBack, StreamOptions, drive, drive_async
from guard.stream.drive import Answer
from tests.stream.test_holdback import SENTENCE, fake, machine, verdict


async def judge(conversation: Conversation) -> Answer:
    await asyncio.sleep(0)
    return fake(conversation)


class Source:
    """Deltas that count how many were taken, and may end in an error."""

    def __init__(self, pieces: list[str], problem: Exception | None = None) -> None:
        self.pieces, self.problem, self.taken = pieces, problem, 0

    async def __aiter__(self) -> AsyncIterator[str]:
        for piece in self.pieces:
            self.taken += 1
            yield piece
        if self.problem is not None:
            raise self.problem


@pytest.mark.parametrize("release", ["hold", "observe"])
@pytest.mark.parametrize("text", [SENTENCE * 5 + "end", SENTENCE + "violates:S1 " + SENTENCE * 9])
async def test_both_drivers_show_the_same(text: str, release: str) -> None:
    options = StreamOptions(release)  # type: ignore[arg-type]
    blocking = list(drive(machine(options), text, fake))
    awaited = [one async for one in drive_async(machine(options), aiter(Source(list(text))), judge)]
    shown = ["".join(one.released for one in each) for each in (blocking, awaited)]
    if release == "observe" or "violates" not in text:
        assert shown == [text, text]
    else:
        assert all(text.startswith(each) and "violates" not in each for each in shown)
        assert blocking[-1].stopped
        assert awaited[-1].stopped


async def test_time_checks_what_is_left_when_nothing_comes() -> None:
    going_on = asyncio.Event()

    async def stalls() -> AsyncIterator[str]:
        yield "No sentence ends here, and "
        await going_on.wait()
        yield "then one does."

    seen = []
    async for one in drive_async(machine(StreamOptions(seconds=0.02)), stalls(), judge):
        seen.append(one.released)
        going_on.set()
    assert seen == ["No sentence ends here, and ", "then one does."]


async def test_a_slow_consumer_stops_the_reading() -> None:
    source = Source([SENTENCE] * 1000)
    async with aclosing(drive_async(HoldBack((), StreamOptions(), 10**6), aiter(source), judge)) as progress:
        await anext(progress)
        await asyncio.sleep(0.02)
        assert source.taken < 5


async def test_a_held_verdict_stops_the_reading_but_not_where_all_is_shown() -> None:
    async def never(_: Conversation) -> Answer:
        await asyncio.Event().wait()
        return verdict()

    for release, whole in (("hold", False), ("observe", True)):
        source = Source([SENTENCE] * 200)
        options = StreamOptions(release)  # type: ignore[arg-type]
        task = asyncio.ensure_future(_all(machine(options), source, never))
        for _ in range(2000):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (source.taken == 200) is whole
        assert whole or source.taken < 30


async def _all(holding: HoldBack, source: Source, ask: object) -> list[object]:
    return [one async for one in drive_async(holding, aiter(source), ask)]  # type: ignore[arg-type]


async def test_errors_of_either_side_pass_and_cancel_the_other() -> None:
    cancelled = asyncio.Event()

    async def never(_: Conversation) -> Answer:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return verdict()

    with pytest.raises(ConnectionError):
        await _all(machine(), Source([SENTENCE], ConnectionError("gone")), never)
    assert cancelled.is_set()

    async def fails(_: Conversation) -> Answer:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await _all(machine(), Source([SENTENCE] * 3), fails)


async def test_an_error_of_the_guard_is_an_answer() -> None:
    async def fails(_: Conversation) -> Answer:
        return EngineError("gone")

    (only,) = [one async for one in drive_async(machine(), aiter(Source([SENTENCE])), fails)]
    assert (only.stopped, type(only.answer)) == (True, EngineError)


def test_a_reply_without_context_is_judged_alone() -> None:
    (only,) = drive(HoldBack((), StreamOptions(), 99), ["Hello."], fake)
    assert only.released == "Hello."
    assert Message("assistant", "Hello.").content == only.released
