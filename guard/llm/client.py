"""A client of OpenAI-compatible chat endpoints: retried, paced, cached, counted.

What goes wrong is told by address and status, never by what was sent or answered: both may hold user text, and the
request holds the API key.
"""

from __future__ import annotations

import email.utils
import hashlib
import json
import os
import re
import threading
import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, urlsplit

from guard.conversation import Message
from guard.errors import ConfigError, EngineError, need
from guard.llm.answers import Answers, Choice, Completion

PATH = "/chat/completions"
CONNECT_S = 10.0
LONGEST_WAIT_S = 300.0  # an endpoint that asks for more is given up
_RETRIED = {408, 429}  # and all from 500 on
_MISCONFIGURED = {401: "check the API key", 404: "check the base URL and the model", 405: "check the base URL"}
# Error codes that say what to change. Any other text of an error stays unread: it may repeat what was sent.
_KNOWN = {
    "content_filter",
    "context_length_exceeded",
    "insufficient_quota",
    "invalid_api_key",
    "model_not_found",
    "rate_limit_exceeded",
    "unsupported_parameter",
    "unsupported_value",
}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a model answers. `body` is added to each request; a null in it takes a key out.

    api_key_env names the environment variable that holds the API key; None: no key is sent.
    """

    base_url: str = field(repr=False)
    model: str
    api_key_env: str | None = field(default=None, repr=False)  # someone will give the key itself
    requests_per_minute: float | None = None
    timeout_s: float = 120.0
    attempts: int = 6
    backoff_s: float = 0.5  # doubled at each attempt, up to a minute, then drawn at random from zero to that
    body: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        parts = self._parts
        if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError("the base URL must look like https://HOST:PORT/v1")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ConfigError("the base URL must hold no user name, password, query or fragment; keys have own options")
        if not self.model:
            raise ConfigError("the model has no name; give the one that the endpoint knows it by")
        for name in ("requests_per_minute", "timeout_s", "attempts"):
            if (value := getattr(self, name)) is not None and value <= 0:
                raise ConfigError(f"{name} is {value}; it must be above 0")

    @property
    def _parts(self) -> SplitResult | None:
        try:
            parts = urlsplit(self.base_url)
            return parts if parts.port != 0 else None
        except ValueError:
            return None

    @property
    def url(self) -> str:
        return self.base_url.rstrip("/") + PATH

    @property
    def where(self) -> str:
        """Host, port and path, for messages."""
        parts = urlsplit(self.url)
        return f"{parts.hostname}:{parts.port or {'http': 80, 'https': 443}[parts.scheme]}{parts.path}"


@dataclass(frozen=True, slots=True, repr=False)
class Request:
    """What to ask. What is None is not sent, and so left to the endpoint."""

    messages: tuple[Message, ...]
    temperature: float | None = None
    max_tokens: int | None = None
    n: int | None = None
    seed: int | None = None


def encode(request: Request, endpoint: Endpoint) -> bytes:
    """The request's body in canonical form, which names the model but not where it answers."""
    body: dict[str, Any] = {
        "model": endpoint.model,
        "messages": [{"role": message.role, "content": message.content} for message in request.messages],
        "temperature": request.temperature,
        "max_tokens": request.max_tokens,
        "n": request.n,
        "seed": request.seed,
        **endpoint.body,
    }
    return json.dumps({key: value for key, value in body.items() if value is not None}, sort_keys=True).encode()


class _Transient(Exception):
    """May go well another time. wait_s: what the endpoint asked for."""

    def __init__(self, message: str, wait_s: float | None = None) -> None:
        super().__init__(message)
        self.wait_s = wait_s


