"""What a run is made of: paths that hold everywhere, contents that tell one file from another at the same place."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from guard import policy
from guard.errors import BundleError, ConfigError
from guard.train.common.identity import MODEL_FILES, check_unchanged, claim, contents, digests, made_of, resolved

RULES = policy.load("minimal")


@dataclass(frozen=True)
class Again:
    policy: str = "mlcommons"
    data: str | None = None
    share: float = 0.2


@dataclass(frozen=True)
class Config:
    data: str = "rows.jsonl"
    base: str = "base"
    policy: str = "minimal"
    out: str = "run"
    columns: str | None = None
    other_policies: tuple[str, ...] = ("openai", "./own.yaml")
    replay: Again = field(default_factory=Again)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text("{}", encoding="utf-8")
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "own.yaml").write_text(policy.dump(RULES), encoding="utf-8")
    return tmp_path


def test_paths_become_absolute_and_names_stay(here: Path) -> None:
    found = resolved(Config(columns="columns.yaml", replay=Again(data="old")))
    assert (found.data, found.base, found.out) == tuple(str(here / name) for name in ("rows.jsonl", "base", "run"))
    assert (found.columns, found.replay.data) == (str(here / "columns.yaml"), str(here / "old"))
    assert (found.policy, found.other_policies) == ("minimal", ("openai", str(here / "own.yaml")))
    assert resolved(found) == found
    for name in ("mini", "minilm", "org/model"):
        assert resolved(Config(base=name)).base == name
    assert resolved(Config()).columns is None


def test_a_folder_is_told_by_what_is_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "base"
    (folder / "run").mkdir(parents=True)
    (folder / "config.json").write_text("{}", encoding="utf-8")
    (folder / "model.safetensors").write_bytes(b"weights")
    before = contents(folder, MODEL_FILES)
    (folder / "checkpoint.pt").write_bytes(b"x")
    (folder / "run" / "run.json").write_text("{}", encoding="utf-8")
    assert contents(folder, MODEL_FILES) == before
    (folder / "model.safetensors").write_bytes(b"weighty")
    assert contents(folder, MODEL_FILES) != before
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    assert contents(folder, MODEL_FILES) != before


def test_every_input_has_its_digest(here: Path) -> None:
    (here / "old.jsonl").write_text("{}", encoding="utf-8")
    (here / "columns.yaml").write_text("{}", encoding="utf-8")
    config = resolved(Config(columns="columns.yaml", replay=Again(data="old.jsonl")))
    before = digests(config, RULES, here / "base")
    for name, key in (("rows.jsonl", "data"), ("old.jsonl", "replay"), ("columns.yaml", "columns")):
        (here / name).write_text("{} ", encoding="utf-8")
        now = digests(config, RULES, here / "base")
        assert [key for key in now if now[key] != before[key]] == [key]
        before = now
    (here / "base" / "model.safetensors").write_bytes(b"weighty")
    now = digests(config, policy.load("mlcommons"), here / "base")
    assert [key for key in now if now[key] != before[key]] == ["base", "policy"]


def test_a_run_made_of_other_contents_is_refused(here: Path) -> None:
    config = resolved(Config())
    made = made_of(config, ("out",), digests(config, RULES, here / "base"))
    assert "out" not in made
    claim(here / "run", made)
    claim(here / "run", made)
    (here / "rows.jsonl").write_text("{ }", encoding="utf-8")
    other = made_of(config, ("out",), digests(config, RULES, here / "base"))
    with pytest.raises(ConfigError, match=r"run: holds a run that differs in digests\.data \(was .*, is .*--out"):
        claim(here / "run", other)
    assert json.loads((here / "run" / "started.json").read_text(encoding="utf-8")) == made


def test_the_export_tells_what_has_changed_since() -> None:
    record = {"digests": {"data": "a" * 64}}
    check_unchanged(record, "data", "a" * 64, "rows.jsonl", "restore it")
    with pytest.raises(BundleError, match=r"rows\.jsonl: .* digest of the data was a{12}, is now b{12}; restore it"):
        check_unchanged(record, "data", "b" * 64, "rows.jsonl", "restore it")


HOLDER = """
import sys
from pathlib import Path
from guard.train.common.identity import claim
claim(Path(sys.argv[1]), {"recipe": "sft"})
print("held", flush=True)
sys.stdin.read()
"""


def test_a_folder_is_one_process_s_until_it_ends(tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [sys.executable, "-c", HOLDER, str(out)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(ConfigError, match="another process trains there"):
            claim(out, {"recipe": "sft"})
        other.communicate("")
    claim(out, {"recipe": "sft"})
    claim(out, {"recipe": "sft"})  # the same process goes on
