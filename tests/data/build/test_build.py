"""The whole build over a small made-up data set."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict

import psutil
import pytest

from guard.data.build.build import build
from guard.data.dataset.examples import load_examples
from guard.data.dataset.reports import write_reports
from guard.errors import ConfigError, DataError
from guard.jobs.lock import locked


def stored(out):
    import pyarrow.parquet

    paths = sorted(path for path in out.glob("*.parquet") if path.stem != "drops")
    return {path.stem: pyarrow.parquet.read_table(path).to_pylist() for path in paths}


def drops(out):
    import pyarrow.parquet

    return pyarrow.parquet.read_table(out / "drops.parquet").to_pylist()


def test_every_row_read_is_kept_or_dropped_for_a_named_reason(world, tmp_path):
    manifest = build(world.config, world.root, tmp_path / "out")
    splits = stored(tmp_path / "out")
    for part in manifest["sources"]:
        kept = [row for rows in splits.values() for row in rows if row["source"] == part["name"]]
        assert part["read"] == len(kept) + sum(part["dropped"].values())
        assert part["kept"] == len(kept)
    by_name = {part["name"]: part["dropped"] for part in manifest["sources"]}
    told = Counter((drop["source"], drop["reason"]) for drop in drops(tmp_path / "out"))
    assert told == {(name, reason): count for name, dropped in by_name.items() for reason, count in dropped.items()}
    assert by_name == {
        "gardens": {"held-out benchmark": 1, "label conflict": 2, "repeated in source": 1, "unlabelled": 1},
        "talks": {"empty": 1, "held-out benchmark": 1, "over cap": 8},
        "notes": {"language": 1},
        "fences": {},
    }
    assert manifest == json.loads((tmp_path / "out" / "manifest.json").read_text(encoding="utf-8"))


def test_two_builds_are_byte_identical_and_replace_each_other(world, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    build(world.config, world.root, first)
    build(world.config, world.root, second)
    (second / "left-over.txt").write_text("of an earlier build", encoding="utf-8")
    build(world.config, world.root, second)
    assert sorted(path.name for path in second.iterdir()) == sorted(path.name for path in first.iterdir())
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes(), path.name


def test_clusters_and_source_groups_never_span_splits(world, tmp_path):
    build(world.config, world.root, tmp_path / "out")
    splits = stored(tmp_path / "out")
    assert all(splits[name] for name in ("train", "dev", "test"))
    seen = defaultdict(set)
    for split, rows in splits.items():
        for row in rows:
            seen[row["cluster"]].add(split)
            if row["source"] == "talks":
                seen[row["messages"][0]["content"].split(" on day ")[0]].add(split)
    assert all(len(found) == 1 for found in seen.values())


def test_columns_say_what_is_known(world, tmp_path):
    build(world.config, world.root, tmp_path / "out")
    rows = [row for rows in stored(tmp_path / "out").values() for row in rows]
    assert len({row["id"] for row in rows}) == len(rows)
    gardens = [row for row in rows if row["source"] == "gardens"]
    theft = next(row for row in gardens if "steal" in row["messages"][0]["content"])
    poison = next(row for row in gardens if "poison" in row["messages"][0]["content"])
    water = next(row for row in gardens if "water" in row["messages"][0]["content"])
    shown = [(row["label"], row["categories"], row["categories_known"]) for row in (theft, poison, water)]
    assert shown == [("unsafe", ["S2"], True), ("unsafe", [], False), ("safe", [], True)]
    weights = {name: {row["weight"] for row in rows if row["source"] == name} for name in ("notes", "gardens")}
    ((light,), (full,)) = weights.values()
    assert light == pytest.approx(full / 4)
    train = stored(tmp_path / "out")["train"]
    assert sum(row["weight"] for row in train) == pytest.approx(len(train))
    assert {row["licence"] for row in rows if row["source"] == "notes"} == {"CC-BY-4.0"}
    talk = next(row for row in rows if row["source"] == "talks")
    assert [message["role"] for message in talk["messages"]] == ["user", "assistant"]


def test_examples_read_back(world, tmp_path):
    out = tmp_path / "out"
    build(world.config, world.root, out)
    rows = stored(out)["train"]
    examples = load_examples(out, "train")
    assert [example.id for example in examples] == [row["id"] for row in rows]
    for example, row in zip(examples, rows, strict=True):
        assert example.conversation.judged.content == row["messages"][-1]["content"]
        assert (example.categories is None) == (not row["categories_known"])
        assert (example.weight, example.split) == (row["weight"], "train")
    assert {example.split for example in load_examples(out, "development")} == {"dev"}
    assert {example.source for example in load_examples(out, "development")} == {"fences"}


def test_examples_of_an_unknown_split_or_folder(tmp_path):
    with pytest.raises(DataError, match=r"unknown split 'eval'; allowed: train, dev, test"):
        load_examples(tmp_path, "eval")
    with pytest.raises(DataError, match=r"train\.parquet; make it with: guard data build"):
        load_examples(tmp_path, "train")


def test_wrong_counts_stop_the_build_unless_allowed(world, tmp_path):
    world.edit(world.source("notes"), "before: {total: 31, safe: 21", "before: {total: 32, safe: 22")
    out = tmp_path / "out"
    with pytest.raises(DataError, match="source notes: total rows before decontamination: expected 32, got 31"):
        build(world.config, world.root, out)
    assert not out.exists()
    manifest = build(world.config, world.root, out, allow_count_mismatch=True)
    assert len(manifest["warnings"]) == 2


def test_a_failed_build_leaves_the_old_one_and_nothing_else(world, tmp_path):
    out = tmp_path / "sets" / "out"
    build(world.config, world.root, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    (world.root / "raw" / "talks.jsonl").unlink()
    with pytest.raises(DataError, match=r"source talks: no file raw/talks\.jsonl"):
        build(world.config, world.root, out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_a_folder_that_is_no_build_is_left_alone(world, tmp_path):
    (tmp_path / "thesis.txt").write_text("precious", encoding="utf-8")
    with pytest.raises(DataError, match="is not an earlier build"):
        build(world.config, world.root, tmp_path)
    assert (tmp_path / "thesis.txt").read_text(encoding="utf-8") == "precious"


def test_a_native_label_that_the_crosswalk_lacks_is_an_error_without_its_text(world, tmp_path):
    rows = world.root / "raw" / "gardens" / "rows.csv"
    world.edit(rows, ",theft", ",canary-topic")
    with pytest.raises(DataError, match=r"source gardens: field `topic` .*crosswalk gardens does not list") as error:
        build(world.config, world.root, tmp_path / "out")
    assert "canary" not in str(error.value)


def test_a_label_that_the_rule_lacks_is_an_error_with_file_and_row(world, tmp_path):
    rows = world.root / "raw" / "gardens" / "rows.csv"
    world.edit(rows, "hedge?,unsure", "hedge?,canary-label")
    with pytest.raises(DataError, match=r"raw/gardens/rows\.csv row 67: field `judgement`") as error:
        build(world.config, world.root, tmp_path / "out")
    assert "canary" not in str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("source: gardens}", "source: gradens}", "no source description 'gradens'; did you mean 'gardens'"),
        ("source: gardens}", "source: fences}", "listed twice"),
        ("development: [fences]", "", None),
        ("seed: 3", "sed: 3", "unknown key `sed`; did you mean `seed`"),
        ("train: 0.6", "train: 0.7", "must add up to 1"),
        ("taxonomy: taxonomy", "taxonomy: elsewhere", "is not a folder"),
        ("policy: mlcommons", "policy: openai", "crosswalk gardens maps to policy 'mlcommons'"),
    ],
)
def test_configuration_mistakes(world, tmp_path, old, new, message):
    world.edit(world.config, old, new)
    if message is None:
        build(world.config, world.root, tmp_path / "out")
        assert not (tmp_path / "out" / "development.parquet").exists()
        return
    with pytest.raises(ConfigError, match=message):
        build(world.config, world.root, tmp_path / "out")


def test_a_development_source_is_not_trained_on(world, tmp_path):
    world.edit(world.config, "development: [fences]", "")
    world.edit(world.config, "- {source: gardens}", "- {source: fences}")
    with pytest.raises(ConfigError, match="source fences has the role development"):
        build(world.config, world.root, tmp_path / "out")


def test_an_unknown_code_in_a_description_is_an_error(world, tmp_path):
    world.edit(world.source("notes"), "always: [S10]", "always: [S99]")
    with pytest.raises(ConfigError, match=r"source notes: .* has no category S99"):
        build(world.config, world.root, tmp_path / "out")


def test_a_missing_root_says_so(world, tmp_path):
    with pytest.raises(DataError, match="no fingerprints in"):
        build(world.config, tmp_path / "nowhere", tmp_path / "out")


def parquet_of(out):
    return {path.name: path.read_bytes() for path in out.iterdir()}


def test_an_interrupted_build_goes_on_after_its_last_finished_source(world, tmp_path):
    build(world.config, world.root, tmp_path / "whole")
    taken = []

    def stop(name, total):
        taken.append(name)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(world.config, world.root, tmp_path / "out", progress=stop)
    assert not (tmp_path / "out").exists()
    again = []
    build(world.config, world.root, tmp_path / "out", progress=lambda name, total: again.append(name))
    assert (taken, again) == (["gardens"], ["talks", "notes", "fences"])
    assert parquet_of(tmp_path / "out") == parquet_of(tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.glob("*out*")) == ["out"]


def test_parts_of_other_settings_or_files_are_worth_nothing(world, tmp_path):
    def stop(name, total):
        raise KeyboardInterrupt

    for change in (
        lambda: world.edit(world.config, "languages: [en]", "languages: [en, fr]"),
        lambda: world.edit(world.root / "raw" / "talks.jsonl", "Why blue?", "Why green?"),
        lambda: world.edit(world.source("gardens"), "A gardener", "Another gardener"),
    ):
        with pytest.raises(KeyboardInterrupt):
            build(world.config, world.root, tmp_path / "out", allow_count_mismatch=True, progress=stop)
        change()
        again = []
        build(
            world.config,
            world.root,
            tmp_path / "out",
            allow_count_mismatch=True,
            progress=lambda name, total, again=again: again.append(name),
        )
        assert again == ["gardens", "talks", "notes", "fences"]


def test_a_licence_that_forbids_commercial_use_is_refused_unless_allowed(world, tmp_path):
    world.edit(world.source("notes"), "licence: CC-BY-4.0", "licence: CC-BY-NC-4.0")
    with pytest.raises(ConfigError, match=r"notes \(CC-BY-NC-4\.0\).*--allow-noncommercial"):
        build(world.config, world.root, tmp_path / "out")
    manifest = build(world.config, world.root, tmp_path / "out", allow_noncommercial=True)
    assert manifest["noncommercial"] == ["notes"]


def test_rows_that_repeat_a_test_set_of_ones_own_are_left_out(world, tmp_path):
    tests = tmp_path / "mine.csv"
    tests.write_text("prompt,label\nhow do I PRUNE the apple tree behind house number 0,safe\n", encoding="utf-8")
    without = build(world.config, world.root, tmp_path / "out")
    given = build(world.config, world.root, tmp_path / "out", against=[tests])
    assert given["sources"][0]["dropped"]["own test set"] == 1
    assert without["rows"]["kept"] == given["rows"]["kept"] + 1
    world.edit(world.config, "decontaminate: fingerprints", "against: [mine.csv]")
    (world.config.parent / "mine.csv").write_bytes(tests.read_bytes())
    alone = build(world.config, world.root, tmp_path / "out", allow_count_mismatch=True)
    assert alone["sources"][0]["dropped"]["own test set"] == 1
    assert "held-out benchmark" not in alone["sources"][0]["dropped"]
    world.edit(world.config, "against: [mine.csv]", "")
    assert (
        "nothing is held out"
        in build(world.config, world.root, tmp_path / "out", allow_count_mismatch=True)["warnings"][-1]
    )
    (tmp_path / "mine.csv").write_text("colour\nred\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"mine\.csv row 1: the row has no value for `messages`, `prompt`"):
        build(world.config, world.root, tmp_path / "out", against=[tests])


OWN = """
policy: mlcommons
seed: 1
shares: {train: 1.0, dev: 0.0, test: 0.0}
data:
  - path: rows.csv
    columns: {prompt: question}
    labels: {otherwise: unlabelled}
    categories: {flags: {hate: S10, fraud: S2}}
    cap: 50
  - {path: pairs.jsonl, language: en, weight: 2}
