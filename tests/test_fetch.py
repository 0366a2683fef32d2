"""`guard fetch`: a guard by its name, from a folder and over HTTP; what is not whole changes nothing."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from guard import assets
from guard.bundle import open_bundle
from guard.cli import main
from guard.errors import BundleError, ConfigError, DataError, NoBundle
from guard.fetch import fetch
from guard.llm.retry import RetryPolicy

TINY = Path(__file__).parent / "fixtures" / "tiny-guard"
ONCE = RetryPolicy(attempts=1)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a bundle to be fetched, and a store that is empty."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    return Path(shutil.copytree(TINY, tmp_path / "release"))


@pytest.fixture
def served(release: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(release)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_guard_is_fetched_over_http_and_found_by_its_name(served: str) -> None:
    folder = fetch("tiny", f"{served}/", retry=ONCE)
    assert folder == assets.fetched_bundles() / "tiny"
    opened = open_bundle("tiny")
    assert opened.manifest == open_bundle(TINY).manifest
    assert {path.name for path in folder.iterdir()} == {"guard.json", *opened.manifest.files}
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]


def test_the_command_gets_it_from_a_folder(release: Path, capsys: pytest.CaptureFixture[str]) -> None:
    digest = open_bundle(release).manifest.model
    with pytest.raises(SystemExit) as ended:
        main(["fetch", "tiny", "--from", str(release), "--digest", digest])
    assert ended.value.code == 0
    assert f"guard {digest[:12]}; next: guard check --model tiny TEXT" in capsys.readouterr().out
    assert open_bundle("tiny").manifest.model == digest


def test_a_damaged_file_or_another_guard_changes_nothing(served: str, release: Path) -> None:
    with pytest.raises(BundleError, match=r"holds the guard [0-9a-f]{64}, not 00; look for another release"):
        fetch("tiny", served, "00", retry=ONCE)
    kept = (release / "policy.yaml").read_bytes()
    (release / "policy.yaml").write_bytes(kept + b"# more")
    with pytest.raises(BundleError, match=r"policy\.yaml: damaged"):
        fetch("tiny", served, retry=ONCE)
    (release / "policy.yaml").unlink()
    with pytest.raises(DataError, match="answered 404"):
        fetch("tiny", served, retry=ONCE)
    with pytest.raises(BundleError, match=r"policy\.yaml: missing"):
        fetch("tiny", str(release))
    assert list(assets.fetched_bundles().iterdir()) == []


def test_what_is_there_stays_if_it_is_the_same_and_is_replaced_if_not(release: Path) -> None:
    folder = fetch("tiny", str(release))
    before = (folder / "guard.json").stat().st_ino
    assert fetch("tiny", str(release)) == folder
    assert (folder / "guard.json").stat().st_ino == before
    fetch("tiny", str(assets.default_bundle()))
    assert open_bundle("tiny").manifest == open_bundle().manifest


@pytest.mark.parametrize("name", ["../tiny", "Tiny", "a b", "", "-x", "x" * 300 + "/"])
def test_a_name_is_a_name(release: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="must be a name of lower-case letters"):
        fetch(name, str(release))


@pytest.mark.parametrize("source", ["ftp://example.org/x", "http://", "http://user@example.org/x", "http://e.org/?q"])
def test_an_address_is_one(release: Path, source: str) -> None:
    with pytest.raises(ConfigError, match=r"must look like https://example\.org/guards/small"):
        fetch("tiny", source, retry=ONCE)


def test_an_unknown_name_tells_the_known_ones(release: Path) -> None:
    with pytest.raises(
        NoBundle, match=r"no guard 'smal' \(there are: mini-en.*`guard fetch smal --from URL_OR_FOLDER`"
    ):
        open_bundle("smal")
    assert open_bundle("mini-en").root == assets.default_bundle()
