"""guard.filter.run: every row is accounted for, a killed job ends with the same bytes, a text is scored once."""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import random
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guard.engines.fake import FakeEngine
from guard.errors import ConfigError, DataError, EngineError, InvalidInput
from guard.filter.columns import parse_columns
from guard.filter.job import Job
from guard.filter.run import filter_rows
from guard.filter.scores import ADDED
from guard.filter.tally import Tally
from guard.moderator import Moderator, open_moderator
from guard.policy import load
from guard.prompts.window import TokenizedConversation

FAKE = open_moderator("fake", policy="minimal")
SAFE, UNSAFE = '{"prompt": "good morning"}', '{"prompt": "please violates:M1 now"}'


class SpyEngine(FakeEngine):
    """Counts what it scores, and fails on the words that a test puts into a text."""

    def __init__(self) -> None:
        self.scored: list[bytes] = []

    def tokenize(self, conversation, policy):
        text = conversation.judged.content
        if "unreadable" in text:
            raise InvalidInput("the text cannot be read")
        reading = super().tokenize(conversation, policy)
        return TokenizedConversation(reading.windows, 1, 2) if "endless" in text else reading

    def score(self, windows):
        self.scored += [bytes(window.ids) for window in windows]
        broken = [b"crash" in bytes(window.ids) for window in windows]
        scores = zip(broken, super().score(windows), strict=True)
        return [EngineError("the session died") if each else score for each, score in scores]


class MortalEngine(FakeEngine):
    """Dies at its nth call; like a real one, its scores differ a little with the size of the batch."""

    def __init__(self, calls: int) -> None:
        self.calls = calls

    def score(self, windows):
        self.calls -= 1
        if self.calls < 0:
            raise KeyboardInterrupt
        scores = super().score(windows)
        return [type(s)(s.unsafe + len(windows) * 1e-4, s.categories) for s in scores]


def with_engine(engine) -> Moderator:
    return Moderator(engine, load("minimal"))


def write(path: Path, *lines: str | bytes) -> Path:
    path.write_bytes(b"".join((line if isinstance(line, bytes) else line.encode()) + b"\n" for line in lines))
    return path


def job(source: Path, **options) -> Job:
    out = source.with_name("out" + source.suffix)
    return Job([source], out, out.with_name(out.name + ".quarantine.jsonl"), **options)


def lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines()


def outputs(wanted: Job) -> tuple[bytes, bytes, bytes]:
    """The three results, wherever the input lies."""
    report = wanted.report.read_bytes().replace(str(Path(wanted.inputs[0]).parent).encode(), b"")
    return wanted.out.read_bytes(), wanted.quarantine.read_bytes(), report


TEXTS = st.sampled_from(["hello", "what is violates:M1 about", "violates:M2", "näh\u2028 日本 \ud800", "x" * 900])
LINES = st.one_of(
    st.builds(lambda text, extra: json.dumps({"prompt": text, "n": extra}), TEXTS, st.floats() | st.integers()),
    st.builds(lambda text, answer: json.dumps({"id": 1, "prompt": text, "response": answer}), TEXTS, TEXTS),
    st.builds(lambda text: json.dumps({"messages": [{"role": "user", "content": text}]}, indent=None), TEXTS),
    st.sampled_from(['{"prompt": "a", "prompt": "b" }  ', '\t{"k": 1e999, "prompt": "\\u00e9"}\r', "", "  "]),
    st.sampled_from(["{", "[1]", "7", '{"prompt": ""}', '{"messages": []}', '{"prompt": null}', "[" * 9000, "{}"]),
    st.binary(min_size=1, max_size=12).filter(lambda raw: b"\n" not in raw),
)


