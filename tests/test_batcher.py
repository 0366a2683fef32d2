"""Each clause of the batcher's contract, with events and no sleeps. An item is its own cost, and its answer -item."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import threading
import time
import weakref
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guard.batcher import Batcher, Bounds, Done, Flow
from guard.errors import Closed, EngineError, InvalidInput, Overloaded

POISON = 13
ANYONE = Flow()


class Worker:
    """Work that waits for `gate` and notes what it was given."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.threads: set[int] = set()
        self.gate = threading.Event()
        self.busy = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        self.threads.add(threading.get_ident())
        self._loop.call_soon_threadsafe(self.busy.set)
        assert self.gate.wait(20)
        if POISON in items:
            raise ValueError("poison")
        return [-item for item in items]


def cost(item: int) -> int:
    return item


async def ask(
    batcher: Batcher[int, int], *items: int, deadline: float = math.inf, flow: Flow = ANYONE
) -> list[int | Exception]:
    with batcher.reserve(len(items), sum(items), flow) as slot:
        return [done.answer for done in await slot.answer(items, deadline)]


async def started(
    batcher: Batcher[int, int], *asked: Sequence[int], flow: Flow = ANYONE
) -> list[asyncio.Task[list[int | Exception]]]:
    """Tasks that have handed in their items."""
    tasks = [asyncio.create_task(ask(batcher, *items, flow=flow)) for items in asked]
    await asyncio.sleep(0)
    return tasks


async def test_a_batch_forms_while_the_worker_is_busy() -> None:
    worker = Worker()
    async with Batcher(worker, cost) as batcher:
        (first,) = await started(batcher, [1])
        await worker.busy.wait()
        rest = await started(batcher, [2], [3, 4])
        worker.gate.set()
        assert await first == [-1]
        assert [await task for task in rest] == [[-2], [-3, -4]]
    assert worker.batches == [[1], [2, 3, 4]]


async def test_work_runs_in_one_thread_that_is_not_the_event_loop() -> None:
    worker = Worker()
    worker.gate.set()
    async with Batcher(worker, cost, Bounds(batch_items=1)) as batcher:
        await asyncio.gather(*(ask(batcher, item) for item in range(1, 9)))
    assert len(worker.threads) == 1
    assert threading.get_ident() not in worker.threads


async def test_so_many_batches_at_a_time_as_there_are_workers() -> None:
    worker = Worker()
    async with Batcher(worker, cost, Bounds(batch_items=1), parallel=2) as batcher:
        tasks = await started(batcher, [1], [2], [3])
        while len(worker.batches) < 2:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
        assert sorted(worker.batches) == [[1], [2]]
        worker.gate.set()
        assert [await task for task in tasks] == [[-1], [-2], [-3]]


async def test_batches_are_cut_by_padded_tokens_and_by_count() -> None:
    worker = Worker()
    worker.gate.set()
    async with Batcher(worker, cost, Bounds(batch_items=3, batch_tokens=40)) as batcher:
        items = [10] * 5 + [50] + [19, 20, 21]
        assert await ask(batcher, *items) == [-item for item in items]
    assert sorted(map(sorted, worker.batches)) == [[10, 10], [10, 10, 10], [19, 20], [21], [50]]


async def test_the_oldest_goes_first_with_those_of_its_own_length() -> None:
    worker = Worker()
    async with Batcher(worker, cost, Bounds(batch_items=4, batch_tokens=100)) as batcher:
        tasks = await started(batcher, [1])
        await worker.busy.wait()
        tasks += await started(batcher, [40], [3], [5], [41], [4])
        worker.gate.set()
        await asyncio.gather(*tasks)
    assert worker.batches == [[1], [40, 41], [3, 4, 5]]


ONE_AT_A_TIME = Bounds(batch_items=1)


async def order(*asked: tuple[Flow, Sequence[int]]) -> list[int]:
    """In which order items are worked on that have been handed in while the worker was busy."""
    worker = Worker()
    async with Batcher(worker, cost, ONE_AT_A_TIME) as batcher:
        tasks = await started(batcher, [1])
        await worker.busy.wait()
        for flow, items in asked:
            tasks += await started(batcher, items, flow=flow)
        worker.gate.set()
        await asyncio.gather(*tasks)
    return [item for batch in worker.batches[1:] for item in batch]


async def test_a_short_job_passes_the_rest_of_a_long_one_of_the_same_client() -> None:
    assert await order((ANYONE, [10] * 20), (ANYONE, [9])) == [10, 9, *[10] * 19]


