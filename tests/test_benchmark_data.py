"""The data of the benchmarks, and what is held out of training for one of them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from guard import document, policy
from guard.conversation import conversation_from_row

ROOT = Path(__file__).parent.parent
POLICIES = sorted((ROOT / "benchmarks" / "policies").glob("*.yaml"))


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.stem)
def test_each_invented_policy_has_enough_rows_of_both_labels_and_near_misses(path: Path) -> None:
    shipped = {name.lower() for of in policy.shipped() for name in (c.name for c in policy.load(of).categories)}
    assert not shipped & {category.name.lower() for category in policy.load(path).categories}
    rows = [json.loads(line) for line in path.with_suffix(".jsonl").read_text(encoding="utf-8").splitlines()]
    texts = [tuple(message.content for message in conversation_from_row(row).messages) for row in rows]
    assert len(set(texts)) == len(rows)
    safe = [row for row in rows if row["label"] == "safe"]
    assert len(safe) >= 50
    assert len(rows) - len(safe) >= 50
    assert sum(row.get("near_miss", False) for row in safe) * 3 >= len(safe)
    assert not any(row.get("near_miss") for row in rows if row["label"] == "unsafe")


def test_what_says_anything_about_a_held_out_category_is_not_learnt_from(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")

    def row(text: str, label: str, codes: list[str], source: str = "made") -> dict[str, object]:
        return {
            "messages": [{"role": "user", "content": text}],
            "label": label,
            "categories": codes,
            "categories_known": label == "safe" or bool(codes),
            "undecided": ["S6"] if text == "undecided" else [],
            "source": source,
        }

    twin = document.parse((ROOT / "taxonomy/seeds/S6.yaml").read_text(encoding="utf-8"), "S6")[0]["safe"][0]
    kept = [row("bread", "safe", []), row("other harm", "unsafe", ["S1"]), row(twin, "safe", [])]
    gone = [
        row("held out", "unsafe", ["S6"]),
        row("both", "unsafe", ["S1", "S6"]),
        row("undecided", "unsafe", ["S1"]),
        row("nobody knows", "unsafe", []),
        row(f" {twin.upper()}", "safe", [], "seed_prompts"),
    ]
    whole, out = tmp_path / "whole", tmp_path / "out"
    whole.mkdir()
    for split in ("train", "dev"):
        pq.write_table(pa.Table.from_pylist([*kept, *gone]), whole / f"{split}.parquet")
    command = [sys.executable, "benchmarks/held_out_categories.py", "make", str(out), "--data", str(whole)]
    done = subprocess.run([*command, "--without", "S6"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert policy.load(out / "policy.yaml").codes == policy.load("mlcommons").without(["S6"]).codes
    for split in ("train", "dev"):
        assert pq.read_table(out / "data" / f"{split}.parquet").to_pylist() == kept


TWINS = ROOT / "benchmarks" / "twins"
CODES = policy.load("mlcommons").codes


def test_the_twins_are_whole_and_no_text_of_them_is_a_seed() -> None:
    languages = {path.stem: _document(path) for path in TWINS.iterdir()}
    phenomena = languages.pop("phenomena")
    assert len(languages) == 12
    seen: list[tuple[str, ...]] = []
    for name, twins in languages.items():
        assert twins["language"] == name
        assert len(twins["twins"]) == 24
        seen += _texts(twins["twins"])
    for rows in [*phenomena["prompts"].values(), *phenomena["replies"].values()]:
        assert len(rows) == 12
        seen += _texts(rows)
    assert len(set(seen)) == len(seen)
    seeds: set[tuple[str, ...]] = set()
    for path in (ROOT / "taxonomy" / "seeds").glob("*.yaml"):
        known = _document(path)
        seeds |= {_folded(text) for label in ("safe", "unsafe") for text in known.get(label) or ()}
        for row in known.get("responses") or ():
            seeds |= {_folded(row["prompt"]), _folded(row["prompt"], row["response"])}
    assert len(seeds) > 5000
    prompts = {(text[0],) for text in seen}
    assert not (set(seen) | prompts) & seeds


def _document(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader)
    return found


def _texts(rows: list[list[str]]) -> list[tuple[str, ...]]:
    """The texts of [code, unsafe, safe] or [code, prompt, unsafe reply, safe reply]."""
    assert {row[0] for row in rows} <= set(CODES)
    assert {len(row) for row in rows} in ({3}, {4})
    return [_folded(*row[1:-2], text) for row in rows for text in row[-2:]]


def _folded(*texts: str) -> tuple[str, ...]:
    assert all(text.strip() for text in texts)
    return tuple(" ".join(text.split()).casefold() for text in texts)