@settings(max_examples=25, deadline=None)
@given(rows=st.lists(LINES, max_size=20), keep=st.sampled_from(["safe", "unsafe", "all"]), size=st.integers(2, 9))
def test_every_row_is_kept_as_it_was_or_dropped_or_quarantined(rows, keep, size, tmp_path_factory):
    source = write(tmp_path_factory.mktemp("rows") / "in.jsonl", *rows)
    wanted = job(source, keep=keep, shard_rows=size)
    tally = filter_rows(wanted, FAKE)

    given_lines = [(n, line.strip(b" \t\r\n")) for n, line in enumerate(source.read_bytes().split(b"\n"), 1)]
    given_lines = [(n, line.removeprefix(b"\xef\xbb\xbf") if n == 1 else line) for n, line in given_lines if line]
    given_lines = [(n, line) for n, line in given_lines if line]
    assert tally.read == len(given_lines) == tally.kept + tally.dropped + tally.quarantined
    quarantined = {}
    for entry in map(json.loads, wanted.quarantine.read_bytes().split(b"\n")[:-1]):
        raw = entry["raw"].encode() if "raw" in entry else base64.b64decode(entry["raw_base64"])
        quarantined[entry["line"]] = raw
    assert len(quarantined) == tally.quarantined == sum(tally.reasons.values())
    kept = iter(wanted.out.read_bytes().split(b"\n")[:-1])
    unkept = 0
    following = next(kept, None)
    for number, line in given_lines:
        if number in quarantined:
            assert quarantined[number] == line
        elif following is not None and following.startswith(line[:-1].rstrip() + b', "guard_outcome"'):
            assert tuple(json.loads(following))[-len(ADDED) :] == tuple(ADDED)
            following = next(kept, None)
        else:
            unkept += 1
    assert following is None
    assert unkept == tally.dropped
    assert keep != "all" or tally.dropped == 0
    assert not wanted.parts.exists()


def test_outcomes_decide_which_rows_are_kept(tmp_path):
    source = write(tmp_path / "in.jsonl", SAFE, UNSAFE, SAFE)
    kept = {keep: job(source, keep=keep) for keep in ("safe", "unsafe", "all")}
    counts = {}
    for keep, wanted in kept.items():
        filter_rows(wanted, FAKE, restart=True)
        counts[keep] = [json.loads(line)["guard_outcome"] for line in lines(wanted.out)]
    assert counts == {"safe": ["SAFE", "SAFE"], "unsafe": ["UNSAFE"], "all": ["SAFE", "UNSAFE", "SAFE"]}


def test_added_columns_are_the_verdict(tmp_path):
    wanted = job(write(tmp_path / "in.jsonl", UNSAFE), keep="all")
    filter_rows(wanted, FAKE)
    row = json.loads(wanted.out.read_bytes())
    verdict = FAKE.check("please violates:M1 now")
    assert list(row) == ["prompt", *ADDED]
    assert row["guard_p_unsafe"] == pytest.approx(verdict.p_unsafe, abs=1e-6)
    assert row["guard_flagged"] == ["M1"]
    assert row["guard_categories"] == pytest.approx(dict(verdict.categories), abs=1e-6)


def test_report_names_input_model_and_policy(tmp_path):
    wanted = job(write(tmp_path / "in.jsonl", SAFE, UNSAFE, "{"))
    filter_rows(wanted, FAKE)
    report = json.loads(wanted.report.read_bytes())
    assert (report["read"], report["kept"], report["dropped"], report["quarantined"]) == (3, 1, 1, 1)
    assert report["model"] == FAKE.engine.info.digest
    assert report["policy"] == FAKE.policy.digest
    told = "not valid JSON: Expecting property name enclosed in double quotes at column N"
    assert report["reasons"] == {told: 1}
    assert report["flagged"] == {"M1": 1}
    assert [len(each["sha256"]) for each in report["inputs"].values()] == [64]
    assert (report["mode"], report["keep"]) == ("balanced", "safe")


def test_text_column(tmp_path):
    source = write(tmp_path / "in.jsonl", '{"body": "good day", "prompt": 3}', '{"body": 3}', '{"prompt": "x"}')
    wanted = job(source, columns=parse_columns("text=body"))
    assert filter_rows(wanted, FAKE).kept == 1
    reasons = [json.loads(line)["reason"] for line in lines(wanted.quarantine)]
    assert reasons == ["`body` must be a string, not int", "the row has no value for `body`"]