async def test_a_client_with_many_jobs_does_not_delay_one_with_a_single_job() -> None:
    crowd = [(Flow("crowd"), [10])] * 20
    assert (await order(*crowd, (Flow("alone"), [9]))).index(9) <= 1


async def test_the_jobs_of_a_client_start_in_their_order() -> None:
    jobs = [[40], [3], [5], [41], [4]]
    assert await order(*((Flow("one"), job) for job in jobs)) == [item for job in jobs for item in job]


async def test_a_flow_of_little_weight_waits_but_is_served() -> None:
    slow, fast = Flow("slow", 1 / 4), Flow("fast")
    found = await order((slow, [10] * 8), (fast, [9] * 30))
    assert found[:3] == [9, 9, 9]
    assert 6 <= found[:34].count(10) <= 8, "a fifth of the first 34"


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.lists(st.integers(1, 60), min_size=1, max_size=9)), max_size=9))
def test_every_flow_is_served_whatever_others_hand_in(jobs: list[tuple[str, list[int]]]) -> None:
    found = asyncio.run(order(*((Flow(name, 1 / (1 + ord(name) - ord("a"))), items) for name, items in jobs)))
    assert sorted(found) == sorted(item for _, items in jobs for item in items)


async def test_a_job_that_cannot_be_reached_before_its_deadline_is_refused_at_once() -> None:
    loop = asyncio.get_running_loop()
    gate = threading.Event()
    gate.set()

    def work(items: Sequence[int]) -> list[int]:
        assert gate.wait(20)
        time.sleep(0.02)
        return list(items)

    async with Batcher(work, cost, ONE_AT_A_TIME) as batcher:
        await ask(batcher, 1)  # which tells how long an item takes
        gate.clear()
        tasks = await started(batcher, *([1] for _ in range(100)))
        with pytest.raises(Overloaded, match="s of work wait before the request, whose deadline is in") as refused:
            await ask(batcher, 1, deadline=loop.time() + 0.3)
        assert 0.5 < refused.value.retry_after_s < 20
        patient = asyncio.create_task(ask(batcher, 1, deadline=loop.time() + 60))
        other = asyncio.create_task(ask(batcher, 1, deadline=loop.time() + 0.3, flow=Flow("other")))  # whose turn comes
        gate.set()
        assert (await other, await patient) == ([1], [1])
        await asyncio.gather(*tasks)


async def test_equal_items_of_a_batch_are_worked_on_once() -> None:
    worker = Worker()
    async with Batcher(worker, cost, key=lambda item: item) as batcher:
        tasks = await started(batcher, [1])
        await worker.busy.wait()
        tasks += await started(batcher, [2, 3], [2], [3, 2])
        worker.gate.set()
        assert [await task for task in tasks] == [[-1], [-2, -3], [-2], [-3, -2]]
    assert worker.batches == [[1], [2, 3]]


@pytest.mark.parametrize("bounds", [Bounds(queue_items=2), Bounds(queue_tokens=20)], ids=["items", "tokens"])
async def test_a_full_queue_refuses_at_once_and_has_room_again_after_an_answer(bounds: Bounds) -> None:
    worker = Worker()
    async with Batcher(worker, cost, bounds) as batcher:
        tasks = await started(batcher, [10], [10])
        with pytest.raises(Overloaded), batcher.reserve(1, 10):
            pass
        worker.gate.set()
        await asyncio.gather(*tasks)
        assert (batcher.items, batcher.tokens) == (0, 0)
        assert await ask(batcher, 10) == [-10]


async def test_what_can_never_fit_is_the_callers_mistake() -> None:
    async with Batcher(Worker(), cost, Bounds(queue_items=2, queue_tokens=20)) as batcher:
        for items, tokens in ((3, 1), (1, 21)):
            with (
                pytest.raises(InvalidInput, match=r"holds at most 2 windows and 20 tokens"),
                batcher.reserve(items, tokens),
            ):
                pass
        assert (batcher.items, batcher.tokens) == (0, 0)


async def test_a_reservation_counts_before_anything_is_handed_in_and_is_corrected_then() -> None:
    worker = Worker()
    async with Batcher(worker, cost, Bounds(queue_items=10, queue_tokens=20)) as batcher:
        with batcher.reserve(1, 15) as slot:
            assert (batcher.items, batcher.tokens) == (1, 15)
            task = asyncio.create_task(slot.answer([2, 3]))
            await worker.busy.wait()
            assert (batcher.items, batcher.tokens) == (2, 5)
            worker.gate.set()
            assert [done.answer for done in await task] == [-2, -3]
        with batcher.reserve(1, 1) as small, batcher.reserve(1, 15):
            with pytest.raises(Overloaded):
                await small.answer([6])
            assert batcher.tokens == 16
        assert worker.batches == [[2, 3]]


