"""`guard bench`: what it measures, what it suggests, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from guard.bench import LeftOut, Speed, bench, suggestion
from guard.cli import main
from guard.errors import BundleError, ConfigError


def speed(threads: int, words: int, batch: int, texts_per_s: float) -> Speed:
    return Speed(threads, words, 2.0 * words, batch, 5, texts_per_s, 2 * words * texts_per_s, 1.0, 2.0)


def test_every_combination_is_measured() -> None:
    done: list[Speed | LeftOut] = []
    found = bench("fake", None, [1, 2], seconds=0, lengths=[8, 48], batches=[1, 8], longest_call_s=60, done=done.append)
    cells = [(each.threads, each.words, each.batch) for each in found.speeds]
    assert cells == [(threads, words, batch) for threads in (1, 2) for words in (8, 48) for batch in (1, 8)]
    assert (tuple(done), found.left_out) == (found.speeds, ())
    for each in found.speeds:
        assert each.calls >= 3
        assert 0 < each.p50_ms <= each.p99_ms
        assert each.texts_per_s > 0
        assert each.tokens_per_s == pytest.approx(each.texts_per_s * each.tokens)
    short, long = (each.tokens for each in found.speeds[1:3])
    assert short < long
    assert found.start_s > 0
    assert found.kind == "fake"


def test_a_combination_is_left_out_where_a_call_would_take_long() -> None:
    done: list[Speed | LeftOut] = []
    found = bench("fake", None, [1, 2], 0, [8, 48], [1, 1_000_000], longest_call_s=2.0, done=done.append)
    measured = [(each.threads, each.words, each.batch) for each in found.speeds]
    left_out = [(each.threads, each.words, each.batch) for each in found.left_out]
    assert measured == [(threads, words, 1) for threads in (1, 2) for words in (8, 48)]
    assert left_out == [(threads, words, 1_000_000) for threads in (1, 2) for words in (8, 48)]
    assert all(each.expected_s > 2 for each in found.left_out)
    assert len(done) == 8


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
    assert len(report["speeds"]) + len(report["left_out"]) == 12
    assert report["suggestion"]["threads"] == 1


def test_the_command_prints_each_row_once_it_is_measured() -> None:
    command = [sys.executable, "-m", "guard", "bench", "--model", "fake", "--threads", "1", "--seconds", "0.3"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("made-up texts of 8, 48, 160 and 640 words, 1, 8 and 32 a call")
            assert process.stdout.readline().split()[:4] == ["threads", "words", "tokens", "batch"]
            assert process.stdout.readline().split()[:2] == ["1", "8"]
            assert process.poll() is None  # eleven more are to be measured
        finally:
            process.kill()


def test_a_bundle_that_is_not_there_is_named() -> None:
    with pytest.raises(BundleError, match="nowhere"):
        bench("/nowhere", None, [1], 0)
