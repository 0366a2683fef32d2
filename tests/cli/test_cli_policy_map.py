"""`guard policy diff` and `guard policy map`: what they print, what they write, and how they end."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from guard import policy
from guard.cli import main

OLD = """\
id: mine
version: "1"
name: Mine
threshold: 0.5
categories:
  - code: A
    name: Alpha
    definition: first
    includes: [one, two]
    threshold: 0.25
  - {code: B, name: "[bold]Beta[/bold]", definition: second}
  - {code: C, name: Gamma, definition: third}
"""
NEW = """\
id: mine
version: "2"
name: Mine
categories:
  - {code: C, name: Gamma, definition: third}
  - code: A
    name: Alpha
    definition: "[red]first[/red] of all"
    includes: [two, three]
  - {code: D, name: Delta, definition: fourth}
"""
Shell = Callable[..., tuple[int, str, str]]


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    """Runs `guard policy` in this process and gives back exit code, stdout and stderr."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["policy", *map(str, arguments)])
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    paths = tmp_path / "old.yaml", tmp_path / "new.yaml"
    for path, text in zip(paths, (OLD, NEW), strict=True):
        path.write_text(text, encoding="utf-8")
    return paths


def test_diff_tells_what_changes(shell: Shell, files: tuple[Path, Path]) -> None:
    code, out, err = shell("diff", *files)
    assert (code, err) == (1, "")
    old, new = map(policy.load, files)
    assert out.splitlines() == [
        f"--- mine 1 {old.digest[:12]}",
        f"+++ mine 2 {new.digest[:12]}",
        "version",
        "  - 1",
        "  + 2",
        "threshold",
        "  - 0.5",
        "  + (none)",
        "order",
        "  - A, C",
        "  + C, A",
        "- B: [bold]Beta[/bold]",
        "+ D: Delta",
        "  A",
        "    definition",
        "      - first",
        "      + [red]first[/red] of all",
        "    includes",
        "      - one",
        "      + three",
        "    threshold",
        "      - 0.25",
        "      + (none)",
    ]


def test_diff_of_the_same_policy_ends_with_0(shell: Shell, files: tuple[Path, Path], tmp_path: Path) -> None:
    digest = policy.load("mlcommons").digest
    assert shell("diff", "mlcommons", "mlcommons") == (0, f"no difference: digest {digest}\n", "")
    copy = tmp_path / "copy.json"
    copy.write_text(json.dumps(policy.as_dict(policy.load(files[0]))), encoding="utf-8")
    code, out, _ = shell("diff", files[0], copy, "--json")
    assert (code, json.loads(out)["same"]) == (0, True)


def test_diff_tells_lines_in_another_order(shell: Shell, files: tuple[Path, Path]) -> None:
    files[1].write_text(OLD.replace("[one, two]", "[two, one]"), encoding="utf-8")
    code, out, _ = shell("diff", *files)
    assert code == 1
    assert out.splitlines()[2:] == ["  A", "    includes: same lines, reordered or repeated"]


def test_diff_json_has_every_field(shell: Shell, files: tuple[Path, Path]) -> None:
    code, out, _ = shell("diff", *files, "--json")
    assert code == 1
    told = json.loads(out)
    assert told["same"] is False
    assert told["digests"] == {"old": policy.load(files[0]).digest, "new": policy.load(files[1]).digest}
    assert told["fields"]["threshold"] == {"old": 0.5, "new": None}
    assert told["changed"]["A"]["includes"] == {"old": ["one", "two"], "new": ["two", "three"]}
    assert [category["code"] for category in (*told["removed"], *told["added"])] == ["B", "D"]
    assert told["order"] == {"old": ["A", "C"], "new": ["C", "A"]}