async def test_a_cancelled_caller_is_not_computed() -> None:
    worker = Worker()
    async with Batcher(worker, cost) as batcher:
        first, gone, last = await started(batcher, [1], [2, 3], [4])
        gone.cancel()
        await worker.busy.wait()
        late, stays = await started(batcher, [5], [6])
        late.cancel()
        await asyncio.wait([late])
        assert batcher.items == 3
        worker.gate.set()
        assert [await first, await last, await stays] == [[-1], [-4], [-6]]
    assert sorted(item for batch in worker.batches for item in batch) == [1, 4, 6]


async def test_what_a_cancelled_caller_handed_in_is_forgotten_at_once() -> None:
    class Text:
        pass

    gate = threading.Event()

    def work(items: Sequence[Text]) -> list[int]:
        assert gate.wait(20)
        return [0] * len(items)

    async def one(batcher: Batcher[Text, int], text: Text) -> None:
        with batcher.reserve(1, 1) as slot:
            await slot.answer([text])

    async with Batcher(work, lambda text: 1) as batcher:
        busy = asyncio.create_task(one(batcher, Text()))
        await asyncio.sleep(0)
        text = Text()
        gone, trace = asyncio.create_task(one(batcher, text)), weakref.ref(text)
        del text
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.wait([gone])
        del gone
        gc.collect()
        assert trace() is None
        gate.set()
        await busy


async def test_an_expired_entry_is_answered_while_the_worker_is_busy_and_not_computed() -> None:
    worker = Worker()
    async with Batcher(worker, cost) as batcher:
        (first,) = await started(batcher, [1])
        await worker.busy.wait()
        with pytest.raises(TimeoutError):
            await ask(batcher, 2, deadline=asyncio.get_running_loop().time())
        worker.gate.set()
        assert await first == [-1]
    assert worker.batches == [[1]]


async def test_an_entry_that_has_expired_is_dropped_when_the_batch_is_cut() -> None:
    worker = Worker()
    worker.gate.set()
    async with Batcher(worker, cost) as batcher:
        past = asyncio.get_running_loop().time() - 1
        expired = asyncio.create_task(ask(batcher, 2, deadline=past))
        live = asyncio.create_task(ask(batcher, 3))
        assert await live == [-3]
        with pytest.raises(TimeoutError):
            await expired
    assert worker.batches == [[3]]


async def test_a_poison_item_fails_alone() -> None:
    worker = Worker()
    async with Batcher(worker, cost) as batcher:
        tasks = await started(batcher, [1])
        await worker.busy.wait()
        tasks += await started(batcher, [2, POISON], [3])
        worker.gate.set()
        assert await tasks[0] == [-1]
        good, bad = await tasks[1]
        assert good == -2
        assert isinstance(bad, ValueError)
        assert await tasks[2] == [-3]
    assert worker.batches == [[1], [2, 3, POISON], [2], [3], [POISON]]


async def test_an_error_among_the_answers_is_its_own_items_alone() -> None:
    calls = []

    def work(items: Sequence[int]) -> list[int | EngineError]:
        calls.append(list(items))
        return [EngineError("no number") if item == POISON else -item for item in items]

    async with Batcher(work, cost) as batcher:
        good, bad, other = await ask(batcher, 2, POISON, 3)
    assert (good, other) == (-2, -3)
    assert isinstance(bad, EngineError)
    assert len(calls) == 1, "nothing is tried again"


async def test_a_failed_batch_answers_every_waiter_and_the_next_one_works() -> None:
    broken = True

    def work(items: Sequence[int]) -> list[int]:
        if broken:
            raise EngineError("session lost")
        return [-item for item in items]

    async with Batcher(work, cost) as batcher:
        answers = await asyncio.gather(*(ask(batcher, item) for item in range(1, 6)))
        assert [type(answer) for (answer,) in answers] == [EngineError] * 5
        broken = False
        assert await ask(batcher, 7) == [-7]


@pytest.mark.parametrize("given_back", [0, 2])
async def test_a_wrong_number_of_answers_is_an_error_and_no_hang(given_back: int) -> None:
    async with Batcher(lambda items: [0] * given_back, cost) as batcher:
        (answer,) = await ask(batcher, 1)
    assert isinstance(answer, EngineError)
    assert f"returned {given_back} answers for 1" in str(answer)


