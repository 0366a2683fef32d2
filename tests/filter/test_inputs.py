"""guard.filter: inputs of every kind and format, and what is wrong with them."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from guard.errors import ConfigError, DataError
from guard.filter.columns import parse_columns
from guard.filter.job import Job
from guard.filter.run import filter_rows
from guard.moderator import open_moderator

pa = pytest.importorskip("pyarrow")
FAKE = open_moderator("fake", policy="minimal")
SAFE, UNSAFE = '{"prompt": "good morning"}\n', '{"prompt": "please violates:M1 now"}\n'


def job(inputs, out: Path, **options) -> Job:
    return Job(inputs, out, out.with_name(f"{out.name}.quarantine.jsonl"), **options)


def zst(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


def prompts(path: Path) -> list[str]:
    return [json.loads(line)["prompt"] for line in path.read_text().splitlines()]


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two rows in each of four files, below which links lead back."""
    given = tmp_path / "given"
    (given / "b" / "c").mkdir(parents=True)
    (given / "a.jsonl").write_text(SAFE + UNSAFE)
    (given / "b" / "d.jsonl.gz").write_bytes(gzip.compress((UNSAFE + SAFE).encode()))
    (given / "b" / "c" / "e.jsonl.zst").write_bytes(zst((SAFE + UNSAFE).encode()))
    (given / "z.ndjson").write_text(SAFE + SAFE.replace("good", "fine"))
    (given / "README").write_text("no rows")
    (given / "notes.txt").write_text("no rows")
    (given / "b" / "again").symlink_to(given, target_is_directory=True)
    return given


def test_a_folder_becomes_one_file_or_a_folder_with_the_same_names(folder, tmp_path):
    one = filter_rows(job([folder], tmp_path / "kept.jsonl.gz"), FAKE)
    assert (one.read, one.kept, one.dropped) == (8, 5, 3)
    rows = [
        json.loads(line)["prompt"] for line in gzip.decompress((tmp_path / "kept.jsonl.gz").read_bytes()).splitlines()
    ]
    assert rows == ["good morning"] * 4 + ["fine morning"]
    many = filter_rows(job([folder], tmp_path / "kept"), FAKE)
    assert many.kept == 5
    assert one.groups == many.groups == {"a.jsonl": 2, "b/c/e.jsonl.zst": 2, "b/d.jsonl.gz": 2, "z.ndjson": 2}
    assert prompts(tmp_path / "kept" / "z.ndjson") == ["good morning", "fine morning"]
    assert len(gzip.decompress((tmp_path / "kept" / "b" / "d.jsonl.gz").read_bytes()).splitlines()) == 1
    with pa.input_stream(str(tmp_path / "kept" / "b" / "c" / "e.jsonl.zst"), compression="zstd") as stream:
        assert json.loads(stream.read())["prompt"] == "good morning"


def test_globs_and_overlapping_inputs_give_each_file_once(folder, tmp_path):
    tally = filter_rows(job([str(folder / "*.jsonl"), folder / "a.jsonl", f"{folder}/z.*"], tmp_path / "k.jsonl"), FAKE)
    assert tally.groups == {"a.jsonl": 2, "z.ndjson": 2}


def test_standard_input_is_read_to_the_end_and_no_copy_stays(tmp_path):
    command = [sys.executable, "-m", "guard", "filter", "-", str(tmp_path / "k.jsonl")]
    command += ["--model", "fake", "--policy", "minimal", "--no-report"]
    done = subprocess.run(command, input=(SAFE + UNSAFE).encode(), capture_output=True, check=True)
    assert done.stdout.startswith(b"read 2 = kept 1 + dropped 1")
    assert sorted(path.name for path in tmp_path.glob("k.jsonl*")) == [
        "k.jsonl",
        "k.jsonl.quarantine.jsonl",
        "k.jsonl.report.json",
    ]


@pytest.mark.parametrize("splits", [False, True])
def test_a_saved_data_set_becomes_one(splits, tmp_path):
    datasets = pytest.importorskip("datasets")
    data = datasets.Dataset.from_dict(
        {"prompt": ["hi", "violates:M1", "hello"], "label": [0, 1, 0]},
        features=datasets.Features(
            {"prompt": datasets.Value("large_string"), "label": datasets.ClassLabel(names=["fine", "bad"])}
        ),
    )
    saved = datasets.DatasetDict({"train": data, "test": data.select([0])}) if splits else data
    saved.save_to_disk(tmp_path / "given")
    filter_rows(job([tmp_path / "given"], tmp_path / "kept"), FAKE)
    kept = datasets.load_from_disk(tmp_path / "kept")
    kept = kept["train"] if splits else kept
    assert kept["prompt"][:] == ["hi", "hello"]
    assert kept.features["label"].names == ["fine", "bad"]
    assert kept["guard_outcome"][:] == ["SAFE", "SAFE"]


