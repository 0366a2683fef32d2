"""Transfers: a file of a public repository over HTTP, with retries, ranges, redirects and Git LFS pointers."""

from __future__ import annotations

import hashlib
import logging
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO
from urllib.parse import quote, urlsplit

from guard.data.sources.fetch.downloads import UpstreamFile
from guard.errors import DISTRIBUTION, ConfigError, DataError, need
from guard.llm.retry import RetryPolicy, Transient, parse_retry_after, retrying

SLACK = 1024  # bytes that a body may have over the expected size: room for a pointer in place of a tiny file
_REDIRECTS = 5
_log = logging.getLogger(__name__)
_POINTER = b"version https://git-lfs.github.com/spec/v1\n"
_BUSY = {408, 416, 429, 500, 502, 503, 504}  # 416: the file is shorter than the part that was there


@dataclass(frozen=True, slots=True)
class Hosts:
    """Where repositories are served: plain files, and the files behind Git LFS pointers."""

    raw: str = "https://raw.githubusercontent.com"
    media: str = "https://media.githubusercontent.com/media"

    def url(self, file: UpstreamFile) -> str:
        """The URL of the file, or of its pointer."""
        return f"{self.raw}/{quote(file.name)}"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds until a server is given up: to be connected, and between two pieces of an answer."""

    connect_s: float = 10.0
    read_s: float = 30.0


RETRY = RetryPolicy()
TIMEOUTS = Timeouts()


@dataclass(frozen=True, slots=True)
class Session:
    """What the transfers of one run share; thread-safe. Setting `stop` ends them."""

    client: Any
    hosts: Hosts
    retry: RetryPolicy
    stop: threading.Event = field(default_factory=threading.Event)
    unreachable: set[str] = field(default_factory=set)  # hosts that no attempt could connect to


@dataclass(slots=True)
class Body:
    """What has been received of one file. `count` is called with the bytes that came, negative where those are void."""

    out: BinaryIO
    limit: int  # bytes
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
        if self.size + len(chunk) > self.limit:
            raise DataError(f"{url} sends more than {self.limit} bytes, the most that is expected")
        self.out.write(chunk)
        self.hash.update(chunk)
        self.head += chunk[: SLACK - len(self.head)]
        self.size += len(chunk)
        self.count(len(chunk))


def hosts_at(base_url: str | None) -> Hosts:
    """GitHub's hosts, or a mirror with BASE/OWNER/REPOSITORY/COMMIT/PATH (LFS files the same below BASE/media)."""
    if base_url is None:
        return Hosts()
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise ConfigError("the base URL must look like https://mirror.example.org/github, without user, ? or #")
    base = base_url.rstrip("/")
    return Hosts(base, f"{base}/media")


@contextmanager
def session(hosts: Hosts, retry: RetryPolicy = RETRY, timeouts: Timeouts = TIMEOUTS) -> Iterator[Session]:
    """A session with the proxies and certificates of the environment."""
    httpx = need("httpx", "data")
    client = httpx.Client(
        timeout=httpx.Timeout(timeouts.read_s, connect=timeouts.connect_s, pool=None),
        # What is hashed is the file itself, and a range of it must mean the same each time.
        headers={"Accept-Encoding": "identity", "User-Agent": DISTRIBUTION},
    )
    with client:
        yield Session(client, hosts, retry)


def download(session: Session, file: UpstreamFile, body: Body, sha256: str | None) -> str:
    """Fills `body` with an upstream file and returns the URL that it came from.

    A Git LFS pointer is followed if it names `sha256` (or that is None), and what comes must be what it names.
    DataError if there is no such file, the server cannot be reached, or sends too much.
    """
    url = session.hosts.url(file)
    receive(session, url, body)
    pointed = _pointed(body)
    if pointed is None:
        return url
    if sha256 not in (None, pointed):
        raise DataError(f"{url} is a Git LFS pointer to sha256 {pointed}; expected {sha256}")
    url = f"{session.hosts.media}/{quote(file.name)}"
    receive(session, url, body)
    if body.sha256 != pointed:
        raise DataError(f"{url}: expected sha256 {pointed}, which its pointer names, got {body.sha256}")
    return url


def _pointed(body: Body) -> str | None:
    """The sha256 that a Git LFS pointer names, if `body` is one."""
    if body.size > SLACK or not body.head.startswith(_POINTER):
        return None
    fields = dict(line.partition(b" ")[::2] for line in body.head.splitlines())
    return fields.get(b"oid", b"").decode("ascii", "replace").removeprefix("sha256:")


def receive(session: Session, url: str, body: Body) -> None:
    """Fills `body` with what `url` serves, in several attempts if need be."""
    httpx, host = need("httpx", "data"), urlsplit(url).netloc
    if host in session.unreachable:
        raise DataError(f"not tried, because {host} could not be reached")
    body.restart()
    try:
        retrying(session.retry, session.stop.wait)(_stream, session, url, body)  # waiting ends when the run is stopped
    except Transient as error:
        if isinstance(error.__cause__, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError):
            session.unreachable.add(host)
        raise DataError(str(error)) from None


def _stream(session: Session, url: str, body: Body) -> None:
    """One attempt. It continues where the last one broke off, if the server still has that version of the file."""
    httpx = need("httpx", "data")
    _check_stop(session)
    _log.info("GET %s from byte %d", url, body.size)
    try:
        headers = {"Range": f"bytes={body.size}-", "If-Range": body.tag} if body.size and body.tag else {}
        with _open(session.client, url, headers) as response:
            _check_status(response, url, body)
            tag = response.headers.get("etag", "")
            body.tag = tag if tag.startswith('"') and "content-encoding" not in response.headers else None
            for chunk in response.iter_bytes():
                _check_stop(session)
                body.write(chunk, url)
    except httpx.HTTPError as error:
        message = f"{url}: {str(error) or 'no answer in time'} ({type(error).__name__})"
        if isinstance(error, httpx.TransportError):
            raise Transient(message) from error
        raise DataError(message) from None


def _check_status(response: Any, url: str, body: Body) -> None:
    """DataError or Transient unless the response continues `body`, or is whole: then that starts anew."""
    status = response.status_code
    if status in _BUSY:
        if status == 416:
            body.restart()
        wait_s = parse_retry_after(response.headers.get("retry-after"))
        asks = f" and asks to wait {math.ceil(wait_s)} s" if wait_s else ""
        raise Transient(f"{url} answered {status}{asks}; try again later", wait_s)
    if status not in (200, 206):
        raise DataError(f"{url} answered {status} {response.reason_phrase}")
    if status == 200:
        body.restart()
    elif not response.headers.get("content-range", "").startswith(f"bytes {body.size}-"):
        raise DataError(f"{url} answered with another range than was requested")


def _check_stop(session: Session) -> None:
    if session.stop.is_set():
        raise DataError("stopped")


@contextmanager
def _open(client: Any, url: str, headers: dict[str, str]) -> Iterator[Any]:
    """The response of `url` after redirects, which may go to https, or stay on the host.

    httpx would follow them too, but reads the body of each, however long, and to whatever scheme.
    """
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
