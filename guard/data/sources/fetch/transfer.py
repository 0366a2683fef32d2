"""Transfers: a file of a public repository over HTTP, with retries, ranges, redirects and Git LFS pointers."""

from __future__ import annotations

import email.utils
import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO
from urllib.parse import quote, urlsplit

from guard.data.sources.fetch.downloads import Place
from guard.errors import DISTRIBUTION, ConfigError, DataError, need

SLACK = 1024  # bytes that a body may have over the expected size: room for a pointer in place of a tiny file
_REDIRECTS = 5
_POINTER = b"version https://git-lfs.github.com/spec/v1\n"
_BUSY = {408, 416, 429, 500, 502, 503, 504}  # 416: the file is shorter than the part that was there


@dataclass(frozen=True, slots=True)
class Hosts:
    """Where repositories are served: plain files, and the files behind Git LFS pointers."""

    raw: str = "https://raw.githubusercontent.com"
    media: str = "https://media.githubusercontent.com/media"

    def address(self, place: Place) -> str:
        """The address of the file, or of its pointer."""
        return f"{self.raw}/{quote(place.name)}"


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a server is borne with; waits are random below a bound that doubles from `first_s`,
    or what the server asks for."""

    attempts: int = 5
    first_s: float = 0.5
    longest_s: float = 60.0
    connect_s: float = 10.0
    read_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Session:
    """What the transfers of one run share; thread-safe. Setting `stop` ends them."""

    client: Any
    hosts: Hosts
    patience: Patience
    stop: threading.Event = field(default_factory=threading.Event)
    down: set[str] = field(default_factory=set)  # hosts that could not be reached by any attempt


@dataclass(slots=True)
class Body:
    """What has come of one file so far. `count` is told the bytes that came, negative where they count no more."""

    out: BinaryIO
    most: int
    count: Callable[[int], None] = lambda size: None
    size: int = 0
    tag: str | None = None  # of the version that the server is sending
    head: bytes = b""  # enough of it to know a pointer
    hash: Any = field(default_factory=hashlib.sha256)

    @property
    def sha256(self) -> str:
        digest: str = self.hash.hexdigest()
        return digest

    def restart(self) -> None:
        self.count(-self.size)
        self.size, self.tag, self.head, self.hash = 0, None, b"", hashlib.sha256()
        self.out.seek(0)
        self.out.truncate()

    def write(self, chunk: bytes, url: str) -> None:
        if self.size + len(chunk) > self.most:
            raise DataError(f"{url} sends more than {self.most} bytes, the most that was expected")
        self.out.write(chunk)
        self.hash.update(chunk)
        self.head += chunk[: SLACK - len(self.head)]
        self.size += len(chunk)
        self.count(len(chunk))


class _Busy(Exception):
    """The server answered that it cannot serve now, or not so."""

    def __init__(self, url: str, status: int, wait_s: float | None) -> None:
        asked = f" and asks to wait {wait_s:.0f} s" if wait_s else ""
        super().__init__(f"{url} answered {status}{asked}; try again later")
        self.wait_s = wait_s


def hosts(base_url: str | None) -> Hosts:
    """The hosts of GitHub, or a mirror with BASE/OWNER/REPOSITORY/COMMIT/PATH (LFS files the same below BASE/media)."""
    if base_url is None:
        return Hosts()
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise ConfigError("the base address must be like https://mirror.example.org/github, without user, ? or #")
    base = base_url.rstrip("/")
    return Hosts(base, f"{base}/media")


@contextmanager
def session(served: Hosts, patience: Patience | None = None) -> Iterator[Session]:
    """A session with the proxies and certificates of the environment."""
    httpx = need("httpx", "data")
    patience = patience or Patience()
    client = httpx.Client(
        timeout=httpx.Timeout(patience.read_s, connect=patience.connect_s, pool=None),
        # What is hashed is the file itself, and a range of it must mean the same each time.
        headers={"Accept-Encoding": "identity", "User-Agent": DISTRIBUTION},
    )
    with client:
        yield Session(client, served, patience)


def download(session: Session, place: Place, body: Body, sha256: str | None) -> str:
    """Fills `body` with the file at `place` and returns the address that it came from.

    A Git LFS pointer is followed if it names `sha256` (or that is None), and what comes must be what it names.
    DataError if there is no such file, the server cannot be had, or sends too much.
    """
    address = session.hosts.address(place)
    _receive(session, address, body)
    pointer = _pointer(body)
    if pointer is None:
        return address
    if sha256 not in (None, pointer):
        raise DataError(f"{address} is a Git LFS pointer to sha256 {pointer}; wanted {sha256}")
    address = f"{session.hosts.media}/{quote(place.name)}"
    _receive(session, address, body)
    if body.sha256 != pointer:
        raise DataError(f"{address}: wanted sha256 {pointer}, which its pointer names, got {body.sha256}")
    return address


def _pointer(body: Body) -> str | None:
    """The sha256 of the file that stands behind a Git LFS pointer, if `body` is one."""
    if body.size > SLACK or not body.head.startswith(_POINTER):
        return None
    found = dict(line.partition(b" ")[::2] for line in body.head.splitlines())
    return found.get(b"oid", b"").decode("ascii", "replace").removeprefix("sha256:")


def _receive(session: Session, url: str, body: Body) -> None:
    """Fills `body` with what `url` serves, in several attempts if need be."""
    httpx, tenacity = need("httpx", "data"), need("tenacity", "data")
    patience, host = session.patience, urlsplit(url).netloc
    if host in session.down:
        raise DataError(f"not tried, because {host} could not be reached")
    backoff = tenacity.wait_random_exponential(patience.first_s, patience.longest_s)
    again = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(patience.attempts),
        retry=tenacity.retry_if_exception(lambda problem: _passing(problem, httpx, patience)),
        wait=lambda state: getattr(state.outcome.exception(), "wait_s", None) or backoff(state),
        sleep=session.stop.wait,  # ends at once when the run is stopped
        reraise=True,
    )
    body.restart()
    try:
        again(_stream, session, url, body)
    except _Busy as problem:
        raise DataError(str(problem)) from None
    except httpx.HTTPError as problem:
        if isinstance(problem, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError):
            session.down.add(host)
        reason = str(problem) or "no answer in time"
        raise DataError(f"{url}: {reason} ({type(problem).__name__})") from None


def _passing(problem: BaseException, httpx: Any, patience: Patience) -> bool:
    """Whether another attempt may fare better."""
    if isinstance(problem, _Busy):
        return (problem.wait_s or 0) <= patience.longest_s
    return isinstance(problem, httpx.TransportError)


def _stream(session: Session, url: str, body: Body) -> None:
    """One attempt. It goes on where the last one broke off, if the server still has that version of the file."""
    headers = {"Range": f"bytes={body.size}-", "If-Range": body.tag} if body.size and body.tag else {}
    _check_stop(session)
    with _open(session.client, url, headers) as response:
        status = response.status_code
        if status in _BUSY:
            if status == 416:
                body.restart()
            raise _Busy(url, status, _wait(response.headers.get("retry-after")))
        if status not in (200, 206):
            raise DataError(f"{url} answered {status} {response.reason_phrase}")
        if status == 200:
            body.restart()
        elif not response.headers.get("content-range", "").startswith(f"bytes {body.size}-"):
            raise DataError(f"{url} answered with another range than was asked for")
        tag = response.headers.get("etag", "")
        body.tag = tag if tag.startswith('"') and "content-encoding" not in response.headers else None
        for chunk in response.iter_bytes():
            _check_stop(session)
            body.write(chunk, url)


def _check_stop(session: Session) -> None:
    if session.stop.is_set():
        raise DataError("stopped")


@contextmanager
def _open(client: Any, url: str, headers: dict[str, str]) -> Iterator[Any]:
    """The answer of `url` after redirects, which may go to https, or stay on the host."""
    for _ in range(_REDIRECTS + 1):
        with client.stream("GET", url, headers=headers) as response:
            if not response.has_redirect_location:
                yield response
                return
            target = str(response.next_request.url)
        old, new = urlsplit(url), urlsplit(target)
        if new.scheme != "https" and (new.scheme, new.netloc) != (old.scheme, old.netloc):
            raise DataError(f"{url} redirects to {new.scheme}://{new.netloc}, which is not https; not followed")
        url = target
    raise DataError(f"{url}: more than {_REDIRECTS} redirects")


def _wait(asked: str | None) -> float | None:
    """The seconds of a Retry-After header: a number, or a date."""
    if asked is None:
        return None
    if asked.strip().isdecimal():
        return float(asked)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(asked).timestamp() - time.time())
    except ValueError:
        return None
