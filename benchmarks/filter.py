"""`guard filter` against `datasets.map` with a transformers pipeline over the same weights, in one run on one machine.

The rows are real and of mixed length: prompts of GRTrain and instructions with their answers of GPTeacher. The pipeline
is what a data team writes first: batches in the order of the rows, padded to the longest, cut at 512 tokens; it runs
the encoder alone, without the head that compares texts with categories. Every leg has one thread for its model and is
measured in CPU seconds of its process, so that other work on the machine does not count; all are run in turn,
`--rounds` times, and the best of each counts. Ray's actors are processes of their own, so that leg and its local
counterpart are measured by the clock.

    python benchmarks/filter.py DATA [--items N] [--rounds N] [--ray]

DATA is the folder of `raw/`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
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
from guard.views.tokenize import tokenize

RESULTS = Path(__file__).parent / "results" / "filter.json"
PAGE = Path(__file__).parents[1] / "docs" / "filtering.md"
MINI = Path(__file__).parents[1] / "guard" / "_assets" / "bundles" / "mini-en"
PIPELINE_BATCHES = (1, 8, 32)


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


def engine_alone(guard: Moderator, job: Job) -> float:
    """Scoring of windows that are tokenized already, all in one call: what no filter can be faster than."""
    from guard.conversation import Conversation

    texts = [json.loads(line)["prompt"] for line in Path(job.inputs[0]).read_text(encoding="utf-8").splitlines()]
    windows = [
        window for text in texts for window in tokenize(guard.engine, Conversation.of(text), guard.policy).windows
    ]
    return timed(lambda: guard.engine.score(windows))


def with_pipeline(job: Job, batch: int) -> float:
    import datasets
    import torch
    from transformers import PreTrainedTokenizerFast, pipeline

    from guard.train.encoder import model as encoder

    datasets.disable_progress_bars()
    torch.set_num_threads(1)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(MINI / "tokenizer.json"), pad_token="[PAD]", model_max_length=512
    )
    ready = pipeline(
        "feature-extraction",
        model=encoder.load(MINI).eval().encoder,
        tokenizer=tokenizer,
        tokenize_kwargs={"truncation": True, "max_length": 512},
        return_tensors=True,
    )
    rows = datasets.Dataset.from_json(str(job.inputs[0]), cache_dir=str(job.out.parent / "cache"))

    def scored(rows: dict) -> dict:
        return {"vector": [vectors[0].mean(0).tolist() for vectors in ready(rows["prompt"], batch_size=batch)]}

    return timed(lambda: rows.map(scored, batched=True, batch_size=256, load_from_cache_file=False))


def resumed(guard: Moderator, job: Job) -> float:
    """The seconds of a run that is interrupted half-way, and of the one that finishes it."""

    def stop(*_: int) -> None:
        if len(list(job.parts.glob("*.json"))) > 2:
            raise KeyboardInterrupt

    def broken() -> None:
        try:
            filter_rows(job, guard, progress=stop)
        except KeyboardInterrupt:
            return
        raise SystemExit("the run was not interrupted; give more items")

    return timed(broken) + timed(lambda: filter_rows(job, guard))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--items", type=int, default=240)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--ray", action="store_true", help="also on a Ray cluster of this machine")
    given = parser.parse_args()
    texts = real_rows(given.data, given.items)
    half = texts[: len(texts) // 2]
    seconds: dict[str, list[float]] = {}

    def note(leg: str, value: float) -> None:
        seconds.setdefault(leg, []).append(value)
        print(f"{leg}: {value:.1f} s", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as folder, open_moderator(threads=1) as guard:
        guard.engine.warm()
        work = Path(folder) / "job"
        for _ in range(given.rounds):
            note("engine", engine_alone(guard, write(work, texts)))
            job = write(work, texts)
            note("filter", timed(lambda job=job: filter_rows(job, guard)))
            local = job.out.read_bytes()
            for batch in PIPELINE_BATCHES:
                note(f"pipeline, batch {batch}", with_pipeline(write(work, texts), batch))
            job = write(work, [*half, *half])
            note("filter, half of the rows repeated", timed(lambda job=job: filter_rows(job, guard)))
            in_parts = {"shard_rows": max(1, len(texts) // 4)}
            job = _replaced(write(work, texts), in_parts)
            note("filter, four shards", timed(lambda job=job: filter_rows(job, guard)))
            note("filter, four shards, interrupted", resumed(guard, _replaced(write(work, texts), in_parts)))
            if given.ray:
                note_ray(note, work, texts, local)
    best = {leg: min(values) for leg, values in seconds.items()}
    pipeline = min(value for leg, value in best.items() if leg.startswith("pipeline"))
    ratios = {
        "rows/s, filter to the best pipeline": pipeline / best["filter"],
        "rows/s, filter to the engine alone": best["engine"] / best["filter"],
        "rows/s, half of the rows repeated to none": best["filter"] / best["filter, half of the rows repeated"],
        "time that an interruption adds": best["filter, four shards, interrupted"] / best["filter, four shards"] - 1,
    }
    if given.ray:
        ratios["rows/s, Ray to local with the same cores"] = (
            best["filter by the clock, local"] / best["filter by the clock, Ray"]
        )
    result = {
        "command": " ".join(["python", *sys.argv[:1], "DATA", *sys.argv[2:]]),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "load": os.getloadavg()[0],
        "model": guard.info.model,
        "rows": len(texts),
        "characters": {"mean": sum(map(len, texts)) / len(texts), "longest": max(map(len, texts))},
        "seconds": seconds,
        "rows_per_second_and_core": {leg: len(texts) / value for leg, value in best.items()},
        "ratios": ratios,
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    publish(PAGE, "speed", table(result))
    print(json.dumps(ratios, indent=1))


def table(result: dict) -> str:
    lines = [
        f"`{result['command']}`: {result['rows']} rows of {result['characters']['mean']:.0f} characters on average, "
        f"up to {result['characters']['longest']:,}; CPU seconds of one thread, Ray by the clock; {result['machine']}.",
        "",
        "| | seconds | rows/s and core |",
        "|---|---|---|",
        *(
            f"| {leg} | {min(values):.1f} | {result['rows_per_second_and_core'][leg]:.1f} |"
            for leg, values in result["seconds"].items()
        ),
        "",
        "| ratio | |",
        "|---|---|",
        *(f"| {name} | {value:.2f} |" for name, value in result["ratios"].items()),
    ]
    return "\n".join(lines)


def note_ray(note: Callable[[str, float], None], work: Path, texts: list[str], local: bytes) -> None:
    """The same job by one actor and by one thread here, one after the other, with the same bytes."""
    from guard.filter.ray import RayGuard

    with RayGuard(actors=1) as cluster, open_moderator(threads=1) as guard:
        assert cluster.info
        for leg, judge in (("local", guard), ("Ray", cluster)):
            job = write(work, texts)
            note(
                f"filter by the clock, {leg}",
                timed(lambda job=job, judge=judge: filter_rows(job, judge), time.perf_counter),
            )
            if job.out.read_bytes() != local:
                raise SystemExit(f"the output of {leg} differs")


def _replaced(job: Job, changes: dict) -> Job:
    import dataclasses

    return dataclasses.replace(job, **changes)


if __name__ == "__main__":
    main()
