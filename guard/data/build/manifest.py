"""The manifest of a data set: its inputs and settings, and an account of every row that was read."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from guard.data.build.config import BuildConfig
from guard.data.build.row_index import KINDS, RowIndex
from guard.data.build.select import REASONS, SPLITS, Selection
from guard.data.row import LABELS
from guard.data.sources.description import Source
from guard.errors import DataError
from guard.policy import Policy, natural

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NAME = "manifest.json"


def build_manifest(
    settings: BuildConfig,
    policy: Policy,
    sources: Sequence[Source],
    records: Sequence[Mapping[str, Any]],
    index: RowIndex,
    selection: Selection,
    warnings: Sequence[str],
    files: dict[str, str],
    rules: dict[str, Any],
) -> dict[str, Any]:
    """The manifest as plain data, equal for equal inputs. DataError if rows were lost, which is a bug of the build.

    records: those of the parts, with `read`, `before`, `after`, `dropped` and `files` of each source. rules: what was
    made of the rows of rules, by split; `splits` has none of them.
    """
    described = [
        _source(number, source, record, index, selection)
        for number, (source, record) in enumerate(zip(sources, records, strict=True))
    ]
    kept = selection.kept
    dropped = Counter[str]()
    for part in described:
        dropped.update(part["dropped"])
    return {
        "data_digest": hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest(),
        "config_digest": settings.digest,
        "policy": {"id": policy.id, "version": policy.version, "digest": policy.digest},
        "warnings": list(warnings),
        "noncommercial": [source.name for source in sources if source.noncommercial],
        "rows": {
            "read": sum(part["read"] for part in described),
            "dropped": _sorted(dropped),
            "kept": int(kept.sum()),
        },
        "splits": {
            split: _describe(rows, sources, index, selection)
            for number, split in enumerate(SPLITS)
            if (rows := kept & (selection.split == number) & (index.rule_key == 0)).any()
        },
        **({"rules": rules} if rules else {}),
        "files": files,
        "sources": described,
        "config": json.loads(json.dumps(dataclasses.asdict(settings))),
    }


def _source(
    number: int, source: Source, record: Mapping[str, Any], index: RowIndex, selection: Selection
) -> dict[str, Any]:
    rows = index.source == number
    kept = rows & selection.kept
    dropped = Counter[str](record["dropped"])
    dropped.update(_count(selection.reason[rows & ~selection.kept], REASONS))
    if record["read"] != int(kept.sum()) + dropped.total():
        raise DataError(
            f"source {source.name}: {record['read']} rows read, but {int(kept.sum())} kept and {dropped.total()} "
            "dropped; please report this as a bug"
        )
    return {
        "name": source.name,
        "title": source.title,
        "upstream": source.upstream,
        "commit": source.commit,
        "licence": source.licence,
        "attribution": source.attribution,
        "role": source.role,
        "cautions": source.cautions,
        "files": record["files"],
        "before_held_out": record["before"],
        "after_held_out": record["after"],
        "read": record["read"],
        "dropped": _sorted(dropped),
        "kept": int(kept.sum()),
        "labels": _sorted(_count(index.label[kept], LABELS)),
        "splits": _sorted(_count(selection.split[kept], SPLITS)),
    }


def _describe(
    rows: NDArray[np.bool_], sources: Sequence[Source], index: RowIndex, selection: Selection
) -> dict[str, Any]:
    import numpy as np

    categorised = np.zeros(len(index), dtype=bool)
    categorised[index.category_rows] = True
    unknown = int((rows & ~categorised & (index.label == LABELS.index("unsafe"))).sum())
    categories = _count(index.category_codes[rows[index.category_rows]], index.codes)
    return {
        "rows": int(rows.sum()),
        "clusters": len(np.unique(selection.cluster[rows])),
        "labels": _sorted(_count(index.label[rows], LABELS)),
        "kinds": _sorted(_count_by_label(index.kind[rows], KINDS, index.label[rows])),
        "languages": _sorted(_count_by_label(index.language[rows], index.languages, index.label[rows])),
        "categories": _sorted(categories + Counter({"unknown": unknown})),
        "licences": _sorted(_count(index.source[rows], [source.licence for source in sources])),
        "roles": _sorted(_count_by_label(index.source[rows], [source.role for source in sources], index.label[rows])),
    }


def _count(indices: NDArray[Any], names: Sequence[str]) -> Counter[str]:
    import numpy as np

    counts = Counter[str]()
    for index, count in zip(*np.unique(indices, return_counts=True), strict=True):
        counts[names[int(index)]] += int(count)
    return counts


def _count_by_label(indices: NDArray[Any], names: Sequence[str], labels: NDArray[np.int8]) -> Counter[str]:
    """Counts by `name/label`."""
    counts = Counter[str]()
    for number, label in enumerate(LABELS):
        for name, count in _count(indices[labels == number], names).items():
            counts[f"{name}/{label}"] += count
    return counts


def _sorted(counts: Counter[str]) -> dict[str, int]:
    return {key: counts[key] for key in sorted(counts, key=natural)}
