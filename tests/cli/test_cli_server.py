"""Commands that ask a running `guard serve`, and what they say when there is none."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from guard.cli import main
from tests.fixtures.served import started

OWN = "id: own-id\nversion: '1'\nname: Own\ncategories:\n  - {code: X1, name: Kumquats, definition: Small fruit.}\n"
ROWS = [
    {"prompt": "violates:X1 now", "label": "unsafe", "categories": ["X1"]},
    {"prompt": "how do I bake bread?", "label": "safe"},
    {"prompt": "hello", "response": "violates:X1", "label": "unsafe"},
    {"prompt": "hello", "response": "there", "label": "safe"},
]
Shell = Callable[..., tuple[int, str, str]]


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    """shell(argument, …): `guard` in this process; its exit code, stdout and stderr."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with a policy of its own, whose queue is smaller than a batch of rows."""
    folder = tmp_path_factory.mktemp("serve")
    (folder / "own.yaml").write_text(OWN)
    options = ("--policy", str(folder / "own.yaml"), "--max-queue", "100", "--mode", "strict")
    with started(folder / "stderr", *options) as process:
        yield process.address
        process.popen.terminate()
        assert process.popen.wait(20) == 0


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def test_a_text(shell: Shell, address: str) -> None:
    assert shell("check", "--server", address, "hello")[0] == 0
    code, out, _ = shell("check", "--server", address, "so violates:X1", "--json")
    assert (code, json.loads(out)["flagged"]) == (1, ["X1"])


def test_a_shipped_policy_and_an_excluded_category(shell: Shell, address: str) -> None:
    shipped = ("check", "--server", address, "--policy", "minimal", "violates:M1")
    assert shell(*shipped)[0] == 1
    assert shell(*shipped, "--exclude", "M1")[0] == 0


def test_a_policy_file_is_sent(shell: Shell, address: str, tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(OWN.replace("X1", "Y1"))
    _, out, _ = shell("check", "--server", address, "--policy", own, "violates:Y1", "--json")
    assert json.loads(out)["flagged"] == ["Y1"]


def test_rows_and_a_broken_one(shell: Shell, address: str, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "hi"}\n{broken\n{"id": "b", "prompt": "violates:X1", "response": "no"}\n')
    code, out, _ = shell("check", "--server", address, "--file", rows, "--json")
    answers = [json.loads(line) for line in out.splitlines()]
    assert code == 3
    assert [(answer["id"], answer["outcome"]) for answer in answers] == [("1", "SAFE"), ("2", "ERROR"), ("b", "SAFE")]


def test_the_servers_own_policy_by_name_and_the_names_of_its_categories(shell: Shell, address: str) -> None:
    code, out, err = shell("check", "--server", address, "--policy", "own-id", "violates:X1")
    assert (code, err) == (1, "")
    assert "X1 Kumquats" in out


def test_filter_keeps_the_same_rows_by_a_server(shell: Shell, address: str, rows: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(OWN)
    kept = []
    here = ("--model", "fake", "--policy", own, "--mode", "strict")
    for name, options in (("a", ("--server", address)), ("b", here)):
        out = tmp_path / f"{name}.jsonl"
        assert shell("filter", rows, out, *options)[0] == 0
        report = json.loads(Path(f"{out}.report.json").read_text())
        kept.append((out.read_bytes(), report))
    assert kept[0] == kept[1]
    assert (kept[0][1]["kept"], kept[0][1]["dropped"], kept[0][1]["mode"]) == (2, 2, "strict")


def test_filter_stops_where_the_server_is_gone_and_goes_on(shell: Shell, address: str, rows: Path) -> None:
    out = rows.with_name("out.jsonl")
    code, _, err = shell("filter", rows, out, "--server", "127.0.0.1:1")
    assert code == 3
    assert "127.0.0.1:1: cannot be reached" in err
    assert not out.exists()
    assert shell("filter", rows, out, "--server", address)[0] == 0


def test_more_rows_than_the_server_queues(shell: Shell, address: str, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"prompt": f"hello number {index}"}) + "\n" for index in range(300)))
    code, out, _ = shell("check", "--server", address, "--file", rows, "--json")
    assert code == 0
    assert [json.loads(line)["outcome"] for line in out.splitlines()] == ["SAFE"] * 300


def test_an_evaluation_of_a_server_is_that_of_its_model(shell: Shell, address: str, rows: Path, tmp_path: Path) -> None:
    code, out, _ = shell("eval", rows, "--server", address, "--json")
    assert code == 0
    own = tmp_path / "own.yaml"
    own.write_text(OWN)
    _, same, _ = shell("eval", rows, "--model", "fake", "--policy", own, "--mode", "strict", "--json")
    told, expected = json.loads(out), json.loads(same)
    assert told.pop("command") == f"guard eval {rows} --server {address} --mode strict"
    expected.pop("command")
    assert told == expected


def test_a_server_is_attacked(shell: Shell, address: str, rows: Path) -> None:
    options = (rows, "--attacks", "leet", "--json")
    code, out, _ = shell("redteam", "--server", address, "--versus", "fake", *options)
    assert code == 0
    first, second = json.loads(out)["guards"]
    assert (first["policy"]["id"], second["policy"]["id"]) == ("own-id", "mlcommons")
    assert first["attacks"][0]["fixed"]["flagged"] > 0


@pytest.mark.parametrize("command", [("check", "hello"), ("eval", "ROWS"), ("redteam", "ROWS")], ids=lambda c: c[0])
def test_no_server_ends_with_3_and_says_where(shell: Shell, command: tuple[str, str], rows: Path) -> None:
    name, what = command
    code, _, err = shell(name, rows if what == "ROWS" else what, "--server", "127.0.0.1:1")
    assert code == 3
    assert "Traceback" not in err
    assert "guard: " in err
    assert err.count("127.0.0.1:1: cannot be reached") == 1


@pytest.mark.parametrize("name", ["eval", "redteam"])
def test_a_server_and_a_model_exclude_each_other(shell: Shell, name: str, rows: Path) -> None:
    code, out, err = shell(name, rows, "--server", "127.0.0.1:1", "--model", "fake")
    assert (code, out) == (2, "")
    assert "give either `server`, or `model` and `threads`" in err


@pytest.mark.parametrize("command", ["check", "filter", "eval", "redteam"])
@pytest.mark.parametrize("address", ["", "nohost", ":50051"])
def test_an_address_that_is_none_is_a_usage_error(shell: Shell, rows: Path, command: str, address: str) -> None:
    more = [rows.with_name("out.jsonl")] if command == "filter" else []
    code, out, err = shell(command, rows, *more, "--server", address)
    assert (code, out) == (2, "")
    assert err == f"guard: --server must be HOST:PORT, like 127.0.0.1:50051 (got {address!r})\n"
