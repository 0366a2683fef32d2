"""`guard redteam`: what it prints and writes, and what it refuses."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from guard.cli import main
from guard.evaluate.redteam.attacks import KINDS

FAKE = ("--model", "fake", "--policy", "minimal")
FEW = ("--attacks", "leet,words_on_lines,suffix_search", "--budget", "20")


@dataclass
class Shell:
    """Runs `guard redteam` in this process and gives back exit code, stdout and stderr."""

    capsys: pytest.CaptureFixture[str]

    def __call__(self, *arguments: str | Path) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["redteam", *map(str, arguments)])
        captured = self.capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err


@pytest.fixture
def shell(capsys):
    return Shell(capsys)


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for number in range(6):
            file.write(json.dumps({"prompt": f"the violates:M1 canary {number}", "label": "unsafe"}) + "\n")
            file.write(json.dumps({"prompt": f"bread {number}", "label": "safe"}) + "\n")
    return path


def test_a_table_for_people(shell, rows, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")  # so that no name is folded
    code, out, err = shell(rows, *FAKE, *FEW)
    assert code == 0
    assert "texts scored in" in err
    cells = {line.split()[0]: line.split() for line in out.splitlines() if line.strip()}
    assert cells["leet"][1:5] == ["1.000", "1.000", "…", "1.000"]
    assert cells["words_on_lines"][1] == "0.000"
    assert "rows.jsonl: 6 unsafe and 6 safe texts, 0 rows left out" in out
    assert "without attack: recall 1.000 at FPR 0.000 (allowed 0.05), balanced: recall 1.000" in out
    assert "canary" not in out + err


def test_json_and_a_report_that_are_the_same_each_time(shell, rows, tmp_path):
    report = tmp_path / "report.json"
    code, out, _ = shell(rows, *FAKE, *FEW, "--json", "--out", report)
    assert code == 0
    assert out == report.read_text(encoding="utf-8")
    assert shell(rows, *FAKE, *FEW, "--json")[1] == out
    told = json.loads(out)
    assert [attack["name"] for attack in told["guards"][0]["attacks"]] == [
        "leet",
        "words_on_lines",
        "suffix_search",
    ]
    assert told["set"]["unsafe"] == 6
    assert "differences" not in told
    assert "canary" not in out


def test_the_command_in_the_report_gives_it_again(shell, rows):
    _, out, _ = shell(rows, *FAKE, *FEW, "--seed", "3", "--json")
    command = json.loads(out)["command"]
    assert command.startswith("guard redteam ")
    again = subprocess.run(
        f"{sys.executable} -m {command} --json",
        shell=True,
        capture_output=True,
        text=True,
        env=os.environ,
        check=True,
        timeout=60,
    )
    assert again.stdout == out


def test_two_guards_side_by_side(shell, rows):
    code, out, _ = shell(rows, *FAKE, *FEW, "--versus", "fake")
    assert code == 0
    assert "guard 2: model" in out
    lines = [line.split() for line in out.splitlines() if "leet" in line]
    assert len(lines) == 2  # at either point
    assert "0.000" in lines[0]
    _, out, _ = shell(rows, *FAKE, *FEW, "--versus", "fake", "--json")
    assert json.loads(out)["differences"][0]["fixed"]["difference"] == 0.0


def test_texts_only_where_they_are_asked_for_and_escaped(shell, rows):
    rows.write_text(rows.read_text(encoding="utf-8").replace("canary", "canary\u2660"), encoding="utf-8")
    _, out, _ = shell(rows, *FAKE, "--attacks", "words_joined", "--show-text")
    assert r"canary\u2660" in out
    assert all(character.isascii() or character in "─…" for character in out)
    _, out, _ = shell(rows, *FAKE, "--attacks", "words_joined", "--show-text", "--json")
    assert len(json.loads(out)["guards"][0]["attacks"][0]["texts"]) == 6


def test_the_seeds_are_the_default(shell):
    """The fake engine takes seeds for safe: there is nothing to attack, and the run says so by dashes."""
    code, out, _ = shell("--model", "fake", "--rows", "5", "--attacks", "noise", "--fpr", "0", "--json")
    assert code == 0
    told = json.loads(out)
    assert (told["set"]["name"], told["set"]["unsafe"], told["set"]["safe"]) == ("seeds", 5, 5)


def test_the_help_names_every_kind(shell):
    code, out, _ = shell("--help")
    assert code == 0
    joined = " ".join(out.replace("│", " ").split())
    assert all(kind in joined for kind in KINDS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "nothing"),
        (["missing.jsonl"], "missing.jsonl: cannot be read"),
        (["rows.jsonl", "--mode", "brave"], "'brave' is not one of 'strict', 'balanced', 'permissive'"),
        (["rows.jsonl", "--attacks", "lee"], "no attack 'lee'"),
        (["rows.jsonl", "--fpr", "1"], "fpr must be >= 0 and < 1"),
        (["rows.jsonl", "--longest", "3"], "no unsafe text of at most 3 characters"),
        (["rows.jsonl", "--out", "no/folder/report.json"], "there is no folder"),
        (["rows.jsonl", "--attacks", "leet", "--out", "."], "is a folder; give the name of a file"),
        (["broken.jsonl"], "broken.jsonl row 2: has no field `label`"),
    ],
)
def test_bad_input_ends_with_2(shell, rows, monkeypatch, arguments, message):
    monkeypatch.chdir(rows.parent)
    Path("broken.jsonl").write_text('{"prompt": "canary", "label": "safe"}\n{"prompt": "canary"}\n', encoding="utf-8")
    code, out, err = shell(*arguments, *FAKE)
    assert (code, out) == (2, "")
    assert message in err
    assert "canary" not in err
