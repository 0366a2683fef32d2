"""An annotation job: its input, its models, and the paths of its output."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guard.annotate.labels import LabelTask
from guard.annotate.pairs import CompareTask
from guard.annotate.prompts import TEMPLATE_DIGEST
from guard.annotate.question import Model
from guard.digest import file_digest
from guard.errors import ConfigError, DataError
from guard.jobs.paths import check_input, check_output
from guard.jobs.rows import format_of

SUFFIXES = (".jsonl", ".ndjson")
PART_ROWS = 64  # rows per committed part


@dataclass(frozen=True, slots=True)
class Job:
    """The input, the task, and the models. completions: the file of cached completions; default: beside `out`."""

    source: Path
    out: Path
    task: LabelTask | CompareTask
    judge: Model
    generator: Model | None = None
    completions: Path | None = None
    threads: int = 8

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise ConfigError(f"threads must be >= 1 (got {self.threads})")
        if isinstance(self.task, CompareTask):
            if self.task.answers < 2:
                raise ConfigError(f"answers must be >= 2 (got {self.task.answers}): a comparison needs two")
            return
        if self.task.votes < 1:
            raise ConfigError(f"votes must be >= 1 (got {self.task.votes})")
        if self.task.votes > 2 and self.judge.temperature == 0:
            raise ConfigError(
                f"{self.task.votes} votes at temperature 0 repeat one request; give 2 votes or a higher temperature"
            )

    def beside(self, ending: str) -> Path:
        return self.out.with_name(f"{self.out.name}.{ending}")

    @property
    def quarantine(self) -> Path:
        return self.beside("quarantine.jsonl")

    @property
    def dropped(self) -> Path:
        return self.beside("dropped.jsonl")

    @property
    def report(self) -> Path:
        return self.beside("report.json")

    @property
    def parts(self) -> Path:
        return self.beside("parts")

    @property
    def cache(self) -> Path:
        """The cache of completions."""
        return self.completions or self.beside("completions.sqlite")


def check_paths(job: Job) -> None:
    """DataError if a file is missing, a path is a folder or used twice, or a suffix is unknown."""
    check_input(job.source)
    format_of(job.source)  # raises for an unknown suffix
    if job.out.suffix not in SUFFIXES:
        raise DataError(f"{job.out}: unknown suffix {job.out.suffix!r}; allowed: {', '.join(SUFFIXES)}")
    for path in (job.out, job.dropped, job.quarantine, job.report):
        check_output(path)
    paths = [job.source, job.out, job.dropped, job.quarantine, job.report, job.cache]
    if len({path.resolve() for path in paths}) < len(paths):
        raise DataError(f"{job.source}: the input, the output and the files beside it must be different files")


def settings(job: Job) -> dict[str, Any]:
    """The settings that the output depends on, as JSON data. The URL of an endpoint is not among them."""
    task = job.task
    result: dict[str, Any] = {
        "task": task.name,
        "input_sha256": file_digest(job.source),
        "template": TEMPLATE_DIGEST,
        "policy": task.policy.digest if task.policy else None,
        "judge": _model(job.judge),
        "generator": job.generator and _model(job.generator),
        "part_rows": PART_ROWS,
    }
    if isinstance(task, CompareTask):
        return {**result, "criterion": task.digest, "answers": task.answers}
    return {**result, "votes": task.votes}


def _model(model: Model) -> dict[str, Any]:
    return {
        "model": model.endpoint.model,
        "temperature": model.temperature,
        "max_tokens": model.max_tokens,
        "body": dict(model.endpoint.body),
    }
