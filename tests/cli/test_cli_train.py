"""`guard train --copy`, recipes and configs of a user's own, and names that do not exist."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from guard import assets
from guard.cli import main

RECIPE = """
import json, sys
from pathlib import Path
Path(sys.argv[1]).with_suffix(".json").write_text(json.dumps(sys.argv[1:]))
"""


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["train", *map(str, arguments)])
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out, captured.err


@pytest.mark.parametrize(
    ("name", "file", "shipped", "told"),
    [
        ("lora-1gpu", "lora-1gpu.yaml", "training/configs", "run: guard train {} [KEY=VALUE …]"),
        ("encoder.yaml", "encoder.yaml", "training/configs", "run: guard train {} [KEY=VALUE …]"),
        ("data-default", "data-default.yaml", "training/configs", "run: guard data build {} --root DIR --out DIR"),
        ("transfer", "transfer.yaml", "training/configs", "run: guard eval transfer {} [KEY=VALUE …]"),
        ("sft", "sft.py", "training/recipes", "run: guard train {} CONFIG [KEY=VALUE …]; its configs: cpu-tiny"),
        ("encoder.py", "encoder.py", "training/recipes", "run: guard train {} CONFIG"),
    ],
)
def test_a_shipped_file_is_copied_once_and_says_how_it_is_run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str, file: str, shipped: str, told: str
) -> None:
    copied = tmp_path / file
    code, out, _ = run(capsys, "--copy", name, tmp_path)
    assert code == 0
    assert out.startswith(f"wrote {copied}\nedit: ")
    assert told.format(copied) in out
    assert copied.read_bytes() == assets.asset(f"{shipped}/{file}").read_bytes()
    copied.write_text("mine")
    code, _, err = run(capsys, "--copy", name, tmp_path)
    assert (code, err) == (2, f"guard: {copied}: already exists; move it away, or give another folder\n")
    assert copied.read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--copy", "encoder"], "is a recipe and a config; give encoder.py or encoder.yaml"),
        (["--copy", "lora-1gp"], "no such recipe or config; did you mean lora-1gpu? It must be a recipe (distill, "),
        (["--copy", "zzz"], "no such recipe or config; it must be a recipe (distill, "),
        (["--copy", "sft", "nowhere"], "nowhere: there is no such folder; create it first"),
        (["--copy", "sft", ".", "a=1"], "--copy NAME [FOLDER] trains nothing"),
        (["--copy", "sft", "--base", "mini"], "--copy NAME [FOLDER] trains nothing"),
        (["lora-1gp"], "no config 'lora-1gp'; did you mean lora-1gpu? It must be a file or one of cpu-tiny, "),
        (["zzz"], "no config 'zzz'; it must be a file or one of cpu-tiny, "),
        (["nowhere.py", "lora-1gpu"], "nowhere.py: no such recipe; copy a shipped one: guard train --copy NAME.py"),
        (["mine.py"], "mine.py: a recipe needs a config; run: guard train mine.py CONFIG"),
        (["mine.yaml"], "mine.yaml: key `recipe` names no shipped recipe; did you mean encoder? It must be one of "),
        (["list.yaml"], "list.yaml: key `recipe` names no shipped recipe; it must be one of "),
    ],
)
def test_a_wrong_name_is_one_line_with_the_nearest_one(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").touch()
    (tmp_path / "mine.yaml").write_text("recipe: encodr\n")
    (tmp_path / "list.yaml").write_text("- 1\n")
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert told in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("config", ["mine.yaml", "lora-1gpu"])
def test_a_recipe_of_ones_own_is_run_by_its_path(tmp_path: Path, config: str) -> None:
    pytest.importorskip("torch")
    (tmp_path / "mine.py").write_text(RECIPE.replace('Path(sys.argv[1]).with_suffix(".json")', 'Path("said.json")'))
    (tmp_path / "mine.yaml").write_text("recipe: whatever\n")
    command = [sys.executable, "-m", "guard", "train", "mine.py", config, "seed=3", "--out", "runs/7"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    path, *changes = json.loads((tmp_path / "said.json").read_text())
    assert Path(path).name == f"{config.removesuffix('.yaml')}.yaml"
    assert changes == ["seed=3", 'out="runs/7"']


def test_a_config_of_ones_own_is_read_by_the_recipe_that_it_names(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    text = assets.asset("training/configs/encoder-custom.yaml").read_text(encoding="utf-8")
    (tmp_path / "mine.yaml").write_text(text.replace("epochs: 5", "epochs: -5"))
    command = [sys.executable, "-m", "guard", "train", "mine.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert "mine.yaml" in done.stderr
    assert "epochs" in done.stderr
    assert "Traceback" not in done.stderr