def test_map_shows_every_label(shell: Shell) -> None:
    code, out, err = shell("map", "mlcommons", "openai")
    assert (code, err) == (0, "")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines[0] == "mlcommons to openai-moderation"
    labels = [line.partition(" ")[0] for line in lines if line.startswith("S")]
    assert labels == list(policy.load("mlcommons").codes)
    assert "S1 is one of illicit/violent, violence" in lines
    assert "S2 is illicit" in lines
    assert "S6 outside expert advice is not covered" in lines
    assert "S8 unclear copying counts only where it is a crime" in lines
    assert "self-harm/intent S11" in lines
    assert any(line.startswith("harassment an insult is no hazard") for line in lines)


def test_map_of_some_labels(shell: Shell) -> None:
    code, out, _ = shell("map", "aegis2", "mlcommons", "Sexual (minor)", "pii")
    assert code == 0
    assert [line.split() for line in out.splitlines() if " is " in line] == [
        ["Sexual_minor", "is", "S4"],
        ["PII/Privacy", "is", "S7"],
    ]
    assert "may be violated" not in out


@pytest.mark.parametrize(
    ("origin", "target", "through", "label", "says"),
    [
        ("openai", "mlcommons", [], "harassment/threatening", {"says": "mapped", "codes": ["S1"]}),
        ("beavertails", "openai", ["mlcommons"], "self_harm", {"says": "mapped", "codes": ["self-harm"]}),
        ("pku_saferlhf", "mlcommons", [], "Drugs", {"says": "mapped", "codes": ["S2"]}),
        ("or_bench", "aegis2", ["mlcommons"], "privacy", {"says": "mapped", "codes": ["PII/Privacy"]}),
        ("polyguardmix", "llama-guard-2", ["mlcommons"], "S5",
         {"says": "outside", "reason": "S5: false accusations are not covered"}),
    ],
)  # fmt: skip
def test_map_json(shell: Shell, origin: str, target: str, through: list[str], label: str, says: object) -> None:
    code, out, _ = shell("map", origin, target, "--json")
    assert code == 0
    told = json.loads(out)
    known = policy.load(origin).id if origin in policy.shipped() else origin
    assert (told["from"], told["to"], told["through"]) == (known, policy.load(target).id, through)
    assert told["labels"][label] == says
    named = {code for entry in told["labels"].values() for code in entry.get("codes", ())}
    assert named | set(told["within"]) | set(told["beyond"]) == set(policy.load(target).codes)
    assert shell("map", origin, target, label, "--json")[1] == json.dumps(
        {**{key: told[key] for key in ("from", "to", "through")}, "labels": {label: says}}, indent=2
    ) + "\n"  # fmt: skip


def test_map_says_when_it_goes_through_the_hub(shell: Shell) -> None:
    assert shell("map", "aegis2", "openai")[1].startswith("aegis2 to openai-moderation through mlcommons\n")


def test_map_relabels_rows(shell: Shell, tmp_path: Path) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    rows = [
        {"prompt": "a", "label": "safe"},
        {"prompt": "b", "label": "unsafe", "categories": ["Sexual (minor)"]},
        {"prompt": "c", "label": "unsafe", "categories": ["Profanity"]},
        {"prompt": "d", "label": "unsafe", "categories": ["Needs Caution"]},
        {"prompt": "e", "label": "unsafe"},
    ]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    code, told, err = shell("map", "aegis2", "mlcommons", "--rows", source, "--out", out)
    assert (code, err) == (0, "")
    assert told.splitlines() == [
        "read 5 = safe 1 + unsafe 1 + became safe 1 + left out 2",
        "undecided about some codes: 0",
        "  left out, Needs_Caution: the label says that harm is doubtful: 1",
        "  left out, unsafe, but the row does not say which categories it violates: 1",
        f"wrote {out}",
    ]
    assert [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()] == [
        {"prompt": "a", "label": "safe", "categories": []},
        {"prompt": "b", "label": "unsafe", "categories": ["S4"]},
        {"prompt": "c", "label": "safe", "categories": []},
    ]
    first = out.read_bytes()
    code, told, _ = shell("map", "aegis2", "mlcommons", "--rows", source, "--out", out, "--json")
    assert (code, json.loads(told)["written"], out.read_bytes()) == (0, 3, first)


