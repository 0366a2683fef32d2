"""The manifest of a data set: what it was made from, by which rules, and where every row that was read has gone."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from guard.data.build.config import BuildConfig
from guard.data.build.row_index import KINDS, Table
from guard.data.build.select import REASONS, SPLITS, Placement
from guard.data.row import LABELS
from guard.data.sources.description import Source
from guard.errors import DataError
from guard.policy import Policy, natural

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NAME = "manifest.json"


def manifest(
    settings: BuildConfig,
    policy: Policy,
    sources: Sequence[Source],
    records: Sequence[Mapping[str, Any]],
    table: Table,
    placement: Placement,
    warnings: Sequence[str],
    files: dict[str, str],
) -> dict[str, Any]:
    """The manifest as plain data, equal for equal inputs. DataError if rows were lost: a fault of the build.

    `records` are those of the parts: `read`, `before`, `after`, `dropped` and `files` of each source.
    """
    described = [
        _source(number, source, record, table, placement)
        for number, (source, record) in enumerate(zip(sources, records, strict=True))
    ]
    kept = placement.kept
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
            split: _describe(kept & (placement.split == number), sources, table, placement)
            for number, split in enumerate(SPLITS)
            if (kept & (placement.split == number)).any()
        },
        "files": files,
        "sources": described,
        "config": json.loads(json.dumps(dataclasses.asdict(settings))),
    }


def _source(
    number: int, source: Source, record: Mapping[str, Any], table: Table, placement: Placement
) -> dict[str, Any]:
    own = table.source == number
    kept = own & placement.kept
    dropped = Counter[str](record["dropped"])
    dropped.update(_tally(placement.reason[own & ~placement.kept], REASONS))
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
        "labels": _sorted(_tally(table.label[kept], LABELS)),
        "splits": _sorted(_tally(placement.split[kept], SPLITS)),
    }


def _describe(rows: NDArray[np.bool_], sources: Sequence[Source], table: Table, placement: Placement) -> dict[str, Any]:
    import numpy as np

    named = np.zeros(len(table), dtype=bool)
    named[table.category_rows] = True
    unknown = int((rows & ~named & (table.label == LABELS.index("unsafe"))).sum())
    categories = _tally(table.category_codes[rows[table.category_rows]], table.codes)
    return {
        "rows": int(rows.sum()),
        "clusters": len(np.unique(placement.cluster[rows])),
        "labels": _sorted(_tally(table.label[rows], LABELS)),
        "kinds": _sorted(_tally2(table.kind[rows], KINDS, table.label[rows])),
        "languages": _sorted(_tally2(table.language[rows], table.languages, table.label[rows])),
        "categories": _sorted(categories + Counter({"unknown": unknown})),
        "licences": _sorted(_tally(table.source[rows], [source.licence for source in sources])),
        "roles": _sorted(_tally2(table.source[rows], [source.role for source in sources], table.label[rows])),
    }


def _tally(indices: NDArray[Any], names: Sequence[str]) -> Counter[str]:
    import numpy as np

    counts = Counter[str]()
    for index, count in zip(*np.unique(indices, return_counts=True), strict=True):
        counts[names[int(index)]] += int(count)
    return counts


def _tally2(indices: NDArray[Any], names: Sequence[str], labels: NDArray[np.int8]) -> Counter[str]:
    """Counts of `name/label`."""
    counts = Counter[str]()
    for number, label in enumerate(LABELS):
        for name, count in _tally(indices[labels == number], names).items():
            counts[f"{name}/{label}"] += count
    return counts


def _sorted(counts: Counter[str]) -> dict[str, int]:
    return {key: counts[key] for key in sorted(counts, key=natural)}