async def test_an_error_that_a_future_cannot_carry_is_answered_too() -> None:
    def work(items: Sequence[int]) -> list[int]:
        raise StopIteration

    async with Batcher(work, cost) as batcher:
        (answer,) = await ask(batcher, 1)
    assert isinstance(answer, StopIteration)


async def test_close_drains_and_then_refuses() -> None:
    worker = Worker()
    async with Batcher(worker, cost) as batcher:
        with batcher.reserve(1, 1) as slot:  # accepted, still being tokenised
            (task,) = await started(batcher, [1])
            await worker.busy.wait()
            closing = asyncio.create_task(batcher.close())
            await asyncio.sleep(0)
            with pytest.raises(Closed), batcher.reserve(1, 1):
                pass
            worker.gate.set()
            assert [done.answer for done in await slot.answer([2])] == [-2]
            assert await task == [-1]
            assert not closing.done()
        await closing
        await batcher.close()
        with pytest.raises(Closed), batcher.reserve(1, 1):
            pass
    assert worker.batches == [[1], [2]]


@pytest.mark.parametrize("how", ["the drain is cut short", "its task dies"])
async def test_whoever_still_waits_at_the_end_gets_closed(how: str) -> None:
    worker = Worker()
    async with Batcher(worker, cost) as batcher:
        tasks = await started(batcher, [1], [2])
        await worker.busy.wait()
        if how == "its task dies":
            (task,) = (each for each in asyncio.all_tasks() if each.get_name() == "guard-batcher")
            task.cancel()
        else:
            closing = asyncio.create_task(batcher.close())
            await asyncio.sleep(0)
            closing.cancel()
        await batcher.stopped()
        for each in tasks:
            with pytest.raises(Closed):
                await each
        with pytest.raises(Closed), batcher.reserve(1, 1):
            pass
        worker.gate.set()


async def test_times_are_told() -> None:
    worker = Worker()
    worker.gate.set()
    async with Batcher(worker, cost) as batcher:
        with batcher.reserve(1, 1) as slot:
            (done,) = await slot.answer([1])
    assert isinstance(done, Done)
    assert done.queue_ms >= 0 < done.work_ms


BOUNDS = Bounds(queue_items=8, queue_tokens=100, batch_items=3, batch_tokens=40)
asks = st.tuples(st.just("ask"), st.lists(st.integers(1, 60), max_size=5), st.integers(0, 60))
cancels = st.tuples(st.just("cancel"), st.integers(0, 20))
steps = st.tuples(st.just("step"))


@settings(max_examples=25, deadline=None)
@given(st.lists(asks | cancels | steps, max_size=25))
def test_items_are_conserved_and_bounds_hold(script: list[tuple]) -> None:
    permits = threading.Semaphore(0)

    def work(items: Sequence[int]) -> list[int]:
        assert len(items) <= BOUNDS.batch_items
        assert len(items) == 1 or max(items) * len(items) <= BOUNDS.batch_tokens
        assert permits.acquire(timeout=20)
        if POISON in items:
            raise ValueError("poison")
        return [-item for item in items]

    async def one(batcher: Batcher[int, int], items: list[int], guess: int) -> None:
        try:
            with batcher.reserve(1, guess) as slot:
                await asyncio.sleep(0)  # tokenising
                answers = [done.answer for done in await slot.answer(items)]
        except Overloaded:
            return
        except InvalidInput:
            assert len(items) > BOUNDS.queue_items or sum(items) > BOUNDS.queue_tokens
            return
        assert len(answers) == len(items)
        for item, answer in zip(items, answers, strict=True):
            assert isinstance(answer, ValueError) if item == POISON else answer == -item

    async def play() -> None:
        tasks: list[asyncio.Task[None]] = []
        async with Batcher(work, cost, BOUNDS) as batcher:
            for action, *values in script:
                if action == "ask":
                    tasks.append(asyncio.create_task(one(batcher, *values)))
                elif action == "cancel" and tasks:
                    tasks[values[0] % len(tasks)].cancel()
                else:
                    permits.release()
                await asyncio.sleep(0)
                assert 0 <= batcher.items <= BOUNDS.queue_items
                assert 0 <= batcher.tokens <= BOUNDS.queue_tokens
            permits.release(1000)
            for task in tasks:
                with contextlib.suppress(asyncio.CancelledError):
                    await task
            assert (batcher.items, batcher.tokens) == (0, 0)

    asyncio.run(play())
