"""Guards by name: a sealed bundle, got from a release or a folder, that counts once every file matches its digest."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, urlsplit

from guard import assets
from guard.bundle import MANIFEST, UNSEALED, open_bundle, read_manifest
from guard.data.sources.fetch.transfer import RETRY, Body, Hosts, receive, session
from guard.errors import BundleError, ConfigError
from guard.llm.retry import RetryPolicy

LONGEST_MANIFEST = 1 << 20  # bytes


def fetch(name: str, source: str, digest: str | None = None, retry: RetryPolicy = RETRY) -> Path:
    """The folder of the guard `name`, with the files that the manifest at `source` lists.

    source: a folder, or the address of one over HTTP. digest: of the model, which the manifest must have; without it
    the guard is whatever `source` says. A guard that is there already under that name stays, if it is the same. Raises
    ConfigError for a name or an address that is none, BundleError for files that are not what they should be, and
    DataError for what cannot be downloaded; then nothing was changed.
    """
    if not assets.is_bundle_name(name):
        raise ConfigError(f"{name[:40]!r} must be a name of lower-case letters, digits and hyphens, and no path here")
    store = assets.fetched_bundles()
    store.mkdir(parents=True, exist_ok=True)
    target = store / name
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=store) as scratch, _opened(source, retry) as get:
        made = Path(scratch) / name
        made.mkdir()
        get(MANIFEST, made / MANIFEST, LONGEST_MANIFEST)
        manifest = read_manifest(made / MANIFEST)
        if digest is not None and manifest.model != digest:
            raise BundleError(f"{source}: holds the guard {manifest.model}, not {digest}; look for another release")
        if target.is_dir() and open_bundle(target).manifest.model == manifest.model:
            return target
        for file in sorted(manifest.files):
            if Path(file).name != file or file in UNSEALED:
                raise BundleError(f"{source}: {MANIFEST} lists {file[:80]!r}, which is no plain file name of a bundle")
            get(file, made / file, shutil.disk_usage(made).free)
        open_bundle(made)
        if target.exists():
            target.replace(Path(scratch) / "old")
        made.replace(target)
    return target


@contextmanager
def _opened(source: str, retry: RetryPolicy) -> Iterator[Callable[[str, Path, int], None]]:
    """What copies a file of the source to a path: its name, the path, and the most bytes that it may have."""
    if "://" not in source:
        if not (Path(source) / MANIFEST).is_file():
            raise ConfigError(f"{source}: no {MANIFEST} there; give a bundle folder, or its address over http or https")
        yield lambda file, path, most: _copied(Path(source) / file, path)
        return
    base = _address(source)
    with session(Hosts(), retry) as opened:

        def download(file: str, path: Path, most: int) -> None:
            with path.open("wb") as out:
                receive(opened, f"{base}/{quote(file)}", Body(out, most))

        yield download


def _copied(source: Path, path: Path) -> None:
    if not source.is_file():
        raise BundleError(f"{source}: missing; restore the bundle or export it again")
    shutil.copyfile(source, path)


def _address(source: str) -> str:
    parts = urlsplit(source)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise ConfigError(f"{source[:200]}: must look like https://example.org/guards/small, without user, ? or #")
    return source.rstrip("/")
