"""The manifest of a data set: what it was made from, by which rules, and where every row that was read has gone."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from guard.data import sources
from guard.data.config import BuildConfig
from guard.data.intake import Intake
from guard.data.row import Drop
from guard.data.store import Placed
from guard.errors import DataError
from guard.policy import Policy, natural

NAME = "manifest.json"


def manifest(
    settings: BuildConfig,
    policy: Policy,
    root: Path,
    intakes: Sequence[Intake],
    placed: Sequence[Placed],
    drops: Sequence[Drop],
    mismatches: Sequence[str],
    files: dict[str, str],
) -> dict[str, Any]:
    """The manifest as plain data, equal for equal inputs. DataError if rows were lost: a fault of the build."""
    parts = [_source(intake, root, placed, drops, settings) for intake in intakes]
    splits = dict.fromkeys(one.split for one in placed)
    return {
        "data_digest": _digest(files),
        "config_digest": settings.digest,
        "policy": {"id": policy.id, "version": policy.version, "digest": policy.digest},
        "count_mismatches": list(mismatches),
        "rows": {
            "read": sum(part["read"] for part in parts),
            "dropped": _tally(drops, lambda drop: [drop.reason]),
            "kept": len(placed),
        },
        "splits": {split: _describe([one for one in placed if one.split == split]) for split in sorted(splits)},
        "files": files,
        "sources": parts,
        "config": json.loads(json.dumps(dataclasses.asdict(settings))),
    }


def _source(
    intake: Intake, root: Path, placed: Sequence[Placed], drops: Sequence[Drop], settings: BuildConfig
) -> dict[str, Any]:
    source = intake.source
    kept = [one for one in placed if one.row.source == source.name]
    dropped = _tally((drop for drop in drops if drop.row.source == source.name), lambda drop: [drop.reason])
    if intake.read != len(kept) + sum(dropped.values()):
        raise DataError(
            f"source {source.name}: {intake.read} rows read, but {len(kept)} kept and {sum(dropped.values())} dropped; "
            "please report this as a bug"
        )
    return {
        "name": source.name,
        "title": source.title,
        "upstream": source.upstream,
        "commit": source.commit,
        "licence": source.licence,
        "attribution": source.attribution,
        "role": source.role,
        "files": sources.digests(source, root),
        "before_held_out": intake.before,
        "after_held_out": intake.after,
        "read": intake.read,
        "dropped": dropped,
        "kept": len(kept),
        "labels": _tally(kept, lambda one: [one.row.label]),
        "splits": _tally(kept, lambda one: [one.split]),
    }


def _describe(placed: Sequence[Placed]) -> dict[str, Any]:
    return {
        "rows": len(placed),
        "clusters": len({one.cluster for one in placed}),
        "labels": _tally(placed, lambda one: [one.row.label]),
        "kinds": _tally(placed, lambda one: [f"{one.row.kind}/{one.row.label}"]),
        "languages": _tally(placed, lambda one: [f"{one.row.language}/{one.row.label}"]),
        "categories": _tally(placed, lambda one: one.row.categories or () if one.categories_known else ["unknown"]),
        "licences": _tally(placed, lambda one: [one.source.licence]),
        "roles": _tally(placed, lambda one: [f"{one.source.role}/{one.row.label}"]),
    }


def _tally(items: Iterable[Any], keys: Callable[[Any], Iterable[str]]) -> dict[str, int]:
    counts = Counter(key for item in items for key in keys(item))
    return {key: counts[key] for key in sorted(counts, key=natural)}


def _digest(files: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
