"""The policy cache: every value is computed once, and what is kept stays within its bytes."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.engines.policy_cache import PolicyCache


def made(max_bytes: int) -> PolicyCache[int, str]:
    return PolicyCache(max_bytes, lambda _, value: len(value))


def spelt(keys: Sequence[int]) -> list[str]:
    return ["x" * key for key in keys]


@given(st.lists(st.lists(st.integers(1, 30), max_size=6), max_size=20), st.integers(1, 100))
def test_values_are_right_and_the_bytes_bounded(calls: list[list[int]], max_bytes: int) -> None:
    cache, bound = made(max_bytes), max_bytes
    for keys in calls:
        bound = max(bound, sum(set(keys)))
        assert cache.get(keys, spelt) == spelt(keys)
        assert cache.bytes <= bound
    cache.clear()
    assert (len(cache), cache.bytes) == (0, 0)


def test_what_was_used_last_stays() -> None:
    cache, computed = made(10), []

    def note(keys: Sequence[int]) -> list[str]:
        computed.extend(keys)
        return spelt(keys)

    for key in (4, 5, 4, 3, 4, 5):
        cache.get([key], note)
    assert computed == [4, 5, 3, 5]


def test_one_that_is_too_large_is_kept_while_it_is_the_last() -> None:
    cache, calls = made(10), Counter()

    def note(keys: Sequence[int]) -> list[str]:
        calls.update(keys)
        return spelt(keys)

    for key in (99, 99, 1, 99):
        cache.get([key], note)
    assert calls == {99: 2, 1: 1}


def test_many_threads_compute_a_value_once() -> None:
    cache, gate, calls = made(1000), threading.Barrier(8), Counter()

    def note(keys: Sequence[int]) -> list[str]:
        calls.update(keys)
        return spelt(keys)

    def ask(first: int) -> list[str]:
        gate.wait(20)
        return cache.get([first, 20, 21, 22], note)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ask, range(1, 9)))
    assert found == [spelt([first, 20, 21, 22]) for first in range(1, 9)]
    assert set(calls.values()) == {1}


def test_an_error_is_raised_and_forgotten() -> None:
    cache = made(100)

    def broken(keys: Sequence[int]) -> list[str]:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        cache.get([1, 2], broken)
    assert len(cache) == 0
    assert cache.get([1, 2], spelt) == ["x", "xx"]