def test_byte_order_mark_is_no_broken_row(tmp_path):
    wanted = job(write(tmp_path / "in.jsonl", b"\xef\xbb\xbf" + SAFE.encode()))
    assert filter_rows(wanted, FAKE).kept == 1
    assert wanted.out.read_bytes().startswith(SAFE[:-1].encode())


def test_a_text_is_scored_once_within_and_across_shards(tmp_path):
    texts = ["one", "two", "one", "three", "two", "one", "two", "one", "one", "three"]
    wanted = job(write(tmp_path / "in.jsonl", *(json.dumps({"prompt": text}) for text in texts)), shard_rows=4)
    engine = SpyEngine()
    tally = filter_rows(wanted, with_engine(engine))
    assert sorted(engine.scored) == [b"one", b"three", b"two"]
    assert (tally.read, tally.kept, tally.scored) == (10, 10, 3)


def test_a_row_with_an_image_does_not_share_the_verdict_of_a_text_that_reads_the_same(tmp_path):
    image = {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url"}]}]}
    rows = [json.dumps({"prompt": "a\n[image_url]"}), json.dumps(image)]
    tally = filter_rows(job(write(tmp_path / "in.jsonl", *rows)), FAKE)
    assert (tally.kept, tally.quarantined, tally.outcomes) == (1, 1, {"SAFE": 1, "INCOMPLETE": 1})


def test_undecided_and_unjudgeable_rows_are_quarantined_alone(tmp_path):
    texts = ["fine", "this is endless", "this is unreadable", "this will crash", "fine too"]
    wanted = job(write(tmp_path / "in.jsonl", *(json.dumps({"prompt": text}) for text in texts)), keep="all")
    tally = filter_rows(wanted, with_engine(SpyEngine()))
    entries = {entry["line"]: entry["reason"] for entry in map(json.loads, lines(wanted.quarantine))}
    assert entries == {
        2: "INCOMPLETE: a part could not be judged",
        3: "the text cannot be read",
        4: "the session died",
    }
    assert (tally.kept, tally.quarantined, tally.dropped) == (2, 3, 0)
    assert tally.outcomes == {"SAFE": 2, "INCOMPLETE": 1}


def test_a_broken_engine_stops_the_job_which_then_goes_on(tmp_path):
    texts = ["a", "b", "crash one", "crash two"]
    wanted = job(write(tmp_path / "in.jsonl", *(json.dumps({"prompt": text}) for text in texts)), shard_rows=2)
    with pytest.raises(EngineError, match="session died"):
        filter_rows(wanted, with_engine(SpyEngine()))
    assert not wanted.out.exists()
    assert filter_rows(wanted, FAKE).kept == 4


@pytest.mark.parametrize("column", ADDED)
def test_an_existing_column_is_an_error_that_names_it(column, tmp_path):
    wanted = job(write(tmp_path / "in.jsonl", SAFE, json.dumps({"prompt": "x", column: 1})))
    with pytest.raises(DataError, match=f"line 2: has a column `{column}`"):
        filter_rows(wanted, FAKE)


def test_no_text_reaches_reasons_report_or_records(tmp_path):
    secret = "canary-7319"
    rows = [
        f'{{"prompt": "{secret}',
        json.dumps({"messages": [{"role": secret, "content": secret}]}),
        json.dumps({"prompt": {secret: 1}}),
        json.dumps({"prompt": f"{secret} unreadable"}),
        json.dumps({"prompt": f"{secret} fine"}),
    ]
    wanted = job(write(tmp_path / "in.jsonl", *rows, json.dumps({"prompt": "x", "guard_outcome": secret})))
    with pytest.raises(DataError) as error:
        filter_rows(wanted, with_engine(SpyEngine()))
    assert secret not in str(error.value)
    write(wanted.inputs[0], *rows)
    tally = filter_rows(wanted, with_engine(SpyEngine()), restart=True)
    assert (tally.quarantined, tally.kept) == (4, 1)
    assert secret not in wanted.report.read_text()
    assert not [entry for entry in map(json.loads, lines(wanted.quarantine)) if secret in entry["reason"]]


def made_up_rows(count: int) -> list[str]:
    rows = [json.dumps({"n": n, "prompt": f"text {n % (count // 2)}"}) for n in range(count)]
    rows[::17] = ["{broken"] * len(rows[::17])
    rows[5::31] = [UNSAFE] * len(rows[5::31])
    return rows


def test_kill_9_then_rerun_ends_with_the_same_bytes(tmp_path):
    rows = made_up_rows(400)
    fresh = job(write(tmp_path / "in.jsonl", *rows), shard_rows=10)
    whole = filter_rows(fresh, FAKE)
    expected = outputs(fresh)

    (tmp_path / "killed").mkdir()
    wanted = job(write(tmp_path / "killed" / "in.jsonl", *rows), shard_rows=10)
    command = [sys.executable, "-m", "guard", "filter", str(wanted.inputs[0]), str(wanted.out)]
    command += ["--model", "fake", "--policy", "minimal", "--shard-rows", "10"]
    for _ in range(5):  # should a busy machine let the job finish before it is killed
        awaited = wanted.parts / f"{random.randrange(1, 8):06d}.json"
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while process.poll() is None and not awaited.exists():
            time.sleep(0.001)
        process.kill()
        if process.wait() == -signal.SIGKILL:
            break
        wanted.out.unlink()
    assert process.returncode == -signal.SIGKILL
    assert awaited.exists()
    assert not wanted.out.exists()

    engine = SpyEngine()
    assert filter_rows(wanted, with_engine(engine)).report() == whole.report()
    assert 0 < len(engine.scored) < whole.scored
    assert outputs(wanted) == expected


@settings(max_examples=6, deadline=None)
@given(calls=st.lists(st.integers(0, 5), max_size=3))
def test_interrupted_anywhere_ends_with_the_same_bytes(calls, tmp_path_factory):
    folder = tmp_path_factory.mktemp("interrupted")
    rows = made_up_rows(40)
    fresh = job(write(folder / "in.jsonl", *rows), shard_rows=7)
    filter_rows(fresh, with_engine(MortalEngine(1000)))
    (folder / "b").mkdir()
    wanted = job(write(folder / "b" / "in.jsonl", *rows), shard_rows=7)
    for count in calls:
        try:
            filter_rows(wanted, with_engine(MortalEngine(count)))
        except KeyboardInterrupt:
            assert not wanted.out.exists()
        else:
            break
    if not wanted.out.exists():
        filter_rows(wanted, with_engine(MortalEngine(1000)))
    assert outputs(wanted) == outputs(fresh)


def interrupted(tmp_path, **options) -> Job:
    wanted = job(write(tmp_path / "in.jsonl", *made_up_rows(20)), shard_rows=5, **options)
    with pytest.raises(KeyboardInterrupt):
        filter_rows(wanted, with_engine(MortalEngine(2)))
    return wanted


def test_parts_of_other_settings_are_refused_until_restart(tmp_path):
    wanted = interrupted(tmp_path)
    for other, moderator, named in (
        (job(wanted.inputs[0], shard_rows=5, keep="all"), FAKE, "keep"),
        (job(wanted.inputs[0], shard_rows=6), FAKE, "shard_rows"),
        (wanted, dataclasses.replace(FAKE, mode="strict"), "mode"),
        (wanted, open_moderator("fake", "mlcommons"), "policy"),
    ):
        with pytest.raises(DataError, match=rf"differs in: {named} \(was .+, now .+\);.*--restart"):
            filter_rows(other, moderator)
    write(wanted.inputs[0], SAFE, SAFE)
    with pytest.raises(DataError, match=r"differs in: inputs\..*in.jsonl.bytes \(was \d+, now \d+\), .*sha256"):
        filter_rows(wanted, FAKE)
    assert filter_rows(wanted, FAKE, restart=True).kept == 2


def test_restart_leaves_a_folder_of_other_files_alone(tmp_path):
    wanted = job(write(tmp_path / "in.jsonl", SAFE))
    wanted.parts.mkdir()
    (wanted.parts / "precious").write_text("mine")
    with pytest.raises(DataError, match="not a folder of job parts"):
        filter_rows(wanted, FAKE, restart=True)
    assert (wanted.parts / "precious").read_text() == "mine"


def test_input_that_changes_under_the_job_is_an_error(tmp_path):
    wanted = job(write(tmp_path / "in.jsonl", SAFE))

    class Appending(FakeEngine):
        def score(self, windows):
            with wanted.inputs[0].open("a") as file:
                file.write(UNSAFE)
            return super().score(windows)

    with pytest.raises(DataError, match="changed during the run"):
        filter_rows(wanted, with_engine(Appending()))
    assert not wanted.out.exists()


def test_input_that_is_replaced_by_one_that_looks_alike_is_an_error(tmp_path):
    wanted = job(write(tmp_path / "in.jsonl", SAFE))

    class Replacing(FakeEngine):
        def score(self, windows):
            before = wanted.inputs[0].stat()
            wanted.inputs[0].write_text(SAFE.replace("good", "mild") + "\n")
            os.utime(wanted.inputs[0], ns=(before.st_atime_ns, before.st_mtime_ns))
            assert (wanted.inputs[0].stat().st_size, wanted.inputs[0].stat().st_mtime_ns) == (
                before.st_size,
                before.st_mtime_ns,
            )
            return super().score(windows)

    with pytest.raises(DataError, match="changed during the run"):
        filter_rows(wanted, with_engine(Replacing()))
    assert not wanted.out.exists()


@pytest.mark.parametrize("damage", ["truncated", "removed", "record truncated"])
def test_a_damaged_shard_is_redone_on_resume(damage, tmp_path):
    fresh = job(write(tmp_path / "in.jsonl", *made_up_rows(20)), shard_rows=5)
    filter_rows(fresh, with_engine(MortalEngine(1000)))
    (tmp_path / "b").mkdir()
    wanted = interrupted(tmp_path / "b")
    first, record = wanted.parts / "000000.kept", wanted.parts / "000000.json"
    assert first.stat().st_size > 1
    if damage == "truncated":
        os.truncate(first, first.stat().st_size // 2)
    elif damage == "removed":
        first.unlink()
    else:
        os.truncate(record, record.stat().st_size // 2)
    filter_rows(wanted, with_engine(MortalEngine(1000)))
    assert outputs(wanted) == outputs(fresh)


def test_a_shard_that_is_damaged_while_the_job_runs_does_not_reach_the_output(tmp_path):
    wanted = job(write(tmp_path / "in.jsonl", *made_up_rows(20)), shard_rows=5)

    def damage(*_):
        if (path := wanted.parts / "000000.kept").exists():
            os.truncate(path, 1)

    with pytest.raises(DataError, match="run again to redo the changed parts"):
        filter_rows(wanted, FAKE, progress=damage)
    assert not wanted.out.exists()
    assert filter_rows(wanted, FAKE).read == 20


def test_a_finished_output_is_replaced_only_when_that_is_asked_for(tmp_path):
    wanted = job(write(tmp_path / "in.jsonl", SAFE, UNSAFE))
    filter_rows(wanted, FAKE)
    before = outputs(wanted)
    other = dataclasses.replace(wanted, keep="all")
    for again in (wanted, other):
        with pytest.raises(DataError, match=r"out\.jsonl: already exists; give --restart to replace it, or choose"):
            filter_rows(again, FAKE)
    assert outputs(wanted) == before
    assert not wanted.parts.exists()
    assert filter_rows(other, FAKE, restart=True).kept == 2
    wanted.out.unlink()
    with pytest.raises(DataError, match=r"quarantine\.jsonl: already exists"):
        filter_rows(wanted, FAKE)


def test_a_run_that_was_killed_while_it_cleaned_up_is_finished_by_the_next(tmp_path):
    wanted = interrupted(tmp_path)
    for path in (wanted.out, wanted.quarantine, wanted.report):
        path.write_text("of the run that was killed")
    filter_rows(wanted, FAKE)
    assert json.loads(wanted.report.read_bytes())["read"] == 20


def test_two_jobs_on_one_output_at_a_time(tmp_path):
    wanted = job(write(tmp_path / "in.jsonl", SAFE))

    class Meanwhile(FakeEngine):
        def score(self, windows):
            for restart in (False, True):
                with pytest.raises(DataError, match=rf"out\.jsonl\.parts: in use by process {os.getpid()} on .+ since"):
                    filter_rows(wanted, FAKE, restart)
            return super().score(windows)

    assert filter_rows(wanted, with_engine(Meanwhile())).kept == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "in.jsonl",
        "out.jsonl",
        "out.jsonl.quarantine.jsonl",
        "out.jsonl.report.json",
    ]


def test_only_the_owner_may_read_what_quotes_rows(tmp_path):
    wanted = job(write(tmp_path / "in.jsonl", "{broken", *["{}"] * 5), shard_rows=5)
    filter_rows(wanted, FAKE)
    assert stat.S_IMODE(wanted.quarantine.stat().st_mode) == 0o600


def test_empty_input_is_no_error(tmp_path):
    wanted = job(write(tmp_path / "in.jsonl"))
    assert filter_rows(wanted, FAKE) == Tally()
    assert (wanted.out.read_bytes(), wanted.quarantine.read_bytes()) == (b"", b"")
    assert json.loads(wanted.report.read_bytes())["read"] == 0


def test_paths_that_cannot_be_are_told_before_anything_is_written(tmp_path):
    rows = write(tmp_path / "in.jsonl", SAFE)
    out, quarantine = tmp_path / "out.jsonl", tmp_path / "q.jsonl"
    os.mkfifo(tmp_path / "fifo.jsonl")
    for wanted, message in (
        (Job([tmp_path / "none.jsonl"], out, quarantine), "no such file"),
        (
            Job([tmp_path / "fifo.jsonl"], out, quarantine),
            "is a pipe; it is read more than once, so copy it to",
        ),
        (Job([rows], tmp_path / "fifo.jsonl", quarantine), "is a pipe; give the name of a regular file"),
        (Job([rows], out, Path("/dev/null")), "is a device; give the name of a regular file"),
        (Job([rows], tmp_path / "no" / "out.jsonl", quarantine), "there is no folder"),
        (Job([rows], out, tmp_path / "no" / "q.jsonl"), "there is no folder"),
        (Job([rows], rows, quarantine), "is the input .*in.jsonl, which must not be replaced"),
        (Job([rows], out, out), "two results would be written to it"),
        (Job([rows], tmp_path / "." / "out.jsonl", tmp_path / "out.jsonl.report.json"), "two results would"),
        (Job([rows], tmp_path / "out.txt", quarantine), r"unknown suffix '.txt'; allowed: .jsonl, .ndjson, .csv"),
        (
            Job([rows], tmp_path / "out.csv", quarantine),
            "is jsonl; .*out.csv must have the same format",
        ),
        (Job([rows], tmp_path / "out.parquet", quarantine), "must have the same format"),
    ):
        with pytest.raises((DataError, ConfigError), match=message):
            filter_rows(wanted, FAKE)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fifo.jsonl", "in.jsonl"]


@pytest.mark.parametrize("options", [{"keep": "good"}, {"shard_rows": 0}])
def test_job_options_are_checked(options, tmp_path):
    with pytest.raises(ConfigError):
        Job([tmp_path / "in.jsonl"], tmp_path / "out.jsonl", tmp_path / "q.jsonl", **options)


def test_progress_counts_every_row_once(tmp_path):
    wanted = interrupted(tmp_path)
    done: list[tuple[int, int]] = []
    tally = filter_rows(wanted, FAKE, progress=lambda *step: done.append(step))
    assert sum(rows for rows, _ in done) == tally.read == 20
    assert sum(unsafe for _, unsafe in done) == tally.outcomes["UNSAFE"]
