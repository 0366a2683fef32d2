"""`guard policy`: what each command prints, and how it ends."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from guard import policy
from guard.cli import main

BROKEN = 'id: mine\nversion: 1\nname: "[bold]Mine[/bold]"\ncategories:\n  - {code: A, name: A, definitoin: x}\n'
GOOD = (
    'id: mine\nversion: "1"\nname: Mine\nthreshold: 0.75\ncategories:\n'
    '  - {code: A, name: "[bold]Alpha[/bold] :smile:", definition: first, threshold: 0.25}\n'
)


@dataclass
class Shell:
    """Runs `guard policy` in this process and gives back exit code, stdout and stderr."""

    capsys: pytest.CaptureFixture[str]

    def __call__(self, *arguments: str | Path) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["policy", *map(str, arguments)])
        captured = self.capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.setenv("COLUMNS", "200")
    return Shell(capsys)


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.yaml"
    path.write_text(GOOD, encoding="utf-8")
    return path


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    path = tmp_path / "broken.yaml"
    path.write_text(BROKEN, encoding="utf-8")
    return path


def test_list_shows_every_shipped_policy(shell: Shell) -> None:
    code, out, err = shell("list")
    assert (code, err) == (0, "")
    rows = [line.split() for line in out.splitlines()]
    for name in policy.shipped():
        found = policy.load(name)
        assert [name, found.id, found.version, str(len(found.codes)), found.digest[:12]] in rows


def test_list_json(shell: Shell) -> None:
    code, out, _ = shell("list", "--json")
    assert code == 0
    minimal = policy.load("minimal")
    assert {
        "name": "minimal",
        "id": "minimal",
        "version": "1",
        "categories": 2,
        "digest": minimal.digest,
    } in json.loads(out)


def test_show_for_people(shell: Shell, good: Path) -> None:
    code, out, err = shell("show", good)
    assert (code, err) == (0, "")
    head, digest, threshold, *table = out.splitlines()
    assert head == "Mine (id mine, version 1)"
    assert digest == f"digest {policy.load(good).digest}"
    assert threshold == "unsafe from 0.75"
    assert any(line.split() == ["A", "[bold]Alpha[/bold]", ":smile:", "first", "0.25"] for line in table), (
        "policy text is no markup"
    )


def test_show_of_a_shipped_policy_names_every_category(shell: Shell) -> None:
    code, out, _ = shell("show", "mlcommons")
    assert code == 0
    words = [line.split()[0] for line in out.splitlines() if line.strip()]
    assert [word for word in words if word.startswith("S")] == [f"S{number}" for number in range(1, 15)]


def test_show_json_has_every_field_and_the_digest(shell: Shell, good: Path) -> None:
    code, out, _ = shell("show", good, "--json")
    assert code == 0
    assert json.loads(out) == {
        "id": "mine",
        "version": "1",
        "name": "Mine",
        "description": "",
        "threshold": 0.75,
        "categories": [
            {
                "code": "A",
                "name": "[bold]Alpha[/bold] :smile:",
                "definition": "first",
                "includes": [],
                "excludes": [],
                "threshold": 0.25,
            }
        ],
        "digest": policy.load(good).digest,
    }


def test_show_yaml_is_a_policy_file(shell: Shell, tmp_path: Path) -> None:
    code, out, _ = shell("show", "openai", "--yaml")
    assert code == 0
    copy = tmp_path / "copy.yaml"
    copy.write_text(out, encoding="utf-8")
    assert policy.load(copy).digest == policy.load("openai").digest
    assert next(iter(yaml.safe_load(out))) == "id"


def test_new_writes_a_policy_that_is_valid_and_says_what_to_do_next(shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    code, out, _ = shell("new", path)
    assert code == 0
    assert f"guard policy validate {path}" in out
    assert shell("validate", path)[:2] == (0, f"ok {path} {policy.load('minimal').digest}\n")
    assert "#" in path.read_text(encoding="utf-8"), "the comments come along"


def test_new_leaves_a_file_alone_that_is_there(shell: Shell, good: Path) -> None:
    code, out, err = shell("new", good)
    assert (code, out) == (2, "")
    assert err == f"guard: {good}: already exists; choose another name\n"
    assert good.read_text(encoding="utf-8") == GOOD


def test_validate_tells_every_mistake_of_every_file(shell: Shell, good: Path, broken: Path, tmp_path: Path) -> None:
    missing = tmp_path / "missing.yaml"
    code, out, err = shell("validate", broken, good, missing)
    assert code == 2
    assert out == f"ok {good} {policy.load(good).digest}\n"
    assert err.splitlines() == [
        f"{broken}:2: version: must be text; put the value in quotes (given: 1)",
        f"{broken}:5: required key `categories.0.definition` is missing",
        f"{broken}:5: unknown key `definitoin`; did you mean `definition`? Allowed: code, definition, excludes, "
        "includes, name, threshold",
        f"{missing}: cannot be read: No such file or directory",
    ]


def test_schema_prints_the_schema_of_the_tree(shell: Shell) -> None:
    code, out, _ = shell("schema")
    assert code == 0
    assert json.loads(out) == policy.json_schema()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["show", "mlcomons"], "guard: no shipped policy 'mlcomons'; did you mean 'mlcommons'? Shipped: aegis2,"),
        (["show", "no/such.yaml"], "guard: no/such.yaml: cannot be read: No such file or directory"),
        (["show", "minimal", "--json", "--yaml"], "give one of --json and --yaml"),
        (["show"], "Missing argument"),
        (["new", "no-such-folder/x.yaml"], "guard: no-such-folder/x.yaml: there is no folder "),
        (["new", "x.txt"], "guard: x.txt: a policy file must end in .yaml or .yml"),
        (["validate"], "Missing argument"),
        (["validate", "."], "cannot be read: Is a directory"),
        (["remove"], "No such command"),
    ],
)
def test_usage_errors_end_with_2_and_say_why(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = shell(*arguments)
    assert (code, out) == (2, "")
    assert told in err
    assert list(tmp_path.iterdir()) == []


def test_json_stays_json_through_a_pipe() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "guard", "policy", "show", "mlcommons", "--json"], capture_output=True, check=True
    )
    assert json.loads(done.stdout)["digest"] == policy.load("mlcommons").digest
    assert done.stderr == b""