class Pace:
    """Spreads requests evenly over the minute; clients that share a limit share it."""

    def __init__(self, requests_per_minute: float | None) -> None:
        self._interval = 60 / requests_per_minute if requests_per_minute else 0.0
        self._lock = threading.Lock()
        self._next = 0.0

    def turn(self) -> float:
        """Takes the next turn and says in how many seconds it comes."""
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next)
            self._next = turn + self._interval
        return turn - now

    def hold(self, seconds: float) -> None:
        """No turn comes before that."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)


class Client:
    """Asks an endpoint, and no question twice. Thread-safe; it is the caller's threads that ask at the same time."""

    def __init__(self, endpoint: Endpoint, answers: Answers, payer: str, pace: Pace | None = None) -> None:
        """payer: whom the new answers are counted for (`Answers.spent`). ConfigError where there is no usable key."""
        self.endpoint = endpoint
        self.answers = answers
        self.payer = payer
        self.pace = pace or Pace(endpoint.requests_per_minute)
        self._tenacity = need("tenacity", "data")
        self._httpx = need("httpx", "data")
        headers = {"Content-Type": "application/json", **_authorization(endpoint.api_key_env)}
        timeout = self._httpx.Timeout(endpoint.timeout_s, connect=min(CONNECT_S, endpoint.timeout_s), pool=None)
        limits = self._httpx.Limits(max_connections=None, max_keepalive_connections=None)
        self._http = self._httpx.Client(headers=headers, timeout=timeout, limits=limits)
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._asking: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()

    def complete(self, request: Request) -> Completion:
        """The answer, from the file of answers if it is there.

        Raises EngineError if there is none after all attempts or the request is refused, ConfigError if the endpoint
        refuses whatever it is asked.
        """
        body = encode(request, self.endpoint)
        # The seed counts even where `body` takes it out for an endpoint that knows none: it asks for another answer.
        asked = hashlib.sha256(body + f" {request.seed}".encode()).hexdigest()
        with self._lock:
            own = self._asking.setdefault(asked, threading.Lock())
        with own:  # who asks the same at the same time gets the same answer
            if known := self.answers.get(asked):
                return known
            answer = self._ask(body)
            self.answers.put(asked, self.payer, answer)
        return answer

    def stop(self) -> None:
        """Nobody waits for another attempt from now on; answers that are under way still come."""
        self._stopped.set()

    def close(self) -> None:
        self._http.close()

    def _ask(self, body: bytes) -> Completion:
        attempts = self._tenacity.Retrying(
            stop=self._tenacity.stop_after_attempt(self.endpoint.attempts),
            wait=self._backoff,
            retry=self._tenacity.retry_if_exception_type(_Transient),
            sleep=self._sleep,
            reraise=True,
        )
        retries = -1

        def attempt() -> Completion:
            nonlocal retries
            retries += 1
            self._sleep(self.pace.turn())
            return self._send(body, retries)

        try:
            answer: Completion = attempts(attempt)
        except _Transient as problem:
            raise EngineError(f"{problem}, after {retries + 1} attempts") from None
        return answer

    def _backoff(self, state: Any) -> float:
        if state.outcome.exception().wait_s:
            return 0.0  # the pace holds everybody back that long
        drawn: float = self._tenacity.wait_random_exponential(multiplier=self.endpoint.backoff_s, max=60)(state)
        return drawn

    def _sleep(self, seconds: float) -> None:
        if self._stopped.wait(seconds):
            raise EngineError("the client was stopped")

    def _send(self, body: bytes, retries: int) -> Completion:
        try:
            response = self._http.post(self.endpoint.url, content=body)
        except self._httpx.HTTPError as problem:
            raise _Transient(f"no answer ({type(problem).__name__})") from None
        status = response.status_code
        if status == 200:
            return _read(response.content, retries)
        told = f"answered {status}{_code(response.content)}"
        if status in _MISCONFIGURED:
            raise ConfigError(f"{self.endpoint.where} {told}: {_MISCONFIGURED[status]}")
        if status not in _RETRIED and status < 500:
            raise EngineError(told)
        wait_s = _retry_after(response.headers.get("retry-after"))
        if wait_s is not None:
            if wait_s > LONGEST_WAIT_S:
                raise EngineError(f"{told} and asks to wait longer than {LONGEST_WAIT_S:.0f} s")
            self.pace.hold(wait_s)
        raise _Transient(told, wait_s)


def _authorization(name: str | None) -> dict[str, str]:
    """The header with the key. The messages show neither it nor the name, which may be the key given by mistake."""
    if name is None:
        return {}
    key = os.environ.get(name, "").strip()
    if not key:
        raise ConfigError(
            "the environment variable that should hold the API key is not set; export it and give its name, not the key"
        )
    if not re.fullmatch(r"[!-~]+", key):  # else the HTTP library's own error would show it
        raise ConfigError(f"the API key in the environment ({len(key)} characters) holds spaces or other than ASCII")
    return {"Authorization": f"Bearer {key}"}


def _read(content: bytes, retries: int) -> Completion:
    """The completion in a response."""
    try:
        plain = json.loads(content)
        choices = tuple(
            Choice(choice["message"].get("content") or "", str(choice.get("finish_reason") or "stop"))
            for choice in plain["choices"]
        )
        usage = plain.get("usage") or {}
        counts = [usage.get("prompt_tokens"), usage.get("completion_tokens")]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise _Transient("answered 200 with what is no chat completion") from None
    if not choices or not all(isinstance(choice.text, str) for choice in choices):
        raise _Transient("answered 200 with no text")
    tokens_in, tokens_out = (count if type(count) is int and count >= 0 else None for count in counts)
    return Completion(choices, tokens_in, tokens_out, retries)


def _code(content: bytes) -> str:
    """The code of an error response, if it is a known one."""
    try:
        code = json.loads(content)["error"]["code"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    return f" ({code})" if isinstance(code, str) and code in _KNOWN else ""


def _retry_after(header: str | None) -> float | None:
    """Seconds, from a number of them or a date."""
    if header is None:
        return None
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", header.strip()):
        return float(header)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
