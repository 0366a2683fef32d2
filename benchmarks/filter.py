"""`guard filter` against `datasets.map` with a transformers pipeline over the same weights, in one run on one machine.

The rows are real and of mixed length, all different: prompts of GRTrain and instructions with their answers of
GPTeacher. The peer is what a data team writes first: `Dataset.map(batched=True, batch_size=32)` around
`pipeline("text-classification")` in fp32, in batches of 32 in the order of the rows, padded to the longest, cut at 512
tokens; once more with long rows in pieces, so that it reads all of them, as the filter does; and one row at a time,
which pads nothing. Its classifier is the guard's encoder under a linear layer; the guard's own head costs more.

Every leg has one thread for its model and is measured in CPU seconds, so that other work on the machine does not count;
all are run in turn, `--rounds` times, and the best of each counts. Ray's actors are processes of their own, so that leg
and its local counterpart are measured by the clock.

    python benchmarks/filter.py DATA [--parts speed resume memory ray] [--items N] [--rounds N] …

DATA is the folder of `raw/`. Each part replaces its own numbers in `results/filter.json`; the guide's tables and its
cost model are made of all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - Ray's spelling; its default gives way to all other work

from page import publish

from guard.filter.job import Job
from guard.filter.run import filter_rows
from guard.moderator import Moderator, open_moderator

RESULTS = Path(__file__).parent / "results" / "filter.json"
PAGE = Path(__file__).parents[1] / "docs" / "filtering.md"
MINI = Path(__file__).parents[1] / "guard" / "_assets" / "bundles" / "mini-en"
PARTS = ("speed", "resume", "memory", "ray")
PEER, PEER_BATCH, PEER_TOKENS = "map + pipeline, batches of 32", 32, 512
WORDS_AND_BULK = (40, 100_000)  # words of a row of the memory part, and characters of its other column
DOCUMENTS = 1e9  # of the cost model
CORE_HOUR = 0.04  # dollars; about what a core of a general cloud machine costs on demand


def real_rows(data: Path, items: int) -> list[str]:
    texts = []
    for name in ("grtrain_aegis", "grtrain_wildguard"):
        with (data / "raw" / name / f"{name}.jsonl").open(encoding="utf-8") as file:
            texts += [json.loads(line)["prompt"] for line in file]
    for path in sorted((data / "raw" / "gpteacher").glob("*/*.json")):
        for row in json.loads(path.read_text(encoding="utf-8")):
            texts.append("\n".join(filter(None, (row.get(key, "") for key in ("instruction", "input", "response")))))
    different = sorted({text for text in texts if text.strip()})
    random.Random(0).shuffle(different)
    return different[:items]


def write(folder: Path, texts: list[str]) -> Job:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    with (folder / "in.jsonl").open("w", encoding="utf-8") as file:
        for number, text in enumerate(texts):
            file.write(json.dumps({"id": number, "prompt": text}) + "\n")
    return Job([folder / "in.jsonl"], folder / "out.jsonl", folder / "q.jsonl", annotate=True, shard_rows=len(texts))


def timed(work: Callable[[], object], clock: Callable[[], float] = time.process_time) -> float:
    started = clock()
    work()
    return clock() - started


# -- speed ------------------------------------------------------------------------------------------------------------


def speed(data: Path, items: int, rounds: int, work: Path) -> dict:
    texts = real_rows(data, items)
    half = texts[: items // 2]
    seconds: dict[str, list[float]] = {}

    def note(leg: str, value: float) -> None:
        seconds.setdefault(leg, []).append(value)
        print(f"{leg}: {value:.1f} s", file=sys.stderr, flush=True)

    with open_moderator(threads=1) as guard:
        guard.engine.warm()
        for _ in range(rounds):
            note("engine alone", engine_alone(guard, texts))
            job = write(work, texts)
            note("guard filter", timed(lambda job=job: filter_rows(job, guard)))
            job = write(work, [*half, *half])
            note("guard filter, half of the rows repeated", timed(lambda job=job: filter_rows(job, guard)))
            note(PEER, with_pipeline(write(work, texts), PEER_BATCH))
            note(f"{PEER}, long rows in pieces", with_pipeline(write(work, texts), PEER_BATCH, in_pieces=True))
            note("map + pipeline, row by row", with_pipeline(write(work, texts), 1))
        model = guard.info.model
    best = {leg: min(values) for leg, values in seconds.items()}
    ours = best["guard filter"]
    return {
        "model": model,
        "rows": len(texts),
        "characters": {"mean": sum(map(len, texts)) / len(texts), "longest": max(map(len, texts))},
        "cpu_seconds": seconds,
        "rows_per_cpu_second": {leg: len(texts) / value for leg, value in best.items()},
        "ratios": {
            "to map + pipeline, batches of 32": best[PEER] / ours,
            "to the same, long rows in pieces": best[f"{PEER}, long rows in pieces"] / ours,
            "to map + pipeline, row by row": best["map + pipeline, row by row"] / ours,
            "to the engine alone": best["engine alone"] / ours,
            "half of the rows repeated, to none": ours / best["guard filter, half of the rows repeated"],
        },
    }


def engine_alone(guard: Moderator, texts: list[str]) -> float:
    """Scoring of windows that are tokenized already, all in one call: what no filter can be faster than."""
    from guard.conversation import Conversation
    from guard.views.tokenize import tokenize

    windows = [
        window for text in texts for window in tokenize(guard.engine, Conversation.of(text), guard.policy).windows
    ]
    return timed(lambda: guard.engine.score(windows))


def with_pipeline(job: Job, batch: int, in_pieces: bool = False) -> float:
    import datasets
    import torch
    from transformers import BertForSequenceClassification, PreTrainedTokenizerFast, pipeline

    from guard.train.encoder import model as encoder

    datasets.disable_progress_bars()
    torch.set_num_threads(1)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(MINI / "tokenizer.json"),
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=PEER_TOKENS,
    )
    trained = encoder.load(MINI).encoder
    model = BertForSequenceClassification(trained.config).eval()
    model.bert.load_state_dict(trained.state_dict(), strict=False)  # all but the pooler, which the guard has not
    ready = pipeline("text-classification", model=model, tokenizer=tokenizer, device="cpu")
    rows = datasets.Dataset.from_json(str(job.inputs[0]), cache_dir=str(job.out.parent / "cache"))

    def pieces(text: str) -> list[str]:
        cut = tokenizer(
            text,
            truncation=True,
            max_length=PEER_TOKENS - 2,
            add_special_tokens=False,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        return [text[offsets[0][0] : offsets[-1][1]] for offsets in cut["offset_mapping"]]

    def scored(rows: dict) -> dict:
        whole = [pieces(text) if in_pieces else [text] for text in rows["prompt"]]
        flat = [piece for each in whole for piece in each]
        answers = iter(ready(flat, batch_size=batch, padding=True, truncation=True, max_length=PEER_TOKENS))
        return {"score": [max(next(answers)["score"] for _ in each) for each in whole]}

    return timed(lambda: rows.map(scored, batched=True, batch_size=PEER_BATCH, load_from_cache_file=False))


# -- resume -----------------------------------------------------------------------------------------------------------


def resume(data: Path, items: int, rounds: int, work: Path) -> dict:
    """A command on one core that is killed (SIGKILL) when half of its CPU time is spent, and started again."""
    texts = real_rows(data, items)
    seconds: dict[str, list[float]] = {"start": [], "whole": [], "killed": [], "resumed": []}
    for _ in range(rounds):
        seconds["start"].append(command(write(work, texts[:1])))
        job = write(work, texts)
        seconds["whole"].append(command(job))
        whole = job.out.read_bytes()
        job = write(work, texts)
        half = (seconds["start"][-1] + seconds["whole"][-1]) / 2
        seconds["killed"].append(command(job, kill_after=half))
        seconds["resumed"].append(command(job))
        if job.out.read_bytes() != whole:
            raise SystemExit("the resumed run wrote other bytes")
        print({name: round(values[-1], 2) for name, values in seconds.items()}, file=sys.stderr, flush=True)
    added = [
        (killed + resumed - start) / whole - 1 for start, whole, killed, resumed in zip(*seconds.values(), strict=True)
    ]
    return {
        "rows": len(texts),
        "cpu_seconds": seconds,
        "added_beside_the_start": statistics.median(added),
        "start_of_a_process": statistics.median(seconds["start"]) / statistics.median(seconds["whole"]),
    }


def command(job: Job, kill_after: float | None = None) -> float:
    """The CPU seconds of `guard filter` on one core, until it ends or has used so many."""
    line = [sys.executable, "-m", "guard", "filter", str(job.inputs[0]), str(job.out), "--annotate", "--no-report"]
    core = min(os.sched_getaffinity(0))
    process = subprocess.Popen(
        line, stdout=subprocess.DEVNULL, preexec_fn=lambda: os.sched_setaffinity(0, {core}), process_group=0
    )
    while kill_after is not None and used(process.pid) < kill_after:
        time.sleep(0.05)
    if kill_after is not None:
        process.send_signal(signal.SIGKILL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != (0 if kill_after is None else -signal.SIGKILL):
        raise SystemExit(f"{' '.join(line)} ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime


def used(process: int) -> float:
    """The CPU seconds of a running process."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# -- memory -----------------------------------------------------------------------------------------------------------