OWN = """\
name: mine
origin: mine
policy: mlcommons
title: Mine
mapped: {A: [S1], B: [S10]}
unmapped: {C: who knows}
beyond: {S2: n, S3: n, S4: n, S5: n, S6: n, S7: n, S8: n, S9: n, S11: n, S12: n, S13: n, S14: n}
"""


def test_map_takes_files_and_a_folder_of_your_own(shell: Shell, files: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "crosswalks").mkdir()
    own = tmp_path / "crosswalks" / "mine.yaml"
    own.write_text(OWN, encoding="utf-8")
    told = [json.loads(shell("map", files[0], target, "--taxonomy", tmp_path, "--json")[1])["labels"]["B"]["codes"]
            for target in ("mlcommons", "llama-guard-1")]  # fmt: skip
    assert told == [["S10"], ["O1"]]
    versions = json.loads(shell("map", *files, "--json")[1])
    assert versions["labels"]["B"] == {"says": "outside", "reason": "the other version does not have it"}
    own.write_text(OWN.replace("[S1]", "S1"), encoding="utf-8")
    code, out, err = shell("map", files[0], "mlcommons", "--taxonomy", tmp_path)
    assert (code, out) == (2, "")
    assert err == f"guard: {own}:5: mapped.A: must be a list (given: 'S1')\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["map", "mlcommons", "opnai"], "guard: no shipped policy 'opnai'; did you mean 'openai'?"),
        (["map", "nosuch", "openai"], "Crosswalks of native labels: aart, "),
        (["map", "no/such.yaml", "openai"], "guard: no/such.yaml: cannot be read: No such file or directory"),
        (
            ["map", "minimal", "openai"],
            "guard: no crosswalk minimal_to_openai-moderation, and none to mlcommons; write ",
        ),
        (["map", "mlcommons", "openai", "S77"], "openai-moderation does not list S77; it lists: S2, S4"),
        (["map", "mlcommons", "openai", "--rows", "in.jsonl"], "give --rows and --out together"),
        (["map", "mlcommons", "openai", "--out", "out.jsonl"], "give --rows and --out together"),
        (["map", "mlcommons", "openai", "S1", "--rows", "a", "--out", "b"], "CODES filter the table"),
        (
            ["map", "mlcommons", "openai", "--rows", "no.jsonl", "--out", "b"],
            "guard: no.jsonl: cannot be read: No such file or directory",
        ),
        (
            ["map", "mlcommons", "openai", "--rows", "bad.jsonl", "--out", "b"],
            "guard: bad.jsonl:1: not valid JSON: Expecting value at column 1",
        ),
        (
            ["map", "mlcommons", "openai", "--rows", "bad.jsonl", "--out", "no/b"],
            "guard: no/b: there is no folder ",
        ),
        (["map", "mlcommons", "openai", "--taxonomy", "nowhere"], "nowhere"),
        (["map", "mlcommons"], "Missing argument"),
        (["diff", "mlcommons"], "Missing argument"),
        (["diff", "mlcommons", "mlcomons"], "guard: no shipped policy 'mlcomons'; did you mean 'mlcommons'?"),
    ],
)
def test_usage_errors_end_with_2_and_say_why(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.jsonl").write_text("secret\n", encoding="utf-8")
    code, out, err = shell(*arguments)
    assert (code, out) == (2, "")
    assert told in " ".join(err.split())
    assert "secret" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["bad.jsonl"]


def test_the_commands_of_a_shell(tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "guard", "policy", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path, check=False)

    same, other = run("diff", "openai", "openai"), run("diff", "llama-guard-2", "mlcommons", "--json")
    assert (same.returncode, other.returncode) == (0, 1)
    assert json.loads(other.stdout)["same"] is False
    piped = run("map", "qwen3guard", "mlcommons", "--json")
    assert (piped.returncode, piped.stderr) == (0, "")
    assert json.loads(piped.stdout)["labels"]["Violent"]["codes"] == ["S1"]