"""


def test_files_of_ones_own_need_no_root_and_no_seed(tmp_path):
    (tmp_path / "build.yaml").write_text("policy: mlcommons\ndata: [{path: rows.csv}]\n", encoding="utf-8")
    (tmp_path / "rows.csv").write_text("prompt,label\nMay I mow the lawn?,safe\n", encoding="utf-8")
    manifest = build(tmp_path / "build.yaml", None, tmp_path / "out")
    assert (manifest["config"]["seed"], manifest["rows"]["kept"]) == (0, 1)
    for more, told in (
        ("decontaminate: prints", "`decontaminate` names a folder"),
        ("sources: [{source: aart}]", "aart"),
    ):
        (tmp_path / "build.yaml").write_text(f"policy: mlcommons\ndata: [{{path: rows.csv}}]\n{more}\n")
        with pytest.raises(ConfigError, match=f"build.yaml: .*{told}.* under a data root; give it with --root DIR"):
            build(tmp_path / "build.yaml", None, tmp_path / "out")


def test_rows_and_pairs_of_ones_own_are_built_like_any_source(tmp_path):
    (tmp_path / "build.yaml").write_text(OWN.replace("    labels: {otherwise: unlabelled}\n", ""), encoding="utf-8")
    lines = ["question,hate,fraud", "May I mow the lawn of my neighbour?,0,0", "Is his lawn mine to sell?,,1"]
    (tmp_path / "rows.csv").write_text("\n".join([*lines, "Whose lawn is greener?,,0"]), encoding="utf-8")
    pairs = [{"prompt": "May I mow at night?", "chosen": "Better not.", "rejected": "Yes, loudly."}]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)), encoding="utf-8")
    manifest = build(tmp_path / "build.yaml", tmp_path, tmp_path / "out", finalize=write_reports)
    splits = stored(tmp_path / "out")
    assert [(row["label"], row["categories"], row["undecided"], row["language"]) for row in splits["train"]] == [
        ("safe", [], [], "en"),
        ("unsafe", ["S2"], ["S10"], "en"),
    ]
    (pair,) = splits["pairs-train"]
    assert pair["prompt"] == [{"role": "user", "content": "May I mow at night?"}]
    assert (pair["chosen"], pair["rejected"]) == ("Better not.", "Yes, loudly.")
    assert manifest["sources"][0]["dropped"] == {"unlabelled": 1}  # an empty flag is unknown, not no
    assert [example.undecided for example in load_examples(tmp_path / "out", "train")] == [set(), {"S10"}]
    assert (tmp_path / "out" / "card.html").is_file()


def test_mixing_weighs_and_caps(world, tmp_path):
    world.edit(
        world.config, "seed: 3", "seed: 3\nmixing: {kinds: {response: 3}, category_caps: {S10: 4}, temperature: 2}"
    )
    manifest = build(world.config, world.root, tmp_path / "out")
    notes = next(part for part in manifest["sources"] if part["name"] == "notes")
    assert notes["dropped"] == {"language": 1, "over category cap": 6}
    train = stored(tmp_path / "out")["train"]
    weights = {name: {row["weight"] for row in train if row["source"] == name} for name in ("gardens", "talks")}
    assert all(len(found) == 1 for found in weights.values())
    assert sum(row["weight"] for row in train) == pytest.approx(len(train))
    world.edit(world.config, "S10: 4", "S99: 4")
    with pytest.raises(ConfigError, match="S99"):
        build(world.config, world.root, tmp_path / "out")


def test_a_build_without_rows_says_where_they_went_and_one_of_pairs_alone_is_built(world, tmp_path):
    world.edit(world.config, "languages: [en]", "languages: [xx]")
    with pytest.raises(DataError, match=r"no row is left: 152 were read; dropped: .*language 147"):
        build(world.config, world.root, tmp_path / "out")
    (tmp_path / "own.yaml").write_text("policy: mlcommons\nseed: 1\ndata: [{path: p.jsonl}]\n", encoding="utf-8")
    pair = {"prompt": "May I mow at night?", "chosen": "Better not.", "rejected": "Yes, loudly."}
    (tmp_path / "p.jsonl").write_text(json.dumps(pair), encoding="utf-8")
    build(tmp_path / "own.yaml", tmp_path, tmp_path / "pairs", finalize=write_reports)
    assert not (tmp_path / "pairs" / "confounds.json").exists()
    assert (tmp_path / "pairs" / "card.html").is_file()
    assert sum(len(rows) for name, rows in stored(tmp_path / "pairs").items() if name.startswith("pairs")) == 1


def test_two_builds_do_not_write_to_the_same_folder(world, tmp_path):
    out = tmp_path / "out"

    def at_the_end(folder):
        with pytest.raises(DataError, match=f"{re.escape(str(out))}: in use by process {os.getpid()} "):
            build(world.config, tmp_path / "nowhere", out)  # before it reads anything

    build(world.config, world.root, out, finalize=at_the_end)
    assert (out / "manifest.json").is_file()
    assert sorted(path.name for path in tmp_path.glob("*out*")) == ["out"]


@pytest.mark.parametrize(
    ("ending", "code"),
    [(signal.SIGTERM, 143), pytest.param(signal.SIGKILL, -signal.SIGKILL, marks=pytest.mark.slow)],
)
def test_the_processes_of_a_build_end_with_it(world, tmp_path, ending, code):
    command = ["data", "build", world.config, "--root", world.root, "--out", tmp_path / "out", "--jobs", "2"]
    with subprocess.Popen([sys.executable, "-m", "guard", *map(str, command)]) as process:
        children = []
        while len(children) < 3:  # multiprocessing has one of its own
            assert process.poll() is None
            children = psutil.Process(process.pid).children()
            time.sleep(0.01)
        process.send_signal(ending)
        assert process.wait() == code
    _, alive = psutil.wait_procs(children, timeout=30)
    for child in alive:
        child.kill()
    assert alive == []
    assert not (tmp_path / "out").exists()
    with locked(tmp_path / "out"):
        pass