def test_arrow_files_of_both_formats_and_odd_types(tmp_path):
    table = pa.table(
        {
            "prompt": pa.array(["hi", None, "violates:M2"], pa.large_string()),
            "kind": pa.array(["a", "b", "a"]).dictionary_encode(),
            "turns": pa.array([[{"role": "user", "n": 1}], [], None]),
        }
    )
    with pa.ipc.new_file(tmp_path / "file.arrow", table.schema) as writer:
        writer.write_table(table)
    with pa.ipc.new_stream(tmp_path / "stream.arrow", table.schema) as writer:
        writer.write_table(table)
    tally = filter_rows(job([tmp_path / "file.arrow", tmp_path / "stream.arrow"], tmp_path / "k.arrow"), FAKE)
    assert (tally.kept, tally.dropped, tally.quarantined) == (2, 2, 2)
    kept = pa.ipc.open_stream(tmp_path / "k.arrow").read_all()
    assert kept.schema.types[:3] == table.schema.types
    assert kept.select(table.column_names).to_pylist() == [table.slice(0, 1).to_pylist()[0]] * 2
    entries = [json.loads(line) for line in (tmp_path / "k.arrow.quarantine.jsonl").read_text().splitlines()]
    assert [(Path(entry["file"]).name, entry["line"]) for entry in entries] == [("file.arrow", 2), ("stream.arrow", 2)]


def test_tables_of_different_columns_need_a_folder(tmp_path):
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"prompt": ["a"], "n": [1]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"prompt": ["b"], "n": ["x"]}), tmp_path / "b.parquet")
    both = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    with pytest.raises(
        DataError, match=r"b.parquet: cannot follow .*a.parquet.*`n` is string, not int64; give a folder"
    ):
        filter_rows(job(both, tmp_path / "k.parquet"), FAKE)
    assert filter_rows(job(both, tmp_path / "k"), FAKE).kept == 2
    (tmp_path / "a.csv").write_text("prompt,n\r\na,1\r\n")
    (tmp_path / "b.csv").write_text("prompt,m\nb,1\n")
    with pytest.raises(DataError, match=r"b.csv: cannot follow .*its header names 2 columns, not the same 2"):
        filter_rows(job([tmp_path / "a.csv", tmp_path / "b.csv"], tmp_path / "k.csv"), FAKE)


def test_csv_keeps_its_line_ends_and_its_mark(tmp_path):
    (tmp_path / "a.csv").write_bytes('\ufeffprompt,n\r\nhi,1\r\n"two\r\nlines",2\r\n'.encode())
    filter_rows(job([tmp_path / "a.csv"], tmp_path / "k.csv"), FAKE)
    lines = (tmp_path / "k.csv").read_bytes().split(b"\r\n")
    assert lines[0].startswith(b"prompt,n,guard_outcome,")
    assert lines[1].startswith(b"hi,1,SAFE,")
    assert lines[2:4][1].startswith(b'lines",2,SAFE,')


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", SAFE.encode("utf-16"), "is UTF-16 or UTF-32, must be UTF-8"),
        ("a.jsonl", SAFE.encode("utf-16-be"), "is UTF-16 or UTF-32"),
        ("a.csv", "prompt\nx\n".encode("utf-16"), "is UTF-16 or UTF-32"),
        ("a.jsonl.bz2", b"x", r"unknown suffix '.bz2'; allowed: .jsonl, .* each also with .gz or .zst after it"),
        ("a.jsonl.gz", b"no gzip", "not a complete gzip file"),
        ("a.jsonl.zst", b"no zstd", "not a complete Zstandard file"),
        ("a.jsonl.zst", zst(SAFE.encode() * 99)[:-9], "not a complete Zstandard file"),
        ("a.arrow", b"x", r"cannot be read as Arrow \(Arrow"),
    ],
)
def test_files_that_cannot_be_read_say_why(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    suffix = ".arrow" if name.endswith("arrow") else ".csv" if name.endswith("csv") else ".jsonl"
    with pytest.raises((DataError, ConfigError), match=message):
        filter_rows(job([tmp_path / name], tmp_path / f"k{suffix}"), FAKE)


def test_inputs_that_cannot_be_are_errors_before_anything_is_written(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "loop.jsonl").symlink_to(tmp_path / "loop.jsonl")
    for inputs, out, message in (
        ([tmp_path / "empty"], "k.jsonl", "holds no file of rows"),
        ([tmp_path / "*.nothing"], "k.jsonl", "matches no file; quote a pattern"),
        ([tmp_path / "loop.jsonl"], "k.jsonl", "Too many levels of symbolic links"),
        ([folder], "given/k.jsonl", "lies inside the input"),
        ([folder], "given", "lies inside the input"),
        ([folder / "a.jsonl"], "given", "is the input .*a.jsonl, which must not be replaced"),
        ([folder / "a.jsonl", folder / "b" / ".." / "a.jsonl", "-"], "k.jsonl", "stands alone"),
        ([], "k.jsonl", "at least one input"),
    ):
        with pytest.raises((DataError, ConfigError), match=message):
            filter_rows(job(inputs, tmp_path / out), FAKE)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "given", "loop.jsonl"]


