"""Published scores of other guards (`taxonomy/peers`), shown beside measured ones and never mixed with them."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from guard import assets, schema
from guard.errors import ConfigError
from guard.evaluate.benchmarks import BENCHMARKS

_FOLDER = "taxonomy/peers"
Metric = Literal["f1", "best_f1", "fpr", "auprc", "auroc", "refusal_f1"]
METRICS: dict[Metric, str] = {
    "f1": "F1",
    "best_f1": "best F1",
    "fpr": "FPR",
    "auprc": "AUPRC",
    "auroc": "AUROC",
    "refusal_f1": "F1 of refusals",
}


@dataclass(frozen=True, slots=True)
class Table:
    """A published table: values in percent by model, one per benchmark, null where it has none."""

    __pydantic_config__ = schema.STRICT

    metric: Metric
    benchmarks: tuple[str, ...]
    models: dict[str, tuple[float | None, ...]]

    def __post_init__(self) -> None:
        if unknown := [name for name in self.benchmarks if name not in BENCHMARKS]:
            raise schema.Misplaced(f"no benchmark {unknown[0]!r}; available: {', '.join(BENCHMARKS)}", "benchmarks")
        for model, values in self.models.items():
            if len(values) != len(self.benchmarks):
                raise schema.Misplaced(
                    f"has {len(values)} values for {len(self.benchmarks)} benchmarks", "models", model
                )
            if any(value is not None and not 0 <= value <= 100 for value in values):
                raise schema.Misplaced("has a value that is not a percentage", "models", model)


@dataclass(frozen=True, slots=True)
class Publication:
    """The publication of tables, and who ran the models. `transcribed`: not taken from the publication itself."""

    __pydantic_config__ = schema.STRICT

    source: str
    url: str
    run_by: str
    evidence: Literal["primary", "transcribed"]
    tables: tuple[Table, ...]


@dataclass(frozen=True, slots=True)
class Score:
    """One published number, in [0, 1]."""

    benchmark: str
    model: str
    metric: Metric
    value: float
    run_by: str
    source: str
    url: str
    evidence: str


def published(benchmarks: Collection[str]) -> list[Score]:
    """The published scores on these benchmarks, in their order, then by source and model."""
    order = {name: index for index, name in enumerate(benchmarks)}
    return sorted((score for score in _shipped() if score.benchmark in order), key=lambda score: order[score.benchmark])


@functools.cache
def _shipped() -> tuple[Score, ...]:
    paths = [assets.asset(f"{_FOLDER}/{name}.yaml") for name in assets.names(_FOLDER, ".yaml")]
    return tuple(score for path in paths for score in scores(schema.load(path, Publication, ConfigError)))


def scores(publication: Publication) -> list[Score]:
    return [
        Score(
            benchmark,
            model,
            table.metric,
            round(value / 100, 6),
            publication.run_by,
            publication.source,
            publication.url,
            publication.evidence,
        )
        for table in publication.tables
        for model, values in table.models.items()
        for benchmark, value in zip(table.benchmarks, values, strict=True)
        if value is not None
    ]


def to_json(scores: Iterable[Score]) -> list[dict[str, Any]]:
    return [asdict(score) for score in scores]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Published scores of one metric: a row per model and who ran it, a column per benchmark.

    ours: the measured values in the same columns. rows: those of others, None where a publication has none.
    """

    metric: Metric
    benchmarks: tuple[str, ...]
    ours: tuple[float | None, ...]
    rows: tuple[tuple[str, str, str, tuple[float | None, ...]], ...]  # model, run by, source, values


def compare(report: Mapping[str, Any]) -> list[Comparison]:
    """The published scores of a report beside its own, metric by metric."""
    results = {result["name"]: result for result in report["results"]}
    scores: Sequence[Mapping[str, Any]] = report.get("peers", ())
    comparisons = []
    for metric in METRICS:
        of_metric = [score for score in scores if score["metric"] == metric and score["benchmark"] in results]
        benchmarks = tuple(dict.fromkeys(score["benchmark"] for score in of_metric))
        rows: dict[tuple[str, str, str], dict[str, float]] = {}
        for score in of_metric:
            key = (score["model"], score["run_by"], score["source"])
            rows.setdefault(key, {})[score["benchmark"]] = score["value"]
        if rows:
            comparisons.append(
                Comparison(
                    metric,
                    benchmarks,
                    tuple(comparable(results[name], metric) for name in benchmarks),
                    tuple((*key, tuple(row.get(name) for name in benchmarks)) for key, row in sorted(rows.items())),
                )
            )
    return comparisons


def comparable(result: Mapping[str, Any], metric: Metric) -> float | None:
    """The measured value that is comparable to published ones.

    Published F1 scores of sets without safe rows assume a precision of 1, so they are 2r / (1 + r) for a recall r.
    """
    if metric == "refusal_f1":
        refusal = result.get("refusal")
        return refusal["f1"] if refusal else None
    if metric in ("f1", "best_f1") and result["rows"] == result["unsafe"]:
        recall: float = result["recall"]
        return round(2 * recall / (1 + recall), 6) if metric == "f1" else None
    value: float | None = result[metric]
    return value
