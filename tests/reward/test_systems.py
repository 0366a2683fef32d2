"""Reward systems are trained by their recipes on a small task, and prefer the better of unseen answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from guard import assets
from tests.fixtures import tiny_causal, tiny_encoder, tiny_reward, warm

# A comparison looks for a word in either answer, which is learnt suddenly: the rate must not have fallen by then.
STEADY = ("trainer.lr_scheduler_type=constant_with_warmup", "trainer.per_device_train_batch_size=4")
# By system: configuration, rows, changes. The rows say nothing by length or position.
TWINS = {
    "bt": ("reward-bt", "pairs", ("epochs=2",)),
    "helpsteer2": ("reward-bt", "rated", ("epochs=2",)),
    "steerlm": ("reward-bt", "rated", ("epochs=2",)),
    "armorm": ("reward-bt", "both", ("trainer.max_steps=100",)),
    "cloud": ("reward-bt", "pairs", ("reply_tokens=20", "epochs=2")),
    "pair": ("reward-pair", "pairs", ("epochs=4", "trainer.learning_rate=5e-3", *STEADY)),
    "verifier": ("reward-pair", "pairs", ("epochs=3",)),
    "genrm": ("reward-pair", "pairs", ("epochs=5", "trainer.learning_rate=5e-3")),
    "kto": ("reward-dpo", "pairs", ()),
    "dpo": ("reward-dpo", "pairs", ()),
}
COMMON = (
    *("max_tokens=256", "held_out=0.3", "epochs=2", "least_label_mass=0", "device=cpu"),
    *("trainer.learning_rate=1e-2", "trainer.gradient_accumulation_steps=1", "trainer.warmup_steps=5"),
)


def write_data(folder: Path) -> Path:
    pairs, rated = tiny_reward.pairs(), tiny_reward.rated()
    tiny_reward.write(folder / "pairs.jsonl", pairs)
    tiny_reward.write(folder / "rated.jsonl", rated)
    tiny_reward.write(folder / "both.jsonl", rated, pairs)
    return folder


def arguments(folder: Path, name: str) -> list[str]:
    """The command line of a system's recipe on the base and the data of `folder`."""
    config, data, changes = TWINS[name]
    base = "worded" if name == "pair" else "base"
    places = [f"base={folder / base}", f"data={folder / f'{data}.jsonl'}", f"out={folder / name}"]
    script, settings = (assets.asset(f"training/{path}") for path in ("recipes/reward.py", f"configs/{config}.yaml"))
    return [str(script), str(settings), f"system={name}", *places, *COMMON, *changes]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = write_data(tmp_path_factory.mktemp("systems"))
    for script, base in ((tiny_causal.__file__, "base"), (tiny_reward.__file__, "worded")):
        done = warm.python(script, folder / base)
        assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", TWINS)
def test_a_system_learns_the_task(folder, name):
    done = warm.python("-P", *arguments(folder, name))
    assert done.returncode == 0, done.stderr[-3000:]
    run = json.loads((folder / name / "run.json").read_text())
    assert run["system"] == name
    assert run["metrics"]["held_out"]["accuracy"] >= 0.9, done.stdout[-2000:]
    again = warm.python("-P", *arguments(folder, name))
    assert "is finished already" in again.stdout


@pytest.mark.slow
def test_an_encoder_learns_the_task_and_is_opened_again(tmp_path):
    write_data(tmp_path)
    assert warm.python(tiny_encoder.__file__, "base", tmp_path / "base").returncode == 0
    script, config = (
        assets.asset("training/recipes/reward_encoder.py"),
        assets.asset("training/configs/reward-mini.yaml"),
    )
    changes = ("max_tokens=64", "held_out=0.3", "epochs=12", "learning_rate=1e-3", "warmup_steps=5")
    places = (f"base={tmp_path / 'base'}", f"data={tmp_path / 'pairs.jsonl'}", f"out={tmp_path / 'run'}")
    done = warm.python("-P", script, config, *places, *changes)
    assert done.returncode == 0, done.stderr[-3000:]
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run["metrics"]["held_out"]["accuracy"] >= 0.9
    told = json.loads(
        warm.python("-m", "guard", "reward", "eval", tmp_path / "run", tmp_path / "pairs.jsonl", "--json").stdout
    )
    assert told["accuracy"]["value"] >= 0.9
    assert told["rows"] == run["metrics"]["held_out"]["rows"]
    assert told["rows"] + told["left_out"] == len(tiny_reward.pairs())


@pytest.mark.slow
def test_a_base_may_be_a_gguf_file(folder):
    script = (
        "import sys; from pathlib import Path; from tests.fixtures import tiny_gguf; "
        "tiny_gguf.write(*map(Path, sys.argv[1:]))"
    )
    assert warm.python("-c", script, folder / "base", folder / "base.gguf").returncode == 0
    pairs = folder / "pairs.jsonl"
    done = warm.python("-P", *arguments(folder, "bt"), f"base={folder / 'base.gguf'}", f"out={folder / 'gguf'}")
    assert done.returncode == 0, done.stderr[-3000:]
    told = warm.python("-m", "guard", "reward", "eval", folder / "gguf", pairs, "--json")
    assert json.loads(told.stdout)["accuracy"]["value"] >= 0.9
    graded = warm.python("-m", "guard", "reward", "eval", f"prompted:{folder / 'base.gguf'}", pairs, "--json")
    assert json.loads(graded.stdout)["system"] == "prompted"


@pytest.mark.slow
def test_helpsteer2_learns_the_only_attribute_or_asks_which(folder):
    def rated(**names):
        return [
            row | {"attributes": {name: row["attributes"][old] for old, name in names.items()}}
            for row in tiny_reward.rated()
        ]

    one = tiny_reward.write(folder / "one.jsonl", rated(helpfulness="quality"))
    done = warm.python("-P", *arguments(folder, "helpsteer2"), f"data={one}", f"out={folder / 'one'}")
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads((folder / "one" / "run.json").read_text())["metrics"]["held_out"]["accuracy"] >= 0.9
    two = tiny_reward.write(folder / "two.jsonl", rated(helpfulness="quality", verbosity="length"))
    for changes, told in (
        ((), "helpsteer2 learns one attribute, and its rows have length, quality; give attribute=NAME"),
        (("attribute=helpfulness",), "no row has the attribute 'helpfulness'; they have: length, quality"),
        (('attributes=["quality"]',), "helpsteer2 learns one attribute; give attribute=NAME instead of attributes"),
    ):
        refused = warm.python("-P", *arguments(folder, "helpsteer2"), f"data={two}", f"out={folder / 'two'}", *changes)
        assert refused.returncode == 2
        assert told in refused.stderr
        assert not (folder / "two").exists()


@pytest.mark.slow
def test_a_row_without_what_a_system_needs_is_refused(folder):
    rows = tiny_reward.write(folder / "bare.jsonl", [{"id": "7", "prompt": "Zebrafinch?", "response": "Zebrafinch."}])
    bare = [*arguments(folder, "bt"), f"data={rows}", f"out={folder / 'bare'}", "held_out=0"]
    done = warm.python("-P", *bare)
    assert done.returncode == 2
    assert "bt needs the column chosen and rejected, which row '7' lacks" in done.stderr
    assert "Zebrafinch" not in done.stderr + done.stdout
    assert not (folder / "bare").exists()
