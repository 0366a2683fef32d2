"""The stored form of rows of rules: each text with the policy that it is judged by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from guard.data.build.config import BuildConfig
from guard.data.build.row_index import RowIndex
from guard.data.build.rules import Given, Pool, RuleRow, rule_rows
from guard.data.build.select import SPLITS, Selection
from guard.data.ingest.fingerprint import hash64
from guard.data.row import Rule
from guard.data.sources.description import Source
from guard.data.sources.topics import Topics
from guard.errors import need

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RULES = "rules"  # files of rows of rules: rules-train.parquet and so on


def code(place: int) -> str:
    """The code of the rule at a place, from 0, of a policy."""
    return f"R{place + 1}"


def rule_features() -> Any:
    """The columns of rows of rules, as `datasets.Features`; `policy` holds the rules R1, R2, … in their order."""
    datasets = need("datasets", "data")
    text = datasets.Value("string")
    named = dict.fromkeys(("label", "source", "licence", "role", "language", "kind", "cluster", "domain"), text)
    return datasets.Features(
        {
            "id": text,
            "messages": datasets.List({"role": text, "content": text}),
            "policy": datasets.List({"name": text, "definition": text}),
            "categories": datasets.List(text),
            **named,
            "weight": datasets.Value("float64"),
            "made": text,
            "instructed": datasets.Value("bool"),
            "of": text,
        }
    )


class RuleWriter:
    """Makes the stored rows of rules, batch by batch, and counts them."""

    def __init__(
        self,
        sources: Sequence[Source],
        topics: Mapping[str, Topics],
        rules: Mapping[int, Rule],
        index: RowIndex,
        selection: Selection,
        settings: BuildConfig,
    ) -> None:
        self._rules = rules
        self._selection = selection
        self._settings = settings
        self._index = index
        self._pools: dict[tuple[int, int], Pool] = {}
        self._alone_too: set[int] = set()  # sources whose posts all have an instruction behind them
        self._seen: set[int] = set()  # texts without instructions, by their keys: several may end alike
        self._counts: dict[str, Counter[str]] = {}
        self._rule_keys: dict[str, set[int]] = {}
        ruled = selection.kept & (index.rule_key != 0)
        for number, source in enumerate(sources):
            if source.rule is None:
                continue
            own = ruled & (index.source == number)
            if not (own & ~index.instructed).any():
                self._alone_too.add(number)
            for split in range(len(SPLITS)):
                keys = sorted({int(key) for key in index.rule_key[own & (selection.split == split)].tolist()})
                self._pools[number, split] = Pool([rules[key] for key in keys], topics[source.rule.topics])

    def table(self, batch: Any, rows: NDArray[np.integer[Any]], source: Source, split: int, schema: Any) -> Any:
        """The stored rows of a batch of kept rows of one source and split."""
        arrow = need("pyarrow", "data")
        stored = [made for row, record in zip(rows.tolist(), batch.to_pylist(), strict=True)
                  for made in self._stored(row, record, source, split)]  # fmt: skip
        return arrow.Table.from_pylist(stored, schema=schema)

    def _stored(self, row: int, record: Mapping[str, Any], source: Source, split: int) -> Iterator[dict[str, Any]]:
        rule, number = self._rules[record["rule_key"]], int(self._index.source[row])
        *before, judged = record["messages"]
        name = f"{record['id']:016x}"
        given = Given(name, judged["content"], record["label"], rule, record["instructed"])
        settings, alone_too = self._settings, number in self._alone_too
        made_rows = rule_rows(given, self._pools[number, split], settings.rules, settings.seed, alone_too)
        for place, made in enumerate(self._new(made_rows, rule)):
            self._count(SPLITS[split], made, record["rule_key"])
            yield {
                "id": name if made.made == "given" else f"{hash64(name, made.made, str(place)):016x}",
                "messages": [*before, {"role": judged["role"], "content": made.text}],
                "policy": [{"name": one.name, "definition": one.definition} for one in made.policy],
                "categories": [] if made.broken is None else [code(made.broken)],
                "label": made.label,
                "source": source.name,
                "licence": source.licence,
                "role": source.role,
                "language": record["language"],
                "kind": record["kind"],
                "cluster": f"{int(self._selection.cluster[row]):016x}",
                "domain": rule.domain,
                "weight": float(self._selection.weight[row]) * made.factor,
                "made": made.made,
                "instructed": made.instructed,
                "of": name,
            }

    def _new(self, made_rows: Iterable[RuleRow], rule: Rule) -> Iterator[RuleRow]:
        """The rows, less what is made of a post that was there before with another instruction behind it."""
        for made in made_rows:
            if made.made == "cut":
                key = hash64(rule.domain, rule.definition, made.text)
                if key in self._seen:
                    return  # what follows is made of it
                self._seen.add(key)
            yield made

    def _count(self, split: str, made: RuleRow, key: int) -> None:
        how = f"{made.made}, instructed" if made.instructed else made.made
        self._counts.setdefault(split, Counter())[f"{how}/{made.label}"] += 1
        self._rule_keys.setdefault(split, set()).add(key)

    def summary(self) -> dict[str, Any]:
        """By split: the number of stored rows, of rules, and of rows by how they were made and their label."""
        return {
            split: {"rows": counts.total(), "rules": len(self._rule_keys[split]), "made": dict(sorted(counts.items()))}
            for split in SPLITS
            if (counts := self._counts.get(split))
        }