def test_a_row_of_50_mb_is_quarantined_alone(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(SAFE.encode() + b'{"prompt": "' + b"x" * 50_000_000 + b'"}\n' + SAFE.encode())
    tally = filter_rows(job([tmp_path / "a.jsonl"], tmp_path / "k.jsonl"), FAKE)
    assert (tally.kept, tally.quarantined) == (2, 1)
    assert json.loads((tmp_path / "k.jsonl.quarantine.jsonl").read_text())["bytes"] > 50_000_000


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_named(tmp_path):
    (tmp_path / "a.jsonl").write_text(SAFE)
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(DataError, match="cannot be written: Permission denied"):
        filter_rows(job([tmp_path / "a.jsonl"], tmp_path / "locked" / "k.jsonl"), FAKE)


def test_a_full_disk_loses_no_finished_shard(tmp_path):
    """A limit on the size of files stands for the disk."""
    (tmp_path / "a.jsonl").write_text(
        "".join(json.dumps({"prompt": f"text {n}", "x": "y" * 500}) + "\n" for n in range(400))
    )
    command = [sys.executable, "-m", "guard", "filter", str(tmp_path / "a.jsonl"), str(tmp_path / "k.jsonl")]
    command += [
        "--model",
        "fake",
        "--policy",
        "minimal",
        "--shard-rows",
        "50",
        "--no-report",
        "--cache",
        str(tmp_path / "cache"),
    ]
    full = subprocess.run(
        ["bash", "-c", 'ulimit -f 150; trap "" XFSZ; exec "$@"', "bash", *command], capture_output=True, check=False
    )
    assert full.returncode == 2, full.stderr
    assert b"; finished shards stay in" in full.stderr or b"free space on its disk" in full.stderr
    assert not (tmp_path / "k.jsonl").exists()
    again = subprocess.run(command, capture_output=True, check=True)
    assert again.stdout.startswith(b"read 400 = kept 400")


def test_columns_of_every_form(tmp_path):
    def rows(columns, *given, **options):
        (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in given))
        made = job([tmp_path / "a.jsonl"], tmp_path / "k.jsonl", columns=columns, keep="all", **options)
        filter_rows(made, FAKE, restart=True)
        return [json.loads(line) for line in made.out.read_text().splitlines()]

    [row] = rows(parse_columns("prompt=q,response=a"), {"q": "hi", "a": "violates:M1", "prompt": "violates:M2"})
    assert row["guard_flagged"] == ["M1"]
    [row] = rows(parse_columns("messages=chat"), {"chat": [{"role": "user", "content": "violates:M2"}]})
    assert row["guard_flagged"] == ["M2"]
    pair = {"prompt": "hi", "chosen": "fine", "rejected": [{"role": "assistant", "content": "violates:M2"}]}
    [row] = rows(parse_columns("prompt,chosen,rejected"), pair)
    assert (row["guard_outcome"], row["guard_flagged"]) == ("UNSAFE", ["M2"])
    assert [(part["part"], part["outcome"]) for part in row["guard_parts"]] == [
        ("chosen", "SAFE"),
        ("rejected", "UNSAFE"),
    ]
    [row] = rows(parse_columns("chosen"), pair)
    assert row["guard_outcome"] == "SAFE"
    chat = {"messages": [{"role": "user", "content": "violates:M1"}, {"role": "assistant", "content": "no"}]}
    assert rows(parse_columns(""), chat)[0]["guard_outcome"] == "SAFE"
    [row] = rows(parse_columns("", "all"), chat)
    assert (row["guard_outcome"], row["guard_flagged"]) == ("UNSAFE", ["M1"])
    assert [part["part"] for part in row["guard_parts"]] == ["messages[0]", "messages[1]"]


