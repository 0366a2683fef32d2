"""`guard bench`: what it measures, what it suggests, and what it refuses."""

from __future__ import annotations

import json

import pytest

from guard.bench import Speed, bench, suggestion
from guard.cli import main
from guard.errors import BundleError, ConfigError


def speed(threads: int, words: int, batch: int, texts_per_s: float) -> Speed:
    return Speed(threads, words, 2.0 * words, batch, 5, texts_per_s, 2 * words * texts_per_s, 1.0, 2.0)


def test_every_combination_is_measured() -> None:
    done: list[None] = []
    found = bench("fake", None, [1, 2], seconds=0, lengths=[8, 48], batches=[1, 8], done=lambda: done.append(None))
    cells = [(each.threads, each.words, each.batch) for each in found.speeds]
    assert cells == [(threads, words, batch) for threads in (1, 2) for words in (8, 48) for batch in (1, 8)]
    assert len(done) == len(cells)
    for each in found.speeds:
        assert each.calls >= 5
        assert 0 < each.p50_ms <= each.p99_ms
        assert each.texts_per_s > 0
        assert each.tokens_per_s == pytest.approx(each.texts_per_s * each.tokens)
    short, long = (each.tokens for each in found.speeds[1:3])
    assert short < long
    assert found.start_s > 0
    assert found.kind == "fake"


def test_the_suggestion_is_the_smallest_batch_that_is_fast_enough() -> None:
    speeds = [speed(1, 48, 1, 80), speed(1, 48, 8, 97), speed(1, 48, 32, 100), speed(2, 8, 1, 900), speed(2, 48, 1, 90)]
    found = suggestion(speeds)
    assert (found.threads, found.batch, found.words, found.texts_per_s) == (1, 8, 48, 97)


def test_the_suggestion_is_for_the_length_closest_to_typical_texts() -> None:
    assert suggestion([speed(1, 8, 1, 500), speed(1, 64, 1, 50), speed(1, 640, 1, 5)]).words == 64


@pytest.mark.parametrize(("threads", "lengths", "batches"), [([], [8], [1]), ([0], [8], [1]), ([1], [8], [-1])])
def test_impossible_numbers_are_refused(threads: list[int], lengths: list[int], batches: list[int]) -> None:
    with pytest.raises(ConfigError, match="must be one or more numbers >= 1"):
        bench("fake", None, threads, 0, lengths, batches)


def test_the_command_prints_what_it_measured(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["bench", "--model", "fake", "--threads", "1", "--seconds", "0", "--json"])
    assert ended.value.code == 0
    report = json.loads(capsys.readouterr().out)
    assert len(report["speeds"]) == 12
    assert report["suggestion"]["threads"] == 1


def test_a_bundle_that_is_not_there_is_named() -> None:
    with pytest.raises(BundleError, match="nowhere"):
        bench("/nowhere", None, [1], 0)
