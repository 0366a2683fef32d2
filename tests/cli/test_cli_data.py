"""`guard data` as a user runs it."""

import json

import pytest

from guard.cli import main
from tests.fixtures import made_up_garden


@pytest.fixture
def world(tmp_path):
    return made_up_garden.make(tmp_path)


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(["data", *map(str, arguments)])
    captured = capsys.readouterr()
    return ended.value.code, captured.out, captured.err


def test_list_shows_every_source_and_its_licence(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    code, out, _ = run(capsys, "list", "--json")
    rows = json.loads(out)
    assert code == 0
    code, out, _ = run(capsys, "list")
    assert code == 0
    for row in rows:
        line = next(line for line in out.splitlines() if line.split()[:1] == [row["name"]])
        assert f" {row['licence']} " in line
        assert line.rstrip().endswith(row["title"])


def test_build_prints_where_the_rows_went(capsys, world, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")  # no cell folds
    # That a build comes with its reports is tested where those are (tests/data/dataset/test_card.py).
    given = ("build", world.config, "--root", world.root, "--no-report", "--jobs", 1)
    arguments = (*given, "--out", tmp_path / "out")
    code, out, err = run(capsys, *arguments)
    assert (code, err) == (0, "")
    line = next(line for line in out.splitlines() if "gardens" in line)
    assert "held-out benchmark 1, label conflict 2, repeated in source 1, unlabelled 1" in line
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["data_digest"][:12] in out
    (tmp_path / "out" / "card.html").write_text("of the build before", encoding="utf-8")
    _, out, _ = run(capsys, *arguments, "--json")
    assert json.loads(out) == manifest
    assert not (tmp_path / "out" / "card.html").exists()


@pytest.mark.slow
def test_any_number_of_processes_builds_the_same_and_tells_the_same_mistake(capsys, world, tmp_path):
    built = []
    for jobs in (1, 2, 3):
        arguments = ("build", world.config, "--root", world.root, "--no-report", "--jobs", jobs, "--json")
        code, out, err = run(capsys, *arguments, "--out", tmp_path / f"out-{jobs}")
        assert (code, err) == (0, "")
        built.append((json.loads(out), {path.name: path.read_bytes() for path in (tmp_path / f"out-{jobs}").iterdir()}))
    assert built[0] == built[1] == built[2]
    with (world.root / "raw" / "talks.jsonl").open("a", encoding="utf-8") as stream:
        stream.write("{")
    code, _, err = run(capsys, *arguments, "--out", tmp_path / "broken")
    assert code == 2
    assert err.startswith("guard: raw/talks.jsonl row 51: not valid JSON")
    assert err.count("\n") == 1


def test_a_count_mismatch_is_one_line_or_a_warning(capsys, world, tmp_path):
    world.edit(world.source("fences"), "before: {total: 2, safe: 1,", "before: {total: 3, safe: 2,")
    arguments = ("build", world.config, "--root", world.root, "--out", tmp_path / "out", "--jobs", 1, "--no-report")
    code, _, err = run(capsys, *arguments)
    assert code == 2
    assert err.count("\n") == 1
    assert "source fences: total rows before decontamination: expected 3, got 2" in err
    code, _, err = run(capsys, *arguments, "--allow-count-mismatch")
    assert code == 0
    assert "warning: source fences: total rows before decontamination: expected 3, got 2" in err


def test_check_compares_every_source(capsys, world):
    arguments = ("check", "--root", world.root, "--taxonomy", world.taxonomy)
    code, out, err = run(capsys, *arguments)
    assert (code, err) == (0, "")
    assert out.count(" ok ") == 4
    world.edit(world.source("notes"), "after: {total: 31", "after: {total: 30")
    code, out, err = run(capsys, *arguments)
    assert code == 2
    assert out.count(" ok ") == 3
    assert err == "source notes: total rows after decontamination: expected 30, got 31\n"
    code, out, _ = run(capsys, *arguments, "gardens")
    assert code == 0
    assert out.count(" ok ") == 1


def test_a_broken_row_is_one_line_with_file_and_number(capsys, world, tmp_path):
    with (world.root / "raw" / "talks.jsonl").open("a", encoding="utf-8") as stream:
        stream.write('{"question": {"text": "canary"\n')
    code, _, err = run(capsys, "build", world.config, "--root", world.root, "--out", tmp_path / "out", "--jobs", 1)
    assert code == 2
    assert err == "guard: raw/talks.jsonl row 51: not valid JSON: Expecting ',' delimiter at column 31\n"
