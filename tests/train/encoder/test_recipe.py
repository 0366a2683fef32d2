"""The encoder's whole path as a user walks it: train, be killed, go on, export, check, train on from the bundle."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from guard.bundle import open_bundle
from guard.policy import load
from tests.fixtures import tiny_encoder, warm
from tests.fixtures.recipe_runs import built_row, guard, kill_at_first_checkpoint, train, write_splits

pytestmark = pytest.mark.slow

RULES = load("minimal")  # M1 and M2
SAFE = "the garden has {} plants", "a plant of the garden is {}", "plants, {} plants", "who plants the {} gardens?"
UNSAFE = {
    "M1": ("the forbidden plant {}", "a garden of {} forbidden plants", "is {} forbidden?", "forbidden! {}"),
    "M2": ("zzz the plant {}", "a garden zzz {}", "is {} zzz?", "zzz! {}"),
}
CONFIG = """
recipe: encoder
base: replaced
policy: minimal
data: replaced
out: replaced
epochs: 16
batch_tokens: 1024
batch_rows: 16
max_tokens: 64
overlap: 16
learning_rate: 2e-3
head_learning_rate: 2e-3
warmup_steps: 10
checkpoint_steps: 20
bf16: false
threads: 1
"""


LABELLED = (("forbidden", "unsafe"), ("red", "safe"))


def numbered(number: int, text: str, codes: list[str], **changes: object) -> dict[str, Any]:
    return built_row(str(number), text, codes, role="training", cluster=str(number), **changes)


def rows(numbers: range) -> list[dict[str, object]]:
    made = []
    for number in numbers:
        for form in SAFE:
            made.append(numbered(number, form.format(number), []))
        for code, forms in UNSAFE.items():
            made += [numbered(number, form.format(number), [code]) for form in forms[:2] * (number % 2) or forms[2:]]
    turns = [{"role": "user", "content": "a plant?"}, {"role": "assistant", "content": "the garden " * 40}]
    made.append(numbered(0, "", [], messages=turns, kind="response"))  # several windows
    made.append(numbered(0, "forbidden zzz", [], label="unsafe", categories_known=False, weight=0.5))
    made.append(numbered(0, "elsewhere", ["S99"]))  # violates what this policy does not have
    return made


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@dataclass(frozen=True)
class World:
    """Where everything lies: the base, the data, the config, and a finished run."""

    folder: Path

    def train(self, out: str, *changes: str, data: str = "data", base: str = "base", code: int = 0) -> tuple[str, str]:
        given = {"data": self.folder / data, "base": self.folder / base, "out": self.folder / out}
        return train(self.folder / "tiny.yaml", *changes, code=code, **given)

    def record(self, run: str) -> dict[str, Any]:
        told: dict[str, Any] = json.loads((self.folder / run / "run.json").read_text(encoding="utf-8"))
        return told


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    pytest.importorskip("pyarrow")
    folder = tmp_path_factory.mktemp("encoder")
    assert warm.python(tiny_encoder.__file__, "base", folder / "base").returncode == 0
    write_splits(folder / "data", train=rows(range(30)), dev=rows(range(30, 36)))
    safe = [row for row in rows(range(30)) if row["label"] == "safe"]
    write_splits(folder / "safe", train=safe, dev=safe[:8])
    (folder / "tiny.yaml").write_text(CONFIG, encoding="utf-8")
    return World(folder)


@pytest.fixture(scope="module")
def run(world: World) -> Path:
    told, _ = world.train("run")
    assert "done; next: guard export" in told
    return world.folder / "run"


@pytest.fixture(scope="module")
def sealed(world: World, run: Path) -> Path:
    told, _ = guard("export", run, world.folder / "bundle", "--name", "garden")
    for key in ("torch_vs_onnx", "alone_vs_batch", "fp32_vs_stored"):
        assert f"parity {key}: " in told
    return world.folder / "bundle"


def test_the_run_learns_and_tells_what_made_it(world: World, run: Path) -> None:
    record = world.record("run")
    history = record["metrics"]["history"]
    assert history[-1]["loss"] < 0.7 * max(entry["loss"] for entry in history)
    assert history[-1]["auprc"] > 0.95
    assert [entry["step"] for entry in history[:-1]] == list(range(20, history[-1]["step"], 20))
    assert (record["kind"], record["policy"], record["seed"]) == ("mini", RULES.digest, 7)
    assert record["config"]["learning_rate"] == 2e-3
    assert record["config"]["out"] == str(run)
    assert record["base"] == "base"
    assert len(record["data"]) == 64
    assert record["tokens_per_s"] > 0
    assert record["peak_rss_mb"] > 50
    assert {"torch", "transformers", "tokenizers", "numpy"} <= set(record["packages"])
    assert {"commit", "python", "machine"} <= set(record)
    assert {path.name for path in run.iterdir()} == {
        "checkpoint.pt",
        "config.json",
        "model.safetensors",
        "policy.yaml",
        "run.json",
        ".lock",
        "started.json",
        "tokenizer.json",
    }


def test_a_killed_run_goes_on_to_the_same_weights(world: World, run: Path) -> None:
    out = world.folder / "killed"
    given = ["--data", world.folder / "data", "--base", world.folder / "base", "--out", out]
    kill_at_first_checkpoint(["train", world.folder / "tiny.yaml", *given], out)
    _, err = guard("export", out, world.folder / "unfinished", code=3)
    assert "no run.json there; give the `out` folder of a finished `guard train`" in err
    told, _ = guard("train", world.folder / "tiny.yaml", *given)
    assert "resuming at step" in told
    assert digest(out / "model.safetensors") == digest(run / "model.safetensors")
    quality = [
        [(entry["step"], entry["auprc"]) for entry in world.record(name)["metrics"]["history"]]
        for name in ("run", "killed")
    ]
    assert quality[0] == quality[1]


def test_a_finished_run_stays_as_it_is(world: World, run: Path) -> None:
    before, metrics = digest(run / "model.safetensors"), world.record("run")["metrics"]
    told, _ = world.train("run")
    assert "resuming at step" in told
    assert digest(run / "model.safetensors") == before
    assert world.record("run")["metrics"] == metrics


def test_the_same_command_with_other_contents_is_another_run(world: World, run: Path) -> None:
    """All labels the other way round: neither old weights under a new name, nor a run that goes on with them."""
    kept = {path.name: digest(path) for path in run.iterdir()}
    data = world.folder / "data" / "train.parquet"
    before = data.read_bytes()
    turned = [row | {"label": {"safe": "unsafe", "unsafe": "safe"}[str(row["label"])]} for row in rows(range(30))]
    try:
        write_splits(world.folder / "data", train=turned)
        _, err = world.train("run", code=2)
        assert f"{run}: holds a run that differs in digests.data (was " in err
        _, err = guard("export", run, world.folder / "other", code=3)
        assert "the digest of the data was" in err
    finally:
        data.write_bytes(before)
    assert {path.name: digest(path) for path in run.iterdir()} == kept


def test_the_bundle_answers_what_was_learnt(sealed: Path) -> None:
    out, _ = guard("check", "--model", sealed, "--json", "a garden of 99 forbidden plants", code=1)
    told = json.loads(out)
    assert told["flagged"], "which category it is, a base this small does not learn from letters"
    assert told["model"] == open_bundle(sealed).manifest.model
    out, _ = guard("check", "--model", sealed, "--json", "the garden has 99 plants")
    assert json.loads(out)["outcome"] == "SAFE"
    out, _ = guard("check", "--model", sealed, "--json", "--exclude", "M1", "the garden has 99 plants")
    assert list(json.loads(out)["categories"]) == ["M2"]


def test_the_bundle_tells_where_it_comes_from(world: World, sealed: Path) -> None:
    bundle = open_bundle(sealed)
    manifest = bundle.manifest
    assert (manifest.name, manifest.kind, manifest.base) == ("garden", "mini", "base")
    assert manifest.data == world.record("run")["data"]
    assert 0 < manifest.parity["torch_vs_onnx"] <= 1e-3
    assert manifest.parity["alone_vs_batch"] <= 1e-3
    assert manifest.policy == RULES.digest
    assert bundle.calibration.prompt.slope != 1.0, "it was calibrated on the dev rows"
    assert str(world.folder) not in (sealed / "guard.json").read_text(encoding="utf-8")
    assert set(manifest.files) == {path.name for path in sealed.iterdir()} - {"guard.json"}


def test_an_export_leaves_what_is_there_alone(world: World, run: Path, sealed: Path) -> None:
    before = {path: digest(path) for path in sealed.iterdir()}
    _, err = guard("export", run, sealed, code=3)
    assert f"{sealed}: already exists" in err
    assert {path: digest(path) for path in sealed.iterdir()} == before
    assert not [path for path in world.folder.iterdir() if path.name.startswith(".")]


def test_an_export_without_dev_rows_leaves_nothing(world: World, run: Path) -> None:
    _, err = guard("export", run, world.folder / "none", "--data", world.folder / "base", code=3)
    assert "no dev rows to calibrate on" in err
    assert not (world.folder / "none").exists()
    assert not [path for path in world.folder.iterdir() if path.name.startswith(".")]


def test_a_bundle_is_a_base_and_jsonl_is_data(world: World, sealed: Path) -> None:
    labelled = [{"prompt": f"a {word} plant {n}", "label": label} for n in range(40) for word, label in LABELLED]
    text = "".join(json.dumps(one) + "\n" for one in labelled)
    (world.folder / "own.jsonl").write_text(text, encoding="utf-8")
    told, _ = world.train("2024", "epochs=1", data="own.jsonl", base="bundle")
    assert "resuming" not in told
    record = world.record("2024")
    assert record["base"] == "bundle"
    assert record["data"] == digest(world.folder / "own.jsonl")
    assert (world.folder / "2024" / "tokenizer.json").read_bytes() == (sealed / "tokenizer.json").read_bytes()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"change": "lerning_rate=1e-3"}, "unknown key `lerning_rate`; did you mean `learning_rate`?"),
        ({"data": "nowhere"}, "nowhere: no such file or folder"),
        ({"data": "safe"}, "only safe rows to train on under policy 'minimal'"),
        ({"base": "nowhere"}, "give a model folder, `mini` or `minilm`"),
        ({"change": "max_tokens=15"}, "max_tokens: must be greater than or equal to 16 (given: 15)"),
        ({"change": "max_tokens=257"}, "max_tokens must be <= 256"),
    ],
    ids=["key", "data", "one label", "base", "too short", "too long"],
)
def test_a_mistake_is_told_in_one_line(world: World, given: dict[str, str], told: str) -> None:
    change = given.pop("change", "epochs=1")
    _, err = world.train("mistaken", change, **given, code=2)
    assert err.startswith("guard: ")
    assert told in err
    assert len(err.splitlines()) == 1
    assert not (world.folder / "mistaken").exists()


RULED = ("forbidden {}", True), ("garden {}", False)


def rule_row(number: int, text: str, broken: bool) -> dict[str, Any]:
    """A row of `rules-train.parquet`: whether the text breaks the one rule that comes with it."""
    row = built_row(f"rule {number} {text}", text.format(number), ["R1"] if broken else [], role="rule", kind="text")
    return row | {"policy": [{"name": "forbidden", "definition": "no forbidden plant"}], "domain": "garden"}


def test_rows_of_rules_are_learnt_and_those_of_other_languages_left_out(world: World, tmp_path: Path) -> None:
    foreign = [row | {"language": "xx"} for row in rows(range(3))]
    splits = {"train": [*rows(range(8)), *foreign], "dev": rows(range(30, 33))}
    splits["rules-train"] = [rule_row(number, text, broken) for number in range(6) for text, broken in RULED]
    data = write_splits(tmp_path / "data", **splits)
    told, _ = world.train(str(tmp_path / "run"), "languages=[en]", "rules=0.5", "epochs=2", data=str(data))
    assert f"({len(rows(range(8)))} judged by rules of their own)" in told
    assert "done; next: guard export" in told


def test_rules_are_not_learnt_from_data_without_them(world: World, tmp_path: Path) -> None:
    _, told = world.train(str(tmp_path / "run"), "rules=0.5", code=2)
    assert "has no rows of rules (rules-train.parquet)" in told
    assert not (tmp_path / "run").exists()
