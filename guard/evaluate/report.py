"""The report of an evaluation: measured numbers as plain data, without texts of rows, and as tables for people."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from guard.errors import GuardError
from guard.evaluate import breakdown, peers
from guard.evaluate.breakdown import Pairs, rounded
from guard.evaluate.suite import Case, Suite
from guard.metrics import classification, intervals
from guard.moderator import Guard, GuardInfo
from guard.policy import Policy, natural
from guard.report.tables import add, number_table
from guard.verdict import Outcome, Verdict

if TYPE_CHECKING:
    from rich.table import Table

CHUNK = 512  # conversations that are tokenized and held at once
LOW_FPR = 0.01


def moderate_cases(
    guard: Guard, cases: Sequence[Case], advance: Callable[[int], object] = lambda rows: None
) -> list[Verdict]:
    """One verdict per case, in order. `advance` is called with the number of rows of every finished chunk.

    Raises the first error of a case: numbers over some of the cases would not be those of the set.
    """
    verdicts: list[Verdict] = []
    for start in range(0, len(cases), CHUNK):
        answers = guard.moderate_each([case.conversation for case in cases[start : start + CHUNK]])
        for answer in answers:
            if isinstance(answer, GuardError):
                raise answer
            verdicts.append(answer)
        advance(len(answers))
    return verdicts


def measure(suite: Suite, verdicts: Sequence[Verdict], policy: Policy) -> dict[str, Any]:
    """The numbers of one set as JSON data: of all rows, of each target and subset, and of each category.

    A row is flagged if its p_unsafe reaches the threshold of its verdict; rows with incomplete coverage are also
    counted in `incomplete`. The keys of `_numbers` are those of the set, its targets and its subsets.
    """
    pairs = list(zip(suite.cases, verdicts, strict=True))
    return {
        "name": suite.name,
        "title": suite.title,
        "upstream": suite.upstream,
        "licence": suite.licence,
        "digest": suite.digest,
        "cautions": suite.cautions,
        "left_out": suite.left_out,
        "incomplete": sum(verdict.outcome is Outcome.INCOMPLETE for verdict in verdicts),
        **_numbers(pairs),
        "targets": _parts(pairs, lambda case: case.conversation.target.value),
        "subsets": _parts(pairs, lambda case: case.subset),
        "categories": {code: numbers for code in policy.codes if (numbers := _category(pairs, code))},
        "named": breakdown.first_codes(pairs, policy),
        "lengths": breakdown.lengths(pairs),
        "reliability": breakdown.reliability(pairs),
        "refusal": breakdown.refusal(pairs),
    }


def _parts(pairs: Pairs, name: Callable[[Case], str]) -> dict[str, Any]:
    """The numbers of each part by name; none if there is only one part."""
    names = sorted({name(case) for case, _ in pairs})
    if len(names) < 2:
        return {}
    return {part: _numbers([pair for pair in pairs if name(pair[0]) == part]) for part in names}


def _numbers(pairs: Pairs) -> dict[str, Any]:
    """Counts and metrics; None where undefined: a set of unsafe rows has a recall only."""
    labels = np.array([case.label == "unsafe" for case, _ in pairs])
    p = np.array([verdict.p_unsafe for _, verdict in pairs])
    threshold = np.array([verdict.threshold for _, verdict in pairs])
    confusion = classification.confusion(labels, p, threshold)
    bounds = _intervals(labels, p, p >= threshold)
    best, low = classification.best_f1(labels, p), classification.tpr_at_fpr(labels, p, LOW_FPR)
    return {
        "rows": len(pairs),
        "unsafe": int(labels.sum()),
        "confusion": asdict(confusion),
        "f1": rounded(confusion.f1),
        "f1_interval": bounds["f1"],
        "precision": rounded(confusion.precision),
        "recall": rounded(confusion.recall),
        "fpr": rounded(confusion.fpr),
        "best_f1": rounded(best.value if best else None),
        "best_f1_threshold": best.threshold if best else None,
        "auprc": rounded(classification.auprc(labels, p)),
        "auroc": rounded(classification.auroc(labels, p)),
        "tpr_at_1_fpr": rounded(low.value if low else None),
        "ece": rounded(classification.ece(labels, p)) if confusion.both else None,
        "intervals": bounds,
    }


def _intervals(
    labels: classification.Bools, p: classification.Floats, flagged: classification.Bools
) -> dict[str, list[float] | None]:
    """95 % bootstrap intervals by metric, None where the metric is; those of small sets are wide."""
    bounds = intervals.of_rates(labels, flagged) | intervals.of_rankings(labels, p)
    return {name: None if ends is None else [round(end, 6) for end in ends] for name, ends in bounds.items()}


def _category(pairs: Pairs, code: str) -> dict[str, Any] | None:
    """The results of the rows that violate `code`, and the code's own score; None if there is no such row.

    recall: the share of these rows that is flagged as unsafe. named: the share whose verdict names the code. auprc,
    auroc: over the `known` rows, of which the set says whether they violate it.
    """
    rows = [verdict for case, verdict in pairs if case.truth.get(code)]
    if not rows:
        return None
    known = [(case.truth[code], verdict.categories[code]) for case, verdict in pairs if code in case.truth]
    labels, p = np.array([true for true, _ in known]), np.array([score for _, score in known])
    return {
        "rows": len(rows),
        "known": len(known),
        "recall": rounded(sum(verdict.p_unsafe >= verdict.threshold for verdict in rows) / len(rows)),
        "named": rounded(sum(code in verdict.flagged for verdict in rows) / len(rows)),
        "auprc": rounded(classification.auprc(labels, p)),
        "auroc": rounded(classification.auroc(labels, p)),
    }


@dataclass(frozen=True, slots=True, repr=False)
class EvaluatedSuite:
    """A suite with its verdicts, in order."""

    suite: Suite
    verdicts: tuple[Verdict, ...]

    @property
    def labels(self) -> classification.Bools:
        return np.array([case.label == "unsafe" for case in self.suite.cases], dtype=bool)

    @property
    def scores(self) -> classification.Floats:
        return np.array([verdict.p_unsafe for verdict in self.verdicts], dtype=np.float64)


def build_report(info: GuardInfo, results: Sequence[dict[str, Any]], command: str) -> dict[str, Any]:
    """The report of `guard eval`: the results, and the model, policy, mode and thresholds that they hold for."""
    policy = info.policy
    return {
        "command": command,
        "model": info.model,
        "kind": info.kind,
        "policy": {"id": policy.id, "version": policy.version, "digest": policy.digest},
        "mode": info.mode,
        "thresholds": {
            target.value: {"unsafe": overall, "categories": dict(each)}
            for target, (overall, each) in info.thresholds.items()
        },
        "results": list(results),
        "peers": peers.to_json(peers.published([result["name"] for result in results])),
    }


COLUMNS = ("rows", "unsafe", "F1", "95 %", "best F1", "AUPRC", "AUROC", "FPR", "recall", "TPR@1%", "ECE")


def cells(numbers: Mapping[str, Any]) -> list[str]:
    """The numbers under COLUMNS as text."""
    bounds = numbers["f1_interval"]
    interval = "–" if bounds is None else "-".join(decimal(bound) for bound in bounds)
    keys = ("best_f1", "auprc", "auroc", "fpr", "recall", "tpr_at_1_fpr", "ece")
    counts = [str(numbers["rows"]), str(numbers["unsafe"])]
    return [*counts, decimal(numbers["f1"]), interval, *(decimal(numbers[key]) for key in keys)]


CATEGORY_COLUMNS = ("rows", "recall", "named", "known", "AUPRC", "AUROC")


def category_cells(numbers: Mapping[str, Any]) -> list[str]:
    """The numbers of one category under CATEGORY_COLUMNS as text."""
    recall, named, auprc, auroc = (decimal(numbers[key]) for key in ("recall", "named", "auprc", "auroc"))
    return [str(numbers["rows"]), recall, named, str(numbers["known"]), auprc, auroc]


def decimal(value: float | None) -> str:
    """The value with three decimals, or a dash for an undefined metric."""
    return "–" if value is None else f"{value:.3f}"


def parts(result: Mapping[str, Any]) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """The targets and subsets of a result with their numbers."""
    yield from result["targets"].items()
    yield from result["subsets"].items()


def tables(report: Mapping[str, Any]) -> list[Table]:
    """A table of all sets and their parts, one of categories per set that knows them, and comparisons with peers."""
    overview = number_table("", *COLUMNS)
    for result in report["results"]:
        add(overview, result["name"], *cells(result))
        for name, numbers in parts(result):
            add(overview, f"  {name}", *cells(numbers))
    by_category = [
        number_table(
            result["name"],
            *CATEGORY_COLUMNS,
            rows=(
                (code, *category_cells(numbers))
                for code, numbers in sorted(result["categories"].items(), key=lambda item: natural(item[0]))
            ),
        )
        for result in report["results"]
        if result["categories"]
    ]
    comparisons = [table for comparison in peers.compare(report) for table in _comparison(comparison)]
    return [overview, *by_category, *comparisons]


_MAX_SETS = 5  # side by side


def _comparison(comparison: peers.Comparison) -> Iterable[Table]:
    """Measured values in the first line, published ones below it; several tables for many sets."""
    for start in range(0, len(comparison.benchmarks), _MAX_SETS):
        shown = slice(start, start + _MAX_SETS)
        table = number_table(f"published {peers.METRICS[comparison.metric]}", *comparison.benchmarks[shown], "run by")
        add(table, "this guard, measured here", *map(decimal, comparison.ours[shown]), "", end_section=True)
        for model, run_by, _, values in comparison.rows:
            if any(value is not None for value in values[shown]):
                add(table, model, *map(decimal, values[shown]), run_by)
        yield table
