"""Download descriptions: those that ship, the mistakes in others, and the extracts that they describe."""

from __future__ import annotations

import io
import json
import re
import zipfile
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.data.sources import description
from guard.data.sources.fetch import downloads
from guard.data.sources.fetch.extract import Extract, extract, line_digest
from guard.errors import ConfigError, DataError
from tests.fixtures import made_up_mirror
from tests.fixtures.made_up_mirror import COMMIT, zipped


@pytest.fixture
def garden(tmp_path):
    with made_up_mirror.opened(tmp_path) as garden:
        yield garden


SHIPPED = downloads.folders()


def test_every_source_is_covered_by_a_download_of_its_licence_and_commit():
    assert len(SHIPPED) >= 34
    described = {folder: downloads.load(folder) for folder in SHIPPED}
    wanted = {f"raw/{folder}/{path}" for folder, download in described.items() for path in download.files}
    read = set()
    raw = [source for source in map(description.load, description.names()) if source.files and source.within == "root"]
    assert len(raw) >= 42
    for source in raw:
        for file in source.files:
            depth = file.path.count("/")
            found = {path for path in wanted if path.count("/") == depth and PurePosixPath(path).match(file.path)}
            assert found, f"source {source.name}: no described download fits {file.path}"
            read |= found
            download = described[file.path.split("/")[1]]
            assert (download.repository, download.commit) == (source.upstream, source.commit), source.name
            assert download.licence == source.licence, source.name
    unread = {path for path in wanted - read if not path.split("/")[2].startswith("LICENSE")}
    assert unread <= {"raw/hh_rlhf/harmless-base/test.jsonl.gz"}


@pytest.mark.parametrize("folder", SHIPPED)
def test_a_shipped_description_is_complete(folder):
    found = downloads.load(folder)
    assert found.licence
    for one in downloads.select([folder]):
        rule = one.file.extract
        assert rule is None or one.file.upstream
        if rule is not None and rule.picks:
            assert len(one.upstream) == len(rule.picks)
            assert all(re.fullmatch(r"[0-9a-f]{8}( [0-9a-f]{8})*", digests) for digests in rule.picks.values())


def test_names_choose_folders_or_what_a_source_reads():
    assert {one.path.split("/", 2)[2] for one in downloads.select(["catqa"])} == {
        "LICENSE",
        *(f"harmful_questions/catqa_{language}.json" for language in ("chinese", "english", "vietnamese")),
    }
    both = {one.path for one in downloads.select(["red_instruct", "catqa"])}
    assert both == {one.path for one in downloads.select(["red_instruct"])}
    assert "raw/red_instruct/harmful_questions/dangerousqa.json" in both
    assert downloads.select(["self_instruct_seed"])[0].path == "raw/self_instruct/LICENSE"
    assert all("t0_train" not in one.path for one in downloads.select(["self_instruct_seed"]))


def test_names_without_a_download_are_told(garden, world):
    with pytest.raises(ConfigError, match="no source or raw folder 'red_instuct'; did you mean 'red_instruct'"):
        downloads.select(["red_instuct"])
    with pytest.raises(ConfigError, match="source seed_prompts ships with guard; there is nothing to download"):
        downloads.select(["seed_prompts"])
    with pytest.raises(ConfigError, match=r"holds no download descriptions"):
        downloads.select([], world.taxonomy)
    garden.describe("roses.txt", b"red\n")
    with pytest.raises(ConfigError, match="source gardens has no download description"):
        downloads.select(["gardens"], garden.taxonomy)


