"""The report of an evaluation: measured numbers as plain data (no text of any row), and as tables for people."""

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
from guard.verdict import Outcome, Verdict

if TYPE_CHECKING:
    from rich.table import Table

CHUNK = 512  # conversations that are tokenised and held at once
LOW_FPR = 0.01


def judge(guard: Guard, cases: Sequence[Case], advance: Callable[[int], object] = lambda rows: None) -> list[Verdict]:
    """One verdict for each case, in order. `advance` is told the rows of every finished chunk.

    Raises the first error that a case meets: numbers of some of the cases would not be those of the set.
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
    """The numbers of one set, as JSON takes them: of all rows, of each target and subset, and of each category.

    A row counts as flagged where its p_unsafe reaches the threshold of its verdict; rows that could not be read whole
    are counted in `incomplete` besides. The keys of `_numbers` are those of the set, its targets and its subsets.
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
        "categories": {code: found for code in policy.codes if (found := _category(pairs, code))},
        "named": breakdown.named(pairs, policy),
        "lengths": breakdown.lengths(pairs),
        "reliability": breakdown.reliability(pairs),
        "refusal": breakdown.refusal(pairs),
    }


def _parts(pairs: Pairs, name: Callable[[Case], str]) -> dict[str, Any]:
    """The numbers of each part by its name, if there is more than one part."""
    names = sorted({name(case) for case, _ in pairs})
    if len(names) < 2:
        return {}
    return {part: _numbers([pair for pair in pairs if name(pair[0]) == part]) for part in names}


def _numbers(pairs: Pairs) -> dict[str, Any]:
    """Counts and metrics; None for what rows of one class cannot tell: sets of unsafe rows have a recall only."""
    labels = np.array([case.label == "unsafe" for case, _ in pairs])
    p = np.array([verdict.p_unsafe for _, verdict in pairs])
    cut = np.array([verdict.threshold for _, verdict in pairs])
    at = classification.confusion(labels, p, cut)
    between = _intervals(labels, p, p >= cut)
    best, low = classification.best_f1(labels, p), classification.tpr_at_fpr(labels, p, LOW_FPR)
    return {
        "rows": len(pairs),
        "unsafe": int(labels.sum()),
        "confusion": asdict(at),
        "f1": rounded(at.f1),
        "f1_interval": between["f1"],
        "precision": rounded(at.precision),
        "recall": rounded(at.recall),
        "fpr": rounded(at.fpr),
        "best_f1": rounded(best.value if best else None),
        "best_f1_threshold": best.threshold if best else None,
        "auprc": rounded(classification.auprc(labels, p)),
        "auroc": rounded(classification.auroc(labels, p)),
        "tpr_at_1_fpr": rounded(low.value if low else None),
        "ece": rounded(classification.ece(labels, p)) if at.both else None,
        "intervals": between,
    }


def _intervals(
    labels: classification.Bools, p: classification.Floats, flagged: classification.Bools
) -> dict[str, list[float] | None]:
    """95 % bootstrap intervals by metric, None where the metric is; those of small sets are wide."""
    found = intervals.of_rates(labels, flagged) | intervals.of_rankings(labels, p)
    return {name: None if ends is None else [round(end, 6) for end in ends] for name, ends in found.items()}


def _category(pairs: Pairs, code: str) -> dict[str, Any] | None:
    """How the rows that violate `code` fare, and the code's own score; None if no row does.

    recall: their share that is flagged as unsafe. named: their share whose verdict names the code. auprc, auroc: over
    the `known` rows, of which the set says whether they violate it.
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
class Judged:
    """A set with its verdicts, in order."""

    suite: Suite
    verdicts: tuple[Verdict, ...]

    @property
    def labels(self) -> classification.Bools:
        return np.array([case.label == "unsafe" for case in self.suite.cases], dtype=bool)

    @property
    def scores(self) -> classification.Floats:
        return np.array([verdict.p_unsafe for verdict in self.verdicts], dtype=np.float64)


def report(info: GuardInfo, results: Sequence[dict[str, Any]], command: str) -> dict[str, Any]:
    """What `guard eval` writes: the results, and the model, policy, mode and thresholds that they hold for."""
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
    interval = numbers["f1_interval"]
    between = "–" if interval is None else "-".join(figure(end) for end in interval)
    keys = ("best_f1", "auprc", "auroc", "fpr", "recall", "tpr_at_1_fpr", "ece")
    counts = [str(numbers["rows"]), str(numbers["unsafe"])]
    return [*counts, figure(numbers["f1"]), between, *(figure(numbers[key]) for key in keys)]


CATEGORY_COLUMNS = ("rows", "recall", "named", "known", "AUPRC", "AUROC")


def category_cells(found: Mapping[str, Any]) -> list[str]:
    """The numbers of one category under CATEGORY_COLUMNS as text."""
    recall, named, auprc, auroc = (figure(found[key]) for key in ("recall", "named", "auprc", "auroc"))
    return [str(found["rows"]), recall, named, str(found["known"]), auprc, auroc]


def figure(value: float | None) -> str:
    """Three decimals, or a dash for what the rows cannot tell."""
    return "–" if value is None else f"{value:.3f}"


def parts(result: Mapping[str, Any]) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """The targets and subsets of a result with their numbers."""
    yield from result["targets"].items()
    yield from result["subsets"].items()


def tables(report: Mapping[str, Any]) -> list[Table]:
    """A table of all sets with their parts, and one of categories for each set that knows them."""
    overview = _table("", *COLUMNS)
    for result in report["results"]:
        overview.add_row(_plain(result["name"]), *cells(result))
        for name, numbers in parts(result):
            overview.add_row(_plain(f"  {name}"), *cells(numbers))
    made = [overview]
    for result in report["results"]:
        if result["categories"]:
            table = _table(result["name"], *CATEGORY_COLUMNS)
            for code, found in sorted(result["categories"].items(), key=lambda item: natural(item[0])):
                table.add_row(_plain(code), *category_cells(found))
            made.append(table)
    return made + [table for comparison in peers.compare(report) for table in _beside(comparison)]


_WIDEST = 5  # sets side by side


def _beside(comparison: peers.Comparison) -> Iterable[Table]:
    """Measured values in the first line, published ones under it; several tables for many sets."""
    for start in range(0, len(comparison.benchmarks), _WIDEST):
        shown = slice(start, start + _WIDEST)
        table = _table(f"published {peers.METRICS[comparison.metric]}", *comparison.benchmarks[shown], "run by")
        table.add_row(_plain("this guard, measured here"), *map(figure, comparison.ours[shown]), "", end_section=True)
        for model, run_by, _, values in comparison.rows:
            if any(value is not None for value in values[shown]):
                table.add_row(_plain(model), *map(figure, values[shown]), _plain(run_by))
        yield table


def _plain(text: str) -> Any:
    from rich.text import Text

    return Text(text)  # rich would read square brackets in a name as markup


def _table(first: str, *columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(_plain(first), overflow="fold")
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table