def memory(sizes: list[float], work: Path) -> dict:
    """The peak of a process's memory by the size of its input. The engine is the fake one, since memory beside the
    model is what is asked for; rows have a short text and a long other column, which is read and written, too."""
    from texts import made_up

    words, bulk = WORDS_AND_BULK
    peaks = {}
    for gigabytes in sizes:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        with (work / "in.jsonl").open("w", encoding="utf-8") as file:
            for number, text in enumerate(made_up(int(gigabytes * 1e9 / bulk), words)):
                file.write(json.dumps({"prompt": text, "page": f"{number:010}" * (bulk // 10)}) + "\n")
        line = [sys.executable, "-m", "guard", "filter", str(work / "in.jsonl"), str(work / "out.jsonl")]
        process = subprocess.Popen([*line, "--annotate", "--no-report", "--model", "fake"], stdout=subprocess.DEVNULL)
        peak = 0.0
        while process.poll() is None:
            peak = max(peak, resident_peak(process.pid))
            time.sleep(0.05)
        if process.returncode:
            raise SystemExit(f"{' '.join(line)} ended with {process.returncode}")
        peaks[f"{gigabytes:g}"] = peak
        print(f"{gigabytes:g} GB: {peaks[f'{gigabytes:g}']:.0f} MiB", file=sys.stderr, flush=True)
    return {"peak_mib_by_gigabytes": peaks, "largest_to_smallest": max(peaks.values()) / min(peaks.values())}


def resident_peak(process: int) -> float:
    """The most MiB that a running process has had in memory; 0 while it ends. (What wait4 says counts its parent.)"""
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    except FileNotFoundError:
        return 0.0
    peak = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(peak[1]) / 1024 if peak else 0.0


# -- Ray --------------------------------------------------------------------------------------------------------------


def on_ray(data: Path, items: int, rounds: int, work: Path) -> dict:
    """The same job by one actor and by one thread here, one after the other, with the same bytes."""
    from guard.filter.ray import RayGuard

    texts = real_rows(data, items)
    seconds: dict[str, list[float]] = {"local": [], "Ray": []}
    outputs = set()
    with RayGuard(actors=1) as cluster, open_moderator(threads=1) as guard:
        assert cluster.info
        for _ in range(rounds):
            for leg, judge in (("local", guard), ("Ray", cluster)):
                job = write(work, texts)
                run = timed(lambda job=job, judge=judge: filter_rows(job, judge), time.perf_counter)
                seconds[leg].append(run)
                outputs.add(job.out.read_bytes())
                print(f"{leg}: {run:.1f} s by the clock", file=sys.stderr, flush=True)
    if len(outputs) > 1:
        raise SystemExit("the outputs differ")
    return {
        "rows": len(texts),
        "clock_seconds": seconds,
        "ray_to_local": min(seconds["local"]) / min(seconds["Ray"]),
    }


# -- page -------------------------------------------------------------------------------------------------------------


def tables(results: dict) -> str:
    lines: list[str] = []
    if part := results.get("speed"):
        lines += [
            f"`{part['command']}`: {part['rows']} different rows of {part['characters']['mean']:.0f} characters on "
            f"average, up to {part['characters']['longest']:,}; one thread; {part['machine']}.",
            "",
            "| | CPU seconds | rows per CPU second |",
            "|---|---|---|",
            *(
                f"| {leg} | {min(values):.1f} | {part['rows_per_cpu_second'][leg]:.1f} |"
                for leg, values in part["cpu_seconds"].items()
            ),
            "",
            "| rows/s of `guard filter` | |",
            "|---|---|",
            *(f"| {name} | {value:.2f} |" for name, value in part["ratios"].items()),
            "",
        ]
    if part := results.get("resume"):
        seconds = {name: statistics.median(values) for name, values in part["cpu_seconds"].items()}
        lines += [
            f"**Killed half-way** (`{part['command']}`, {part['rows']} rows on one core): {seconds['whole']:.1f} CPU "
            f"seconds in one run; {seconds['killed']:.1f} until SIGKILL and {seconds['resumed']:.1f} after it, with "
            f"the same bytes. That is {part['added_beside_the_start']:+.1%} beside the start of the second process "
            f"({seconds['start']:.1f} s, {part['start_of_a_process']:.1%}).",
            "",
        ]
    if part := results.get("memory"):
        peaks = ", ".join(f"{mib:.0f} MiB at {size} GB" for size, mib in part["peak_mib_by_gigabytes"].items())
        lines += [
            f"**Memory** (`{part['command']}`, made-up rows of 100 kB, no model): a peak of {peaks}; the largest is "
            f"{part['largest_to_smallest']:.2f} of the smallest.",
            "",
        ]
    if part := results.get("ray"):
        lines += [
            f"**Ray** (`{part['command']}`, {part['rows']} rows, one actor): {part['ray_to_local']:.0%} of the rows "
            "per second of a local run, by the clock, with the same bytes.",
            "",
        ]
    return "\n".join(lines).rstrip()


def cost(rows_per_cpu_second: float) -> dict[str, float]:
    """Of `DOCUMENTS` on cores like the measured one."""
    hours = DOCUMENTS / rows_per_cpu_second / 3600
    return {"core_hours": hours, "hours_on_1000_cores": hours / 1000, "dollars": hours * CORE_HOUR}


def cost_table(results: dict) -> str:
    rates = results["speed"]["rows_per_cpu_second"]
    lines = [
        f"| {DOCUMENTS:,.0f} rows | rows/s and core | core-hours | hours on 1,000 cores | ${CORE_HOUR} a core-hour |",
        "|---|---|---|---|---|",
    ]
    for leg in ("guard filter", PEER, "map + pipeline, row by row"):
        made = cost(rates[leg])
        lines.append(
            f"| {leg} | {rates[leg]:.1f} | {made['core_hours']:,.0f} | {made['hours_on_1000_cores']:.1f} | "
            f"${made['dollars']:,.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=["speed", "resume", "memory"])
    parser.add_argument("--items", type=int, default=64, help="rows of the speed and ray parts")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--resume-items", type=int, default=3000)
    parser.add_argument("--resume-rounds", type=int, default=1)
    parser.add_argument("--gigabytes", type=float, nargs="+", default=[0.25, 0.5, 1])
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder) / "job"
        measure = {
            "speed": lambda: speed(given.data, given.items, given.rounds, work),
            "resume": lambda: resume(given.data, given.resume_items, given.resume_rounds, work),
            "memory": lambda: memory(given.gigabytes, work),
            "ray": lambda: on_ray(given.data, given.items, given.rounds, work),
        }
        for name in given.parts:
            measured = {
                "command": " ".join(["python", "benchmarks/filter.py", "DATA", *sys.argv[2:]]),
                "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
                "load": os.getloadavg()[0],
                **measure[name](),
            }
            results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
            results[name] = measured
            RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    publish(PAGE, "speed", tables(results))
    if "speed" in results:
        publish(PAGE, "cost", cost_table(results))


if __name__ == "__main__":
    main()