@pytest.mark.parametrize(
    "path",
    [
        *("../roses.txt", "beds/../../roses.txt", "/etc/passwd", "", ".", "beds//roses.txt", "beds/", "C:/roses.txt"),
        *("beds\\roses.txt", "beds/\nroses.txt", ".. /roses.txt", "roses.txt\x00", "roses?.txt"),
    ],
)
def test_paths_cannot_leave_their_folder(garden, path):
    garden.describe(path, b"red\n")
    with pytest.raises(ConfigError, match="must be a relative path of plain names"):
        garden.fetch()
    garden.described.clear()
    elsewhere = [{"repository": "https://github.com/anyone/shed", "commit": COMMIT, "path": path}]
    for more in ({"upstream": path}, {"elsewhere": elsewhere}):
        garden.describe("roses.txt", b"red\n", **more)
        with pytest.raises(ConfigError, match="must be a relative path of plain names"):
            garden.fetch()
    assert garden.server.seen == []
    assert not garden.root.exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (f"commit: {COMMIT}", "commit: main", "garden.yaml:3: commit: must be the 40 lower-case hex digits"),
        (
            "https://github.com/anyone/garden",
            "https://github.com/garden",
            "must be https://github.com/OWNER/REPOSITORY",
        ),
        ("https://github.com/", "http://github.com/", "must be https://github.com/OWNER/REPOSITORY"),
        ("folder: garden", "folder: shed", "must agree"),
        ("licence:", "license:", "unknown key `license`; did you mean `licence`"),
        ("size: 4", "size: -4", "files.roses.txt.size: must not be negative"),
        ("sha256: ", "sha256: z", "sha256: must be the 64 lower-case hex digits"),
        ("size: 4", "size: 4\n    from: roses.txt", "unknown key `from`"),
    ],
)
def test_mistakes_in_a_description_are_told(garden, old, new, message):
    garden.describe("roses.txt", b"red\n")
    path = garden.taxonomy / "downloads" / "garden.yaml"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(ConfigError, match=re.escape(message)):
        garden.fetch()


@pytest.mark.parametrize(
    ("data", "more", "message"),
    [
        (b"canary", {}, "is not the JSON in UTF-8 that was described"),
        (b"\xff\xfe", {}, "is not the JSON in UTF-8"),
        (b"[" * 100_000, {}, "is not the JSON in UTF-8"),
        (b'{"canary": 1}', {}, "must hold a list of rows, not dict"),
        (b'[{"text": 1}, "canary"]', {}, "row 2: must be a JSON object, not str"),
        (b'[{"text": "canary \\ud83d"}]', {}, "half of a surrogate pair"),
        (b'[{"text": "\\ud83d"}]', {"picks": {"beds.json": "00000000"}}, "1 of the 1 described rows are missing"),
        (b'{"text": 1}\n{canary}\n', {"format": "jsonl"}, "is not the JSONL in UTF-8"),
        (b"canary", {"member": "all/beds.json"}, r"all/beds\.json cannot be unpacked \(BadZipFile\)"),
        (zipped(beds="[]"), {"member": "all/canary.json"}, "the archive has no file all/canary.json"),
        (
            zipped(zipfile.ZIP_STORED, beds="[]").replace(b"[]", b"[x"),
            {"member": "all/beds.json"},
            "cannot be unpacked",
        ),
        (zipped(beds=" " * 200_000 + "[]"), {"member": "all/beds.json"}, "more than the 100000 bytes"),
    ],
)
def test_an_upstream_file_that_does_not_fit_is_told_without_its_text(data, more, message):
    rule = Extract(**{"format": "json", "limit": 100_000, "fields": ("text",), **more})
    with pytest.raises(DataError, match=message) as failure:
        extract(rule, io.BytesIO(data), "up/beds.json")
    told = str(failure.value)
    assert told.startswith("up/beds.json")
    assert "canary" not in told or more.get("member") == "all/canary.json"


@given(
    st.lists(st.dictionaries(st.sampled_from(["a", "b", "c"]), st.text('fig ü\u2028\n"\\🌹') | st.integers())),
    st.permutations(["a", "b", "c"]),
)
def test_an_extract_holds_the_same_rows_in_their_order(rows, fields):
    found = extract(Extract("json", 10_000, tuple(fields)), io.BytesIO(json.dumps(rows).encode()), "x.json")
    back = [json.loads(line) for line in found.decode().split("\n")[:-1]]
    assert back == rows
    assert [list(row) for row in back] == [[field for field in fields if field in row] for row in rows]
    lines = found.decode().split("\n")[:-1]
    rule = Extract("json", 10_000, tuple(fields), picks={"x.json": " ".join(map(line_digest, reversed(lines)))})
    if lines:
        picked = extract(rule, io.BytesIO(json.dumps(rows).encode()), "some/x.json")
        assert picked.decode().split("\n")[:-1] == lines[::-1]
