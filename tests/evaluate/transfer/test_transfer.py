"""`guard eval transfer`: what is held out, what is measured, and that an interrupted evaluation goes on."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from guard import policy, schema
from guard.cli import main
from guard.errors import ConfigError, DataError
from guard.evaluate.transfer import bag_of_words
from guard.evaluate.transfer.config import TransferConfig, load
from guard.evaluate.transfer.folds import load_test, write_fold
from guard.evaluate.transfer.results import fold_metrics, mean_log_odds, summary
from tests.fixtures import tiny_encoder

PLAIN: dict[str, Any] = {
    "policy": "mlcommons",
    "folds": {
        "chats": {"sources": ["chats"]},
        "gardens": {"sources": ["gardens"], "beside": 10},
    },
    "candidates": {"tiny": {"config": "encoder"}},
}


def row(source: str, number: int, label: str, kind: str = "prompt") -> dict[str, object]:
    text = f"abduct the {source} number {number}" if label == "unsafe" else f"the {source} has {number} plants"
    said = [("user", text)] if kind == "prompt" else [("user", "and now?"), ("assistant", text)]
    return {
        "id": f"{source}-{label}-{number}",
        "messages": [{"role": role, "content": content} for role, content in said],
        "label": label,
        "categories": ["S1"] if label == "unsafe" else [],
        "categories_known": True,
        "source": source,
        "licence": "CC0-1.0",
        "language": "en",
        "kind": kind,
        "weight": 1.0,
    }


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three sources; `gardens` has safe rows alone, `chats` has responses, too."""
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    folder = tmp_path_factory.mktemp("built")
    for split, numbers in (("train", range(40)), ("dev", range(40, 60)), ("test", range(60, 80))):
        rows = [row(source, n, label) for n in numbers for source in ("chats", "mails") for label in ("safe", "unsafe")]
        rows += [row("gardens", n, "safe") for n in numbers]
        rows += [row("chats", n + 1000, label, "response") for n in numbers for label in ("safe", "unsafe")]
        parquet.write_table(arrow.Table.from_pylist(rows), folder / f"{split}.parquet")
    return folder


def config(built: Path, out: Path, **changes: object) -> TransferConfig:
    return schema.convert({**PLAIN, "data": str(built), "out": str(out), **changes}, TransferConfig, "transfer.yaml")


