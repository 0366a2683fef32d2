"""Fetching, against a server that really listens: what arrives, what is refused, and what is tried again."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
from collections import Counter

import pytest
import typer
from typer.testing import CliRunner

from guard.cli.fetch import fetch as fetch_command
from guard.data.sources.fetch import downloads
from guard.data.sources.fetch.extract import line_digest
from guard.data.sources.fetch.fetching import FINGERPRINTS, fetch
from guard.data.sources.fetch.transfer import Hosts, Timeouts, hosts_at
from guard.errors import ConfigError, DataError
from guard.llm.retry import RetryPolicy
from tests.fixtures import made_up_mirror
from tests.fixtures.made_up_mirror import COMMIT, LINES, RETRY, Answer, Garden, Handler, zipped

RED = b"red\n"
ROWS = [
    {"text": "prune the fig", "kind": "care", "from": "book"},
    {"from": "paper", "text": "Wasser für die Rosen \u2028", "kind": "care", "extra": 1},
    {"text": "move the fence", "label": ["theft"], "from": "book"},
]
KEPT = (
    b'{"text": "prune the fig", "kind": "care", "from": "book"}\n'
    b'{"text": "move the fence", "label": ["theft"], "from": "book"}\n'
)
RULE = {"format": "json", "limit": 100_000, "keep": {"from": ["book"]}, "fields": ["text", "kind", "label", "from"]}


@pytest.fixture
def garden(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with made_up_mirror.opened(tmp_path) as garden:
        yield garden


def busy(status: int, **headers: str) -> Answer:
    return lambda handler: handler.send(status, b"", **headers)


def test_an_empty_root_is_filled_and_a_second_run_asks_for_nothing(garden):
    garden.add("beds/roses & figs.txt")
    garden.add("LICENSE", b"take care\n")
    garden.add("data/fences.csv", b"a,b\n", folder="fences")
    got: Counter[str] = Counter()
    assert set(garden.fetch(progress=lambda path, size: got.update({path: size})).values()) == {"fetched"}
    assert garden.there == {
        "raw/fences/data/fences.csv": b"a,b\n",
        "raw/garden/LICENSE": b"take care\n",
        "raw/garden/beds/roses & figs.txt": LINES,
    }
    assert got == {path: len(data) for path, data in garden.there.items()}
    assert all(headers["Accept-Encoding"] == "identity" for headers in garden.server.headers)
    garden.server.seen.clear()
    assert set(garden.fetch().values()) == {"present"}
    assert garden.server.seen == []


def test_only_what_is_missing_or_wrong_is_fetched(garden):
    garden.add("roses.txt", b"red\n")
    garden.add("figs.txt", b"blue\n")
    garden.add("moss.txt", b"green\n")
    garden.fetch()
    (garden.root / "raw/garden/roses.txt").write_bytes(b"bed\n")  # as long as it should be
    (garden.root / "raw/garden/figs.txt").unlink()
    garden.server.seen.clear()
    states = garden.fetch()
    assert states == {
        "raw/garden/figs.txt": "fetched",
        "raw/garden/moss.txt": "present",
        "raw/garden/roses.txt": "fetched",
    }
    assert sorted(garden.server.seen) == [garden.at("figs.txt"), garden.at("roses.txt")]
    assert garden.there["raw/garden/roses.txt"] == b"red\n"


def test_wrong_bytes_are_told_at_the_end_and_leave_nothing(garden):
    garden.describe("roses.txt", b"red\n")
    garden.serve("roses.txt", b"bad\n")
    garden.describe("gone.txt", b"gone\n")
    garden.add("figs.txt")
    (garden.root / "raw/garden").mkdir(parents=True)
    (garden.root / "raw/garden/gone.txt").write_bytes(b"an older version\n")
    got: Counter[str] = Counter()
    with pytest.raises(DataError) as failure:
        garden.fetch(progress=lambda path, size: got.update({path: size}))
    assert +got == {"raw/garden/figs.txt": len(LINES)}
    gone, roses = sorted(str(failure.value).split("\n"))
    assert gone.startswith("raw/garden/gone.txt: http://127.0.0.1:")
    assert gone.endswith("gone.txt answered 404 Not Found")
    assert f"expected 4 bytes of sha256 {hashlib.sha256(RED).hexdigest()}, got 4 of" in roses
    assert hashlib.sha256(b"bad\n").hexdigest() in roses
    assert garden.there == {"raw/garden/figs.txt": LINES, "raw/garden/gone.txt": b"an older version\n"}


@pytest.mark.parametrize("answers", [[503], [429], [500, 502], [408, 504]])
def test_a_busy_server_is_asked_again(garden, answers):
    garden.add("roses.txt")
    garden.first("roses.txt", *map(busy, answers))
    assert garden.fetch() == {"raw/garden/roses.txt": "fetched"}
    assert len(garden.server.seen) == len(answers) + 1


def test_a_server_that_stays_busy_is_left_after_so_many_attempts(garden):
    garden.add("roses.txt")
    garden.first("roses.txt", *[busy(503)] * 9)
    with pytest.raises(DataError, match=r"roses\.txt answered 503; try again later"):
        garden.fetch()
    assert len(garden.server.seen) == RETRY.attempts
    assert garden.there == {}


def test_a_refusal_is_not_asked_again(garden):
    garden.add("roses.txt")
    garden.first("roses.txt", busy(403))
    with pytest.raises(DataError, match=r"roses\.txt answered 403"):
        garden.fetch()
    assert len(garden.server.seen) == 1


def test_the_wait_that_a_server_asks_for_is_kept(garden):
    garden.add("roses.txt")
    garden.first("roses.txt", busy(429, Retry_After="1"))
    start = time.monotonic()
    garden.fetch()
    assert time.monotonic() - start > 0.9


@pytest.mark.parametrize("date", [False, True])
def test_a_wait_beyond_patience_is_told_at_once(garden, date):
    garden.add("roses.txt")
    asked = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 3600)) if date else "3600"
    garden.first("roses.txt", busy(429, Retry_After=asked))
    start = time.monotonic()
    with pytest.raises(DataError, match=r"answered 429 and asks to wait 3(600|59\d) s; try again later"):
        garden.fetch()
    assert time.monotonic() - start < 30  # an hour was asked for


@pytest.mark.parametrize("nonsense", ["soon", "-5", ""])
def test_a_wait_that_is_no_time_is_a_usual_wait(garden, nonsense):
    garden.add("roses.txt")
    garden.first("roses.txt", busy(429, Retry_After=nonsense))
    garden.fetch()
    assert len(garden.server.seen) == 2


def test_a_truncated_body_is_gone_on_with(garden):
    garden.add("roses.txt")

    def half(handler: Handler) -> None:
        handler.send(200, LINES, cut=40_000, ETag='"v1"')

    def rest(handler: Handler) -> None:
        start = int(re.fullmatch(r"bytes=(\d+)-", handler.headers["Range"])[1])
        assert handler.headers["If-Range"] == '"v1"'
        handler.send(206, LINES[start:], Content_Range=f"bytes {start}-{len(LINES) - 1}/{len(LINES)}", ETag='"v1"')

    garden.first("roses.txt", half, rest)
    got: Counter[str] = Counter()
    garden.fetch(progress=lambda path, size: got.update({path: size}))
    assert len(garden.server.seen) == 2
    assert 0 < int(garden.server.headers[1]["Range"][6:-1]) <= 40_000
    assert garden.there["raw/garden/roses.txt"] == LINES
    assert got["raw/garden/roses.txt"] == len(LINES)


def test_a_truncated_body_of_a_changed_or_unnamed_version_is_begun_again(garden):
    garden.add("roses.txt")

    def ignored(handler: Handler) -> None:  # a server that knows no ranges, or has another version
        assert "Range" in handler.headers
        handler.send(200, LINES, cut=1000)

    garden.first("roses.txt", lambda handler: handler.send(200, b"x" * 50_000, cut=40_000, ETag='"v1"'), ignored)
    garden.fetch()
    assert "Range" not in garden.server.headers[2]  # the second answer had no ETag
    assert garden.there["raw/garden/roses.txt"] == LINES


@pytest.mark.parametrize("headers", [{"ETag": 'W/"v1"'}, {"ETag": '"v1"', "Content_Encoding": "identity"}, {}])
def test_a_version_that_is_not_exactly_known_is_begun_again(garden, headers):
    garden.add("roses.txt")
    garden.first("roses.txt", lambda handler: handler.send(200, LINES, cut=40_000, **headers))
    got: Counter[str] = Counter()
    garden.fetch(progress=lambda path, size: got.update({path: size}))
    assert got == {"raw/garden/roses.txt": len(LINES)}  # what came of the first attempt counts no more
    assert "Range" not in garden.server.headers[1]


def test_a_resumed_file_is_verified_as_a_whole(garden):
    garden.add("roses.txt")
    garden.first(
        "roses.txt",
        lambda handler: handler.send(200, b"x" * len(LINES), cut=40_000, ETag='"v1"'),
        lambda handler: handler.send(
            206, LINES[int(handler.headers["Range"][6:-1]) :], Content_Range=f"bytes {handler.headers['Range'][6:]}"
        ),
    )
    with pytest.raises(DataError, match=f"expected {len(LINES)} bytes of sha256 .* got {len(LINES)} of"):
        garden.fetch()
    assert garden.there == {}


def test_another_range_than_was_asked_for_is_refused(garden):
    garden.add("roses.txt")
    garden.first(
        "roses.txt",
        lambda handler: handler.send(200, LINES, cut=40_000, ETag='"v1"'),
        lambda handler: handler.send(206, LINES, Content_Range=f"bytes 0-{len(LINES) - 1}/{len(LINES)}"),
    )
    with pytest.raises(DataError, match="answered with another range than was requested"):
        garden.fetch()


def test_a_part_that_is_longer_than_the_file_is_begun_again(garden):
    garden.add("roses.txt")
    garden.first("roses.txt", lambda handler: handler.send(200, b"x" * 50_000, cut=40_000, ETag='"v1"'), busy(416))
    garden.fetch()
    assert "Range" not in garden.server.headers[2]


def test_a_body_that_stays_truncated_is_an_error(garden):
    garden.add("roses.txt")
    garden.first("roses.txt", *[lambda handler: handler.send(200, LINES, cut=1000)] * 3)
    with pytest.raises(DataError, match=r"RemoteProtocolError"):
        garden.fetch()
    assert garden.there == {}


@pytest.mark.parametrize("told", [True, False])
def test_a_body_that_is_too_long_is_cut_off(garden, told):
    garden.describe("roses.txt", b"red\n")
    sent = []

    def flood(handler: Handler) -> None:
        handler.send_response(200)
        if told:
            handler.send_header("Content-Length", str(1 << 30))
        else:
            handler.close_connection = True
        handler.end_headers()
        with contextlib.suppress(OSError):
            for _ in range(1 << 14):
                handler.wfile.write(b"x" * (1 << 16))
                sent.append(1 << 16)

    garden.first("roses.txt", flood)
    with pytest.raises(DataError, match="sends more than 1028 bytes"):
        garden.fetch()
    assert sum(sent) < 1 << 27  # what the buffers of the sockets hold
    assert len(garden.server.seen) == 1
    assert garden.there == {}


def test_when_the_server_is_down_the_rest_is_not_tried(garden):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        for number in range(6):
            garden.describe(f"{number}.txt", b"red\n")
        with pytest.raises(DataError) as failure:
            fetch([], garden.root, f"http://127.0.0.1:{port}", jobs=1, retry=RETRY, taxonomy=garden.taxonomy)
    problems = str(failure.value).split("\n")
    assert len(problems) == 6
    assert "ConnectError" in problems[0]
    assert all(
        problem.endswith(f"not tried, because 127.0.0.1:{port} could not be reached") for problem in problems[1:]
    )
    assert garden.there == {}


def test_a_silent_server_is_not_waited_for_for_ever(garden):
    garden.add("roses.txt")
    garden.first("roses.txt", lambda handler: time.sleep(0.5))
    garden.fetch(retry=RetryPolicy(attempts=2, first_s=0.01), timeouts=Timeouts(read_s=0.1))
    assert garden.there["raw/garden/roses.txt"] == LINES


def test_no_more_connections_than_jobs(garden):
    now = most = 0
    lock = threading.Lock()

    def slow(handler: Handler) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.02)
        with lock:
            now -= 1
        handler.send(200, LINES)

    for number in range(8):
        garden.add(f"{number}.txt")
        garden.first(f"{number}.txt", slow)
    garden.fetch(jobs=2)
    assert most == 2
    assert len(garden.there) == 8


def pointer(data: bytes) -> bytes:
    oid = hashlib.sha256(data).hexdigest()
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(data)}\n".encode()


@pytest.mark.parametrize("data", [LINES, b"red\n"])
def test_a_git_lfs_pointer_is_followed(garden, data):
    garden.describe("roses.txt", data)
    garden.serve("roses.txt", pointer(data))
    garden.server.files[f"media/{garden.at('roses.txt')}"] = data
    garden.fetch()
    assert garden.there == {"raw/garden/roses.txt": data}


def test_a_pointer_to_another_file_is_not_followed(garden):
    garden.describe("roses.txt", b"red\n")
    garden.serve("roses.txt", pointer(b"bad\n"))
    with pytest.raises(DataError, match=r"is a Git LFS pointer to sha256 [0-9a-f]{64}; expected [0-9a-f]{64}"):
        garden.fetch()
    assert len(garden.server.seen) == 1


def test_what_stands_behind_the_pointer_of_an_archive_must_be_what_it_names(garden):
    archive = zipped(beds=json.dumps(ROWS))
    garden.describe("beds.jsonl", KEPT, upstream="all.zip", extract={**RULE, "member": "all/beds.json"})
    garden.serve("all.zip", pointer(archive))
    garden.server.files[f"media/{garden.at('all.zip')}"] = zipped(beds=json.dumps(ROWS[::-1]))
    with pytest.raises(DataError, match=r"expected sha256 [0-9a-f]{64}, which its pointer names, got [0-9a-f]{64}"):
        garden.fetch()
    garden.server.files[f"media/{garden.at('all.zip')}"] = archive
    garden.fetch()
    assert garden.there == {"raw/garden/beds.jsonl": KEPT}


def test_another_place_stands_in_for_one_that_has_the_file_not(garden):
    place = {"repository": "https://github.com/anyone/shed", "commit": COMMIT, "path": "copies/roses.txt"}
    for path, data in {"roses.txt": b"red\n", "figs.txt": b"blue\n"}.items():
        garden.describe(path, data, elsewhere=[{**place, "path": f"copies/{path}"}])
    garden.serve("roses.txt", b"bad\n")
    garden.serve("copies/roses.txt", b"red\n", folder="shed")
    with pytest.raises(DataError) as failure:
        garden.fetch()
    assert re.search(
        r"garden/.*figs\.txt answered 404 Not Found; then .*shed/.*figs\.txt answered 404", str(failure.value)
    )
    assert garden.there == {"raw/garden/roses.txt": b"red\n"}


def redirect(to: str, status: int = 302) -> Answer:
    return lambda handler: handler.send(status, b"", Location=to)


def test_redirects_stay_on_the_host_or_go_to_https(garden):
    garden.add("roses.txt")
    garden.serve("moved.txt", LINES)
    garden.first("roses.txt", redirect(f"/{garden.at('moved.txt')}", 301))
    assert garden.fetch() == {"raw/garden/roses.txt": "fetched"}
    garden.add("figs.txt")
    other = garden.server.url.replace("127.0.0.1", "localhost")
    garden.first("figs.txt", redirect(f"{other}/{garden.at('moved.txt')}"))
    with pytest.raises(DataError, match=r"redirects to http://localhost:\d+, which is not https; not followed"):
        garden.fetch()
    garden.first("figs.txt", redirect("file:///etc/hostname"))
    with pytest.raises(DataError, match=r"figs\.txt"):
        garden.fetch()
    garden.first("figs.txt", *[redirect(f"/{garden.at('figs.txt')}")] * 20)
    with pytest.raises(DataError, match="more than 5 redirects"):
        garden.fetch()


def test_a_path_that_cannot_be_written_is_told_and_the_others_go_on(garden):
    garden.add("roses.txt")
    garden.add("figs.txt")
    (garden.root / "raw/garden/roses.txt/inside").mkdir(parents=True)
    with pytest.raises(DataError, match=r"^raw/garden/roses\.txt: cannot be written: Is a directory$"):
        garden.fetch()
    assert garden.there == {"raw/garden/figs.txt": LINES}


def test_extracts_of_one_archive_share_its_transfer(garden):
    garden.serve("all.zip", zipped(beds=json.dumps(ROWS, indent=4), trees=json.dumps(ROWS[:1])))
    trees = b'{"kind": "care"}\n'
    garden.describe("beds.jsonl", KEPT, upstream="all.zip", extract={**RULE, "member": "all/beds.json"})
    rule = {"format": "json", "limit": 100_000, "member": "all/trees.json", "fields": ["kind"]}
    garden.describe("trees.jsonl", trees, upstream="all.zip", extract=rule)
    got: Counter[str] = Counter()
    garden.fetch(progress=lambda path, size: got.update({path: size}))
    assert garden.there == {"raw/garden/beds.jsonl": KEPT, "raw/garden/trees.jsonl": trees}
    assert garden.server.seen == [garden.at("all.zip")]
    assert got == {"raw/garden/beds.jsonl": len(KEPT), "raw/garden/trees.jsonl": len(trees)}
    garden.fetch()
    assert len(garden.server.seen) == 1


def test_an_extract_with_other_bytes_is_refused_and_its_neighbour_is_not(garden):
    garden.serve("all.zip", zipped(beds=json.dumps(ROWS), trees=json.dumps(ROWS)))
    garden.describe("beds.jsonl", b"other\n", upstream="all.zip", extract={**RULE, "member": "all/beds.json"})
    garden.describe("trees.jsonl", KEPT, upstream="all.zip", extract={**RULE, "member": "all/trees.json"})
    with pytest.raises(
        DataError, match=rf"^raw/garden/beds\.jsonl: the extract: expected 6 bytes .* got {len(KEPT)} of"
    ):
        garden.fetch()
    assert garden.there == {"raw/garden/trees.jsonl": KEPT}


def test_rows_are_picked_by_digest_from_many_files(garden):
    lines = {
        name: [json.dumps({"q": f"{name} {number} für", "template": name}, ensure_ascii=False) for number in range(5)]
        for name in ("beds", "trees")
    }
    for name in lines:
        upstream = "".join(json.dumps({"q": f"{name} {number} für", "a": number}) + "\n" for number in range(5))
        garden.serve(f"templates/{name}.jsonl", upstream.encode())
    wanted = [lines["beds"][3], lines["beds"][0], lines["beds"][3], lines["trees"][4]]
    picks = {
        "beds.jsonl": " ".join(map(line_digest, wanted[:3])),
        "trees.jsonl": line_digest(wanted[3]),
    }
    rule = {"format": "jsonl", "limit": 10_000, "fields": ["q"], "stem": "template", "picks": picks}
    data = "".join(f"{line}\n" for line in wanted).encode()
    garden.describe("sample.jsonl", data, upstream="templates", extract=rule)
    garden.fetch()
    assert garden.there == {"raw/garden/sample.jsonl": data}
    assert sorted(garden.server.seen) == [garden.at(f"templates/{name}.jsonl") for name in ("beds", "trees")]
    rule["picks"] = {**picks, "beds.jsonl": "00000000 " + picks["beds.jsonl"]}
    garden.describe("sample.jsonl", data + b"\n", upstream="templates", extract=rule)
    with pytest.raises(DataError, match=r"beds\.jsonl: 1 of the 4 described rows are missing \(first: 00000000\)"):
        garden.fetch()


@pytest.mark.parametrize("url", ["ftp://a", "mirror.example.org", "https://", "https://me:word@a", "https://a/?x=1"])
def test_a_base_address_that_is_none_is_refused(url):
    with pytest.raises(ConfigError, match="the base URL must look like https://") as failure:
        hosts_at(url)
    assert "word" not in str(failure.value)


def test_addresses_are_those_of_github_with_every_character_escaped():
    file = downloads.UpstreamFile("https://github.com/anyone/garden", COMMIT, "MHC Final Cases/für 100%#1.csv")
    tail = f"anyone/garden/{COMMIT}/MHC%20Final%20Cases/f%C3%BCr%20100%25%231.csv"
    assert hosts_at(None).url(file) == f"https://raw.githubusercontent.com/{tail}"
    assert hosts_at("https://mirror.example.org/github/").url(file) == f"https://mirror.example.org/github/{tail}"
    assert hosts_at(None).media == Hosts().media == "https://media.githubusercontent.com/media"


def run(garden: Garden, *arguments: object) -> tuple[int, str, str]:
    app = typer.Typer()
    app.command("fetch")(fetch_command)
    options = ["--taxonomy", garden.taxonomy, "--base-url", garden.server.url, "--root", garden.root]
    done = CliRunner().invoke(app, list(map(str, [*options, *arguments])))
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout, done.stderr


def test_the_command_shows_what_it_would_fetch_then_fetches_it(garden, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    garden.add("beds/roses [red].txt")
    garden.add("LICENSE", b"take care\n")
    garden.write("garden", garden.described["garden"], caution="Mind the thorns.")
    code, out, _ = run(garden, "--dry-run")
    assert code == 2
    address = f"{garden.server.url}/{urllib.parse.quote(garden.at('beds/roses [red].txt'))}"
    line = next(line for line in out.splitlines() if "roses" in line)
    assert line.split() == ["raw/garden/beds/roses", "[red].txt", f"{len(LINES):,}", "missing", address]
    assert "2 missing" in out
    assert not garden.root.exists()
    assert garden.server.seen == []
    code, out, err = run(garden)
    assert (code, err) == (0, "")
    assert next(line for line in out.splitlines() if "garden" in line).split() == ["garden", "2", "0", "2", "0", "MIT"]
    assert "garden: Mind the thorns.\n" in out
    assert FINGERPRINTS in out
    assert len(garden.there) == 2
    code, out, _ = run(garden, "--dry-run")
    assert code == 0
    assert "2 present" in out


def test_the_command_as_json_tells_every_file_and_failure(garden):
    garden.add("figs.txt", b"blue\n")
    garden.describe("roses.txt", b"red\n")
    garden.serve("roses.txt", b"bad\n")
    code, out, err = run(garden, "--json")
    figs, roses = json.loads(out)
    assert code == 2
    assert figs == {
        "file": "raw/garden/figs.txt",
        "size": 5,
        "sha256": hashlib.sha256(b"blue\n").hexdigest(),
        "licence": "MIT",
        "address": f"{garden.server.url}/{garden.at('figs.txt')}",
        "state": "fetched",
    }
    assert roses["state"] == "failed"
    assert roses["problem"] in err
    assert garden.there == {"raw/garden/figs.txt": b"blue\n"}


@pytest.mark.parametrize("waiting", [False, True])
def test_a_stopped_run_ends_soon_and_leaves_no_part_of_a_file(garden, waiting):
    garden.add("roses.txt")
    began = threading.Event()

    def drip(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(LINES)))
        handler.end_headers()
        with contextlib.suppress(OSError):
            for start in range(0, len(LINES), 100):
                handler.wfile.write(LINES[start : start + 100])
                handler.wfile.flush()
                began.set()
                time.sleep(0.03)

    def later(handler: Handler) -> None:
        handler.send(503, Retry_After="55")
        began.set()

    garden.first("roses.txt", later if waiting else drip)
    code = (
        # Started in the background, a process ignores the signal; a terminal sends it to one that does not.
        "import signal, sys; from pathlib import Path; from guard.data.sources.fetch.fetching import fetch;"
        "signal.signal(signal.SIGINT, signal.default_int_handler);"
        "fetch([], Path(sys.argv[1]), sys.argv[2], taxonomy=Path(sys.argv[3]))"
    )
    arguments = [sys.executable, "-c", code, garden.root, garden.server.url, garden.taxonomy]
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE)
    assert began.wait(30)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=15)  # less than either answer takes
    assert process.returncode != 0
    assert err.rstrip().endswith(b"KeyboardInterrupt")
    assert garden.there == {}
