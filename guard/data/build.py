"""The data build: described sources in, `train`, `dev` and `test` parquet files and a manifest out."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from guard import policy as policies
from guard.data import clean, config, decontaminate, dedupe, manifest, sources, store
from guard.data.cluster import clusters
from guard.data.config import BuildConfig
from guard.data.intake import Intake, mismatches, take
from guard.data.row import Drop, Row
from guard.data.split import split_of, unit_hash
from guard.data.store import Placed
from guard.errors import ConfigError, DataError, need
from guard.policy import Policy

UNLABELLED, LANGUAGE, OVER_CAP = "unlabelled", "language", "over cap"
_NOT_FOR_TRAINING = ("development", "unlabelled")


def build(config_path: Path, root: Path, out: Path, allow_count_mismatch: bool = False) -> dict[str, Any]:
    """The manifest of the data set built into the folder `out`, which appears complete or not at all.

    The same configuration and raw files give the same bytes. Raises ConfigError for a bad configuration; DataError for
    a missing or broken file, and for a source whose counts differ from its description unless `allow_count_mismatch`.
    """
    need("datasets", "data")
    settings = config.load(config_path)
    _check_target(out)
    policy = policies.load(settings.policy)
    intakes = _take_all(settings, config.taxonomy_folder(settings, config_path), policy, root)
    wrong = [line for intake in intakes for line in mismatches(intake)]
    if wrong and not allow_count_mismatch:
        raise DataError("; ".join([*wrong, "look with `guard data check`; --allow-count-mismatch builds all the same"]))
    placed, drops = place(settings, intakes)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as scratch:
        folder = Path(scratch) / "new"
        folder.mkdir()
        files = store.write(placed, folder)
        told = manifest.manifest(settings, policy, root, intakes, placed, drops, wrong, files)
        (folder / manifest.NAME).write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        if out.exists():
            out.rename(Path(scratch) / "old")
        folder.rename(out)
    return told


def _check_target(out: Path) -> None:
    """DataError if `out` holds anything but an earlier build: it is about to be replaced."""
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / manifest.NAME).is_file())):
        raise DataError(f"{out} exists and is not an earlier build (it has no {manifest.NAME}); choose another --out")


def _take_all(settings: BuildConfig, taxonomy: Path | None, policy: Policy, root: Path) -> list[Intake]:
    described = [sources.load(use.source, taxonomy) for use in settings.sources]
    for source in described:
        if source.role in _NOT_FOR_TRAINING:
            raise ConfigError(f"source {source.name} has the role {source.role}; it must not be listed under `sources`")
    described += [sources.load(name, taxonomy) for name in settings.development]
    tables = [sources.load_crosswalk(source, taxonomy) for source in described]
    for source, table in zip(described, tables, strict=True):
        sources.check_codes(source, table, policy)
    held_out = decontaminate.load(root / settings.decontaminate)
    return [take(source, root, table, held_out) for source, table in zip(described, tables, strict=True)]


def place(settings: BuildConfig, intakes: Sequence[Intake]) -> tuple[list[Placed], list[Drop]]:
    """The rows to keep, each in its split, and all rows dropped with their reasons. Pure: reads and writes no file."""
    drops = [drop for intake in intakes for drop in intake.drops]
    rows: list[Row] = []
    for intake in intakes:
        usable, later = _usable(intake.rows, settings.languages)
        rows += usable
        drops += later
    rows, later = dedupe.drop_duplicates(rows)
    drops += later
    rows, later = _cap(rows, {use.source: use.cap for use in settings.sources}, settings.seed)
    drops += later
    described = {intake.source.name: intake.source for intake in intakes}
    weights = {use.source: use.weight for use in settings.sources}
    placed = []
    for row, cluster in zip(rows, clusters(rows), strict=True):
        held = row.source in settings.development
        split = store.DEVELOPMENT if held else split_of(cluster, settings.shares, settings.seed)
        placed.append(Placed(row, described[row.source], split, cluster, weights.get(row.source, 1.0)))
    return placed, drops


def _usable(rows: Sequence[Row], languages: Sequence[str]) -> tuple[list[Row], list[Drop]]:
    kept: list[Row] = []
    drops: list[Drop] = []
    for row in rows:
        if row.label == "unlabelled":
            drops.append(Drop(row, UNLABELLED))
        elif languages and row.language not in languages:
            drops.append(Drop(row, LANGUAGE))
        else:
            kept.append(row)
    kept, empty = clean.clean(kept)
    return kept, drops + empty


def _cap(rows: Sequence[Row], caps: dict[str, int | None], seed: int) -> tuple[list[Row], list[Drop]]:
    """At most `caps[source]` rows of each source: those of smallest seeded hash, in their old order."""
    chosen: set[str] = set()
    for name in dict.fromkeys(row.source for row in rows):
        ids = sorted((row.id for row in rows if row.source == name), key=lambda id: unit_hash(seed, "cap", id))
        chosen.update(ids[: caps.get(name)])
    kept = [row for row in rows if row.id in chosen]
    return kept, [Drop(row, OVER_CAP) for row in rows if row.id not in chosen]