def read(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pytest.importorskip("pyarrow.parquet").read_table(path).to_pylist()
    return rows


def test_held_out_sources_are_scored_and_nowhere_else(built: Path, tmp_path: Path) -> None:
    counts = write_fold(config(built, tmp_path, test_rows=50), "chats", tmp_path / "fold")
    assert counts == {"train": 120, "dev": 60, "test": 50}
    assert {each["source"] for each in read(tmp_path / "fold" / "test.parquet")} == {"chats"}
    for split in ("train", "dev"):
        assert {each["source"] for each in read(tmp_path / "fold" / f"{split}.parquet")} == {"mails", "gardens"}
    train = {each["id"] for each in read(tmp_path / "fold" / "train.parquet")}
    assert train <= {each["id"] for each in read(built / "train.parquet")}


def test_rows_of_the_lacking_label_stand_beside_a_one_sided_source(built: Path, tmp_path: Path) -> None:
    write_fold(config(built, tmp_path, test_rows=20), "gardens", tmp_path / "fold")
    rows = {split: read(tmp_path / "fold" / f"{split}.parquet") for split in ("train", "dev", "test")}
    assert [each["label"] for each in rows["test"]].count("unsafe") == 10
    beside = {each["id"] for each in rows["test"] if each["source"] != "gardens"}
    assert len(beside) == 10
    assert all(each["kind"] == "prompt" for each in rows["test"])
    assert beside.isdisjoint(each["id"] for each in (*rows["train"], *rows["dev"]))


def test_a_larger_sample_keeps_the_rows_of_a_smaller_one(built: Path, tmp_path: Path) -> None:
    ids = []
    for count in (10, 30):
        write_fold(config(built, tmp_path, train_rows=count, test_rows=count), "chats", tmp_path / str(count))
        ids.append([{each["id"] for each in read(tmp_path / str(count) / f"{s}.parquet")} for s in ("train", "test")])
    assert all(small < large for small, large in zip(*ids, strict=True))


def test_kinds_narrow_what_is_scored(built: Path, tmp_path: Path) -> None:
    folds = {"replies": {"sources": ["chats"], "kinds": ["response"]}}
    write_fold(config(built, tmp_path, folds=folds), "replies", tmp_path / "fold")
    assert {each["kind"] for each in read(tmp_path / "fold" / "test.parquet")} == {"response"}
    assert "chats" not in {each["source"] for each in read(tmp_path / "fold" / "train.parquet")}


def test_rules_are_scored_under_the_policies_that_they_bring(built: Path, tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    with_rules = tmp_path / "built"
    shutil.copytree(built, with_rules)
    for split in ("train", "development"):
        rows = [
            {**row("rules", n, label), "categories": ["R1"] * (label == "unsafe"), "domain": "A shop"}
            | {"policy": [{"name": "Plants", "definition": f"Plants of {split} must not be sold."}]}
            for n in range(9)
            for label in ("safe", "unsafe")
        ]
        parquet.write_table(arrow.Table.from_pylist(rows), with_rules / f"rules-{split}.parquet")
    asked = config(with_rules, tmp_path, folds={"rules": {"rules": "development"}}, test_rows=12)
    assert write_fold(asked, "rules", tmp_path / "fold") == {"train": 280, "dev": 140, "test": 12}
    test = load_test(asked.folds["rules"], tmp_path / "fold", policy.load("mlcommons"))
    assert {rules.categories[0].definition for _, rules in test} == {"Plants of development must not be sold."}
    assert len(read(tmp_path / "fold" / "rules-train.parquet")) == 18
    with pytest.raises(DataError, match=r"rules-dev\.parquet: missing; fold 'rules' needs a build with rows of rules"):
        write_fold(config(with_rules, tmp_path, folds={"rules": {"rules": "dev"}}), "rules", tmp_path / "other")


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        ({"x": {"sources": ["chat"]}}, r"holds out chat, .* sources with rows: chats, gardens, mails"),
        ({"x": {"sources": ["gardens"]}}, r"test rows of one label alone \(safe\); give `beside`"),
        ({"x": {"sources": ["chats", "mails"]}}, r"train rows of one label alone \(safe\); hold out fewer sources"),
    ],
)
def test_a_fold_that_cannot_be_made_is_refused(
    built: Path, tmp_path: Path, folds: dict[str, object], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        write_fold(config(built, tmp_path, folds=folds), "x", tmp_path / "fold")
    assert not list((tmp_path / "fold").glob("*"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ensembles": {"both": ["tiny", "other"]}}, "no candidate 'other'; allowed: tiny"),
        ({"ensembles": {"tiny": ["tiny"]}}, "has the name of a candidate"),
        ({"folds": {"a": {"sources": ["x", "y"]}, "b": {"sources": ["y"]}}}, "y: also held out in fold b"),
        ({"folds": {"a": {"source": ["x"]}}}, "sources"),
        ({"folds": {"a": {"kinds": ["prompt"]}}}, "either `sources` or `rules`"),
        ({"folds": {"a": {"sources": ["x"], "rules": "dev"}}}, "either `sources` or `rules`"),
        ({"folds": {"a": {"rules": "dev", "beside": 3}}}, "are of folds with `sources`"),
        ({"folds": {}}, "folds"),
        ({"recall": 1.5}, "recall"),
    ],
)
def test_mistakes_of_a_configuration_are_named(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = tmp_path / "transfer.yaml"
    path.write_text(yaml.safe_dump({**PLAIN, "data": "d", "out": "o", **change}), encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        load(path)


def test_the_false_positive_rate_is_that_at_the_recall() -> None:
    labels = np.array([True, True, False, True, False, False])
    odds = np.array([5.0, 4.0, 3.0, 2.0, 1.0, 0.0])
    assert fold_metrics(labels, odds, 2 / 3)["fpr_at_recall"] == 0
    assert fold_metrics(labels, odds, 0.9)["fpr_at_recall"] == pytest.approx(1 / 3)
    assert fold_metrics(labels, odds, 1.0)["auroc"] == pytest.approx(8 / 9)


@given(st.lists(st.floats(-20, 20), min_size=2, max_size=9), st.floats(0.01, 100), st.floats(-50, 50))
def test_no_scale_prevails_in_an_ensemble(values: list[float], scale: float, shift: float) -> None:
    one = np.array(values)
    if one.std() < 1e-3:
        return
    both = mean_log_odds([one, one[::-1]])
    assert mean_log_odds([scale * one + shift, one[::-1]]) == pytest.approx(both, abs=1e-6)


def test_the_worst_fold_counts_beside_the_mean() -> None:
    folds = {
        "a": {"x": {"auprc": 0.9, "auroc": 0.9, "fpr_at_recall": 0.1}},
        "b": {"x": {"auprc": 0.5, "auroc": 0.5, "fpr_at_recall": 0.7}},
    }
    assert summary(folds)["x"] == {
        "folds": 2,
        "mean_auprc": pytest.approx(0.7),
        "worst_auprc": 0.5,
        "mean_fpr_at_recall": pytest.approx(0.4),
        "worst_fpr_at_recall": 0.7,
    }


@pytest.mark.slow
def test_an_evaluation_from_folds_to_table(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    base = tmp_path / "base"
    subprocess.run([sys.executable, tiny_encoder.__file__, "base", str(base)], check=True)
    changes: dict[str, object] = {
        "base": str(base),
        "epochs": 3,
        "max_tokens": 64,
        "overlap": 16,
        "batch_tokens": 1024,
        "batch_rows": 16,
        "warmup_steps": 5,
        "learning_rate": 2e-3,
        "head_learning_rate": 2e-3,
        "other_policies": [],
        "bf16": False,
        "threads": 1,
    }
    path = tmp_path / "transfer.yaml"
    plain = {**PLAIN, "data": str(built), "out": str(tmp_path / "out"), "ensembles": {"both": ["tiny"]}}
    plain["candidates"] = {"tiny": {"config": "encoder", "changes": changes}}
    path.write_text(json.dumps(plain), encoding="utf-8")
    command = ["eval", "transfer", str(path), "--fold", "chats", "--out", str(tmp_path / "report.json")]
    with pytest.raises(SystemExit) as ended:
        main(command)
    table, stderr = capsys.readouterr()
    assert ended.value.code == 0, stderr
    for word in ("tf-idf", "tiny", "both", "chats", "mean", "worst"):
        assert word in table
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    numbers = report["folds"]["chats"]["contestants"]
    assert numbers["tf-idf"]["auprc"] > 0.9
    assert numbers["both"] == pytest.approx(numbers["tiny"])
    assert report["folds"]["chats"]["cpu"]["tiny"]["train_s"] > 1
    trained = (tmp_path / "out" / "chats" / "tiny" / "train.log").stat()
    with pytest.raises(SystemExit):
        main(command)
    assert (tmp_path / "out" / "chats" / "tiny" / "train.log").stat() == trained, "what was measured is read back"
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8")) == report


def test_the_baseline_learns_words_and_not_their_writing(built: Path) -> None:
    from guard.data.dataset.examples import load_examples

    train, dev = load_examples(built, "train"), load_examples(built, "dev")
    odds = bag_of_words.scores(train, [example.conversation for example in dev])
    labels = np.array([example.label == "unsafe" for example in dev])
    assert fold_metrics(labels, odds, 0.9)["auprc"] > 0.99
