"""Conversions between kinds of reward rows, without loss where the target can express it.

pairs       of a ranking (every two answers of different rank), of rated answers to one prompt (with the margin), or
            of a safe and an unsafe response to one prompt
best-worst  a ranking's best and worst answer
unpaired    KTO rows: the two sides of a pair, the answers of a ranking above and below its median, or a guard's row
guard       rows with a verdict, of rows with a label: desirable is safe

Rows that come from one prompt share that row's weight: it is divided among them.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from guard.errors import ConfigError, DataError
from guard.jobs.atomic import atomic
from guard.reward.load import read_rows
from guard.reward.row import RewardRow, plain_row

Form = Literal["pairs", "best-worst", "unpaired", "guard"]
FORMS: tuple[Form, ...] = get_args(Form)
NO_FORM = "nothing in it can become this form"
TIED = "all its answers are equally good"
ALONE = "its prompt has one answer"
Reason = str


@dataclass(slots=True)
class Account:
    """read = converted + left out + broken; `written` rows were made of the converted ones."""

    converted: int = 0
    written: int = 0
    left_out: Counter[Reason] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)

    @property
    def read(self) -> int:
        return self.converted + self.left_out.total() + len(self.broken)


def convert_file(source: Path, out: Path, form: Form, attribute: str | None = None) -> Account:
    """Writes the rows of `source` in another form to the JSONL file `out`, atomically.

    attribute: which one rates answers; None: the mean of all. DataError, and nothing is written, where a row is broken
    or no row can be converted.
    """
    if out.suffix not in (".jsonl", ".ndjson"):
        raise ConfigError(f"{out}: unknown suffix {out.suffix!r} for {form}; allowed: .jsonl, .ndjson")
    if out.resolve() == source.resolve():
        raise DataError(f"{out}: is the input; choose another file")
    account = Account()
    rows: list[RewardRow] = []
    for place, row in read_rows(source):
        if isinstance(row, RewardRow):
            rows.append(row)
        else:
            account.broken.append(f"{place}: {row}")
    if account.broken:
        raise DataError(f"{source}: {len(account.broken)} broken rows, the first: {account.broken[0]}")
    with atomic(out) as file:
        for made in converted(rows, form, account, attribute):
            file.write(json.dumps(plain_row(made), ensure_ascii=False).encode() + b"\n")
        if not account.written:
            reasons = ", ".join(f"{reason}: {count}" for reason, count in account.left_out.items())
            raise DataError(f"{source}: no row can become {form} ({reasons or 'there are no rows'})")
    return account


def converted(
    rows: Sequence[RewardRow], form: Form, account: Account, attribute: str | None = None
) -> Iterator[RewardRow]:
    """The rows in another form, counted in `account`. Single answers are compared with others to the same prompt."""
    if form in ("pairs", "best-worst"):
        singles = [row for row in rows if row.response is not None]
        for row in rows:
            if row.response is None:
                made = [row] if row.chosen is not None else pairs_of_ranking(row, form == "best-worst")
                yield from _counted(made or (TIED if row.rank else NO_FORM), account)
        yield from _pairs_of_singles(singles, form, account, attribute)
        return
    for row in rows:
        made = unpaired(row) if form == "unpaired" else guard_rows(row)
        yield from _counted(made or (TIED if row.rank else NO_FORM), account)


def _counted(made: Sequence[RewardRow] | Reason, account: Account, rows: int = 1) -> Sequence[RewardRow]:
    if isinstance(made, str):
        account.left_out[made] += rows
        return ()
    account.converted += rows
    account.written += len(made)
    return made


# -- one row ----------------------------------------------------------------------------------------------------------


def pairs_of_ranking(row: RewardRow, extremes: bool = False) -> list[RewardRow]:
    """Every two answers of a ranking that differ in rank, or the best and the worst; none if all are equally good."""
    order = sorted(range(len(row.rank)), key=row.rank.__getitem__)
    if not order or row.rank[order[0]] == row.rank[order[-1]]:
        return []
    chosen = [(order[0], order[-1])] if extremes else list(itertools.combinations(order, 2))
    decided = [(a, b) for a, b in chosen if row.rank[a] != row.rank[b] and row.responses[a] != row.responses[b]]
    return [
        _derived(row, f"{a + 1}-{b + 1}", len(decided), chosen=row.responses[a], rejected=row.responses[b])
        for a, b in decided
    ]


def unpaired(row: RewardRow) -> list[RewardRow]:
    """Single answers with a label: of a pair, of a ranking by its median, or of a row with a verdict."""
    if row.response is not None:
        label = row.label if row.label is not None else None if row.verdict is None else row.verdict == "safe"
        return [] if label is None else [dataclasses.replace(row, label=label)]
    if row.chosen is not None:
        sides = ((row.chosen, True, row.chosen_critique), (row.rejected, False, row.rejected_critique))
        return [
            _derived(row, "chosen" if label else "rejected", 2, response=text, label=label, critique=critique)
            for text, label, critique in sides
        ]
    if not row.rank:
        return []
    middle = statistics.median(row.rank)
    decided = [(index, rank < middle) for index, rank in enumerate(row.rank) if rank != middle]
    return [
        _derived(row, str(index + 1), len(decided), response=row.responses[index], label=label)
        for index, label in decided
    ]


def guard_rows(row: RewardRow) -> list[RewardRow]:
    """A row with the verdict that its label stands for. A row that has a verdict stays as it is."""
    if row.response is None or (row.label is None and row.verdict is None):
        return []
    return [row if row.verdict is not None else dataclasses.replace(row, verdict="safe" if row.label else "unsafe")]


def _derived(row: RewardRow, name: str, share: int, **texts: object) -> RewardRow:
    keep = {key: getattr(row, key) for key in ("prompt", "subset", "source", "opinions")}
    group = row.group or row.id
    return RewardRow(id=f"{row.id}/{name}", group=group, weight=row.weight / share, **keep, **texts)  # type: ignore[arg-type]


# -- rows of one prompt -----------------------------------------------------------------------------------------------


def _pairs_of_singles(
    rows: Sequence[RewardRow], form: Form, account: Account, attribute: str | None
) -> Iterator[RewardRow]:
    prompts: dict[str, list[RewardRow]] = {}
    for row in rows:
        prompts.setdefault(row.prompt_key, []).append(row)
    for group in prompts.values():
        scored = [(value, row) for row in group if (value := quality(row, attribute)) is not None]
        if missing := len(group) - len(scored):
            account.left_out[NO_FORM] += missing
        if not scored:
            continue
        if len(scored) < 2:
            account.left_out[ALONE] += 1
            continue
        yield from _counted(pairs_of_rated(scored, form == "best-worst") or TIED, account, len(scored))


def quality(row: RewardRow, attribute: str | None = None) -> float | None:
    """How good a single answer is: its attribute, the mean of all, its verdict or its label; None if nothing says."""
    if attribute is not None:
        return row.attributes.get(attribute)
    if row.attributes:
        return statistics.fmean(row.attributes.values())
    if row.verdict is not None:
        return float(row.verdict == "safe")
    return None if row.label is None else float(row.label)


def pairs_of_rated(scored: Sequence[tuple[float, RewardRow]], extremes: bool = False) -> list[RewardRow]:
    """Pairs of rated answers to one prompt, each with the difference of their ratings as its margin."""
    order = sorted(scored, key=lambda each: -each[0])
    candidates = [(order[0], order[-1])] if extremes else itertools.combinations(order, 2)
    decided = [(a, b) for a, b in candidates if a[0] > b[0] and a[1].response != b[1].response]
    weight = statistics.fmean(row.weight for _, row in scored)
    return [
        RewardRow(
            id=f"{better.id}>{worse.id}",
            prompt=better.prompt,
            chosen=better.response,
            rejected=worse.response,
            chosen_critique=better.critique,
            rejected_critique=worse.critique,
            margin=high - low,
            weight=weight / len(decided),
            group=better.group or better.prompt_key,
            subset=better.subset,
            source=better.source,
        )
        for (high, better), (low, worse) in decided
    ]


# -- people and judges -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Agreement:
    """Pairs that both a person and a judge decided. kappa: Cohen's; None where both always say the same."""

    pairs: int
    agreed: float
    kappa: float | None


def agreement(rows: Iterable[RewardRow]) -> Agreement | None:
    """How often the first human and the first judge of a pair prefer the same answer; None if no pair has both."""
    votes = []
    for row in rows:
        first: Mapping[str, str | None] = {opinion.kind: opinion.prefers for opinion in reversed(row.opinions)}
        if first.get("human") and first.get("judge"):
            votes.append((first["human"], first["judge"]))
    if not votes:
        return None
    agreed = statistics.fmean(a == b for a, b in votes)
    left, right = Counter(a for a, _ in votes), Counter(b for _, b in votes)
    chance = sum(left[side] * right[side] for side in left) / len(votes) ** 2
    return Agreement(len(votes), agreed, None if chance == 1 else (agreed - chance) / (1 - chance))
