"""A judging job: what is judged by whom, and where what it writes lies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guard.annotate.labels import Labelling
from guard.annotate.pairs import Comparing
from guard.annotate.prompts import TEMPLATE_DIGEST
from guard.annotate.question import Model
from guard.digest import file_digest
from guard.errors import ConfigError, DataError
from guard.jobs.paths import check_input, check_output
from guard.jobs.rows import format_of

SUFFIXES = (".jsonl", ".ndjson")
PART_ROWS = 64  # rows that are committed together


@dataclass(frozen=True, slots=True)
class Job:
    """What to judge, by which rules, and who judges. completions: the file that caches them; None: one beside `out`."""

    source: Path
    out: Path
    rules: Labelling | Comparing
    judge: Model
    generator: Model | None = None
    completions: Path | None = None
    threads: int = 8

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise ConfigError(f"{self.threads} requests at a time cannot be; give at least 1")
        if isinstance(self.rules, Comparing):
            if self.rules.answers < 2:
                raise ConfigError(f"{self.rules.answers} answers cannot be compared; give at least 2")
            return
        if self.rules.votes < 1:
            raise ConfigError(f"{self.rules.votes} votes cannot be; give at least 1")
        if self.rules.votes > 2 and self.judge.temperature == 0:
            raise ConfigError(
                f"{self.rules.votes} votes at temperature 0 ask the same again; give 2 votes or a higher temperature"
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
    """DataError if a file is missing, in the way, or named twice."""
    check_input(job.source)
    format_of(job.source)  # an unknown one is an error
    if job.out.suffix not in SUFFIXES:
        raise DataError(f"{job.out}: unknown suffix {job.out.suffix!r}; allowed: {', '.join(SUFFIXES)}")
    for path in (job.out, job.dropped, job.quarantine, job.report):
        check_output(path)
    paths = [job.source, job.out, job.dropped, job.quarantine, job.report, job.cache]
    if len({path.resolve() for path in paths}) < len(paths):
        raise DataError(f"{job.source}: the input, the output and the files beside it must be different ones")


def settings(job: Job) -> dict[str, Any]:
    """What the output depends on, as JSON data. Where an endpoint lies is not part of it."""
    rules = job.rules
    told: dict[str, Any] = {
        "task": rules.task,
        "input_sha256": file_digest(job.source),
        "template": TEMPLATE_DIGEST,
        "policy": rules.policy.digest if rules.policy else None,
        "judge": _model(job.judge),
        "generator": job.generator and _model(job.generator),
        "part_rows": PART_ROWS,
    }
    if isinstance(rules, Comparing):
        return {**told, "criterion": rules.digest, "answers": rules.answers}
    return {**told, "votes": rules.votes}


def _model(model: Model) -> dict[str, Any]:
    return {
        "model": model.endpoint.model,
        "temperature": model.temperature,
        "max_tokens": model.max_tokens,
        "body": dict(model.endpoint.body),
    }