def test_columns_that_a_file_does_not_have_are_named(tmp_path, caplog):
    columns = parse_columns("prompt=q,response=answr")
    (tmp_path / "a.jsonl").write_text('{"q": "hi", "answer": "violates:M1"}\n')
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as file, pa.ipc.new_stream(file, pa.schema({"q": pa.string()})):
        pass
    (tmp_path / "a.csv").write_text("q,answer\nhi,there\n")
    filter_rows(job([tmp_path / "a.jsonl"], tmp_path / "k.jsonl", columns=columns), FAKE)
    assert "no row has a value in the column `answr`" in caplog.text
    told = {"a.arrow": "has no column `answr`; its columns are: q", "a.csv": "has no column `answr` among the 2"}
    for name, message in told.items():
        with pytest.raises(DataError, match=message):
            filter_rows(job([tmp_path / name], tmp_path / f"k{Path(name).suffix}", columns=columns), FAKE)
    with pytest.raises(DataError, match="has no column `src`; its columns are: q"):
        filter_rows(
            job([tmp_path / "a.arrow"], tmp_path / "k.arrow", columns=parse_columns("prompt=q"), by="src"), FAKE
        )


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ("body", "unknown role 'body'; allowed: text, messages"),
        ("text=a,prompt=b", "text stands alone"),
        ("prompt=a,prompt=b", "prompt is given twice"),
        ("response=a,chosen=b", "response is not combined"),
    ],
)
def test_columns_that_cannot_be(mapping, message):
    with pytest.raises(ConfigError, match=message):
        parse_columns(mapping)


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet", ".arrow"])
@pytest.mark.parametrize("turns", ["last", "all"])
def test_thresholds_are_applied_anew_without_scoring(suffix, turns, tmp_path):
    import pyarrow.csv
    import pyarrow.parquet as pq

    class Silent(type(FAKE.engine)):
        def score(self, windows):
            raise AssertionError("nothing is to be scored")

    texts = [f"text {n}, with a comma" for n in range(30)] + ["violates:M1", "violates:M2", ""]
    table = pa.table({"prompt": texts, "n": range(33)})
    source = tmp_path / f"a{suffix}"
    if suffix == ".jsonl":
        source.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    elif suffix == ".csv":
        pyarrow.csv.write_csv(table, source)
    elif suffix == ".parquet":
        pq.write_table(table, source)
    else:
        with pa.ipc.new_stream(source, table.schema) as writer:
            writer.write_table(table)
    columns = parse_columns("", turns)
    scored = job([source], tmp_path / f"scored{suffix}", annotate=True, columns=columns)
    assert filter_rows(scored, FAKE).kept == 32
    for threshold in (0.002, 0.9):
        direct = job([source], tmp_path / f"direct{threshold}{suffix}", threshold=threshold, columns=columns)
        once = filter_rows(direct, FAKE)
        later = job(
            [scored.out], tmp_path / f"later{threshold}{suffix}", threshold=threshold, scored=True, columns=columns
        )
        silent = type(FAKE)(Silent(), FAKE.policy)
        again = filter_rows(later, silent)
        if suffix == ".arrow":  # whose buffers show how the input was cut
            tables = [pa.ipc.open_stream(each.out.read_bytes()).read_all() for each in (later, direct)]
            assert tables[0].equals(tables[1])
        else:
            assert later.out.read_bytes() == direct.out.read_bytes()
        assert (once.kept, once.dropped) == (again.kept, again.dropped)
        assert 0 < once.kept < 32


def test_rows_without_scores_or_with_those_of_another_model_are_not_decided(tmp_path):
    (tmp_path / "a.jsonl").write_text(SAFE)
    filter_rows(job([tmp_path / "a.jsonl"], tmp_path / "s.jsonl", annotate=True), FAKE)
    row = json.loads((tmp_path / "s.jsonl").read_text())
    other = {**row, "guard_model": "0" * 64}
    (tmp_path / "b.jsonl").write_text(json.dumps(other) + "\n" + SAFE + json.dumps(row) + "\n")
    tally = filter_rows(job([tmp_path / "b.jsonl"], tmp_path / "k.jsonl", scored=True), FAKE)
    assert (tally.kept, tally.quarantined) == (1, 2)
    assert sorted(tally.reasons)[1] == "the row was scored by another model; score the rows again, or give that model"
    assert sorted(tally.reasons)[0].startswith("does not end with the columns of an earlier run")
