"""A client of OpenAI-compatible chat endpoints: with retries, rate limit, cache and usage counts.

Errors name the address and the status, never the contents of requests or responses: both may contain user text, and
the request contains the API key.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import SplitResult, urlsplit

from guard.conversation import Message
from guard.errors import ConfigError, EngineError, need
from guard.llm.completions import Choice, Completion, CompletionCache
from guard.llm.retry import RetryPolicy, Transient, parse_retry_after, retrying

PATH = "/chat/completions"
CONNECT_S = 10.0
RETRY = RetryPolicy(attempts=6, longest_retry_after_s=300.0)
_RETRIED = {408, 429}  # and all from 500
_MISCONFIGURED = {401: "check the API key", 404: "check the base URL and the model", 405: "check the base URL"}
# Error codes that help. Any other text of an error is ignored: it may repeat the request.
_ERROR_CODES = {
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
    """The endpoint of a model. `body` is added to each request; a null in it removes a key.

    api_key_env names the environment variable that holds the API key; None: no key is sent.
    """

    base_url: str = field(repr=False)
    model: str
    api_key_env: str | None = field(default=None, repr=False)  # users may pass the key itself by mistake
    requests_per_minute: float | None = None
    timeout_s: float = 120.0
    retry: RetryPolicy = RETRY
    body: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        parts = self._parts
        if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError("the base URL must look like https://HOST:PORT/v1")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ConfigError(
                "the base URL must have no user name, password, query or fragment; keys go in api_key_env"
            )
        if not self.model:
            raise ConfigError("the model name is empty; give the endpoint's name of the model")
        for name in ("requests_per_minute", "timeout_s"):
            if (value := getattr(self, name)) is not None and value <= 0:
                raise ConfigError(f"{name} must be > 0 (got {value})")

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
    """The parameters of a completion. None is not sent and so left to the endpoint."""

    messages: tuple[Message, ...]
    temperature: float | None = None
    max_tokens: int | None = None
    n: int | None = None
    seed: int | None = None


def encode(request: Request, endpoint: Endpoint) -> bytes:
    """The request's body in canonical form, which includes the model but not the URL."""
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


class RateLimiter:
    """Spreads requests evenly over the minute. Clients that share a limit share it; thread-safe."""

    def __init__(self, requests_per_minute: float | None) -> None:
        self._interval = 60 / requests_per_minute if requests_per_minute else 0.0
        self._lock = threading.Lock()
        self._next = 0.0

    def reserve(self) -> float:
        """Takes the next slot; returns the seconds until then."""
        with self._lock:
            now = time.monotonic()
            slot = max(now, self._next)
            self._next = slot + self._interval
        return slot - now

    def pause(self, seconds: float) -> None:
        """Delays the next slot by at least this time."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)


class Client:
    """Requests completions, equal ones once. Thread-safe; requests are concurrent where the caller's threads are."""

    def __init__(
        self, endpoint: Endpoint, cache: CompletionCache, account: str, limiter: RateLimiter | None = None
    ) -> None:
        """account: the cost account of new completions (`CompletionCache.usage`). limiter: a shared one.

        ConfigError where there is no usable key.
        """
        self.endpoint = endpoint
        self.cache = cache
        self.account = account
        self.limiter = limiter or RateLimiter(endpoint.requests_per_minute)
        self._httpx = need("httpx", "data")
        headers = {"Content-Type": "application/json", **_authorization(endpoint.api_key_env)}
        timeout = self._httpx.Timeout(endpoint.timeout_s, connect=min(CONNECT_S, endpoint.timeout_s), pool=None)
        limits = self._httpx.Limits(max_connections=None, max_keepalive_connections=None)
        self._http = self._httpx.Client(headers=headers, timeout=timeout, limits=limits)
        self._retrying = retrying(endpoint.retry, self._sleep)
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._in_flight: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()

    def complete(self, request: Request) -> Completion:
        """The completion, from the cache if present.

        Raises EngineError if all attempts fail or the request is rejected, ConfigError if the endpoint rejects every
        request.
        """
        body = encode(request, self.endpoint)
        # The seed counts even where `body` removes it for an endpoint without seeds: it identifies another answer.
        digest = hashlib.sha256(body + f" {request.seed}".encode()).hexdigest()
        with self._lock:
            own = self._in_flight.setdefault(digest, threading.Lock())
        with own:  # equal requests at the same time share one completion
            if cached := self.cache.get(digest):
                return cached
            completion = self._request(body)
            self.cache.put(digest, self.account, completion)
        return completion

    def stop(self) -> None:
        """No further attempts from now on; responses in flight still arrive."""
        self._stopped.set()

    def close(self) -> None:
        self._http.close()

    def _request(self, body: bytes) -> Completion:
        attempts = 0

        def attempt() -> Completion:
            nonlocal attempts
            attempts += 1
            self._sleep(self.limiter.reserve())
            return replace(self._send(body), retries=attempts - 1)

        try:
            completion: Completion = self._retrying(attempt)
        except Transient as error:
            raise EngineError(f"{error}, after {attempts} attempt{'s' if attempts > 1 else ''}") from None
        return completion

    def _sleep(self, seconds: float) -> None:
        if self._stopped.wait(seconds):
            raise EngineError("the client was stopped")

    def _send(self, body: bytes) -> Completion:
        try:
            response = self._http.post(self.endpoint.url, content=body)
        except self._httpx.HTTPError as error:
            raise Transient(f"no answer ({type(error).__name__})") from None
        status = response.status_code
        if status == 200:
            return _parse(response.content)
        message = f"answered {status}{_error_code(response.content)}"
        if status in _MISCONFIGURED:
            raise ConfigError(f"{self.endpoint.where} {message}: {_MISCONFIGURED[status]}")
        if status not in _RETRIED and status < 500:
            raise EngineError(message)
        wait_s, retry = parse_retry_after(response.headers.get("retry-after")), self.endpoint.retry
        if not retry.allows(wait_s):
            raise Transient(f"{message} and asks to wait longer than {retry.longest_retry_after_s:.0f} s", wait_s)
        if wait_s:
            self.limiter.pause(wait_s)  # for all who share the limit
        raise Transient(message, wait_s)  # the message excludes the wait: equal failures are counted together


def _authorization(name: str | None) -> dict[str, str]:
    """The header with the key. Messages show neither it nor the variable's name, which may be the key by mistake."""
    if name is None:
        return {}
    key = os.environ.get(name, "").strip()
    if not key:
        raise ConfigError(
            "the environment variable for the API key is not set; export it and pass its name, not the key"
        )
    if not re.fullmatch(r"[!-~]+", key):  # else the HTTP library's own error would show it
        raise ConfigError(f"the API key in the environment ({len(key)} characters) must be ASCII without spaces")
    return {"Authorization": f"Bearer {key}"}


def _parse(content: bytes) -> Completion:
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
        raise Transient("answered 200 without a valid chat completion") from None
    if not choices or not all(isinstance(choice.text, str) for choice in choices):
        raise Transient("answered 200 with no text")
    tokens_in, tokens_out = (count if type(count) is int and count >= 0 else None for count in counts)
    return Completion(choices, tokens_in, tokens_out)


def _error_code(content: bytes) -> str:
    """The code of an error response, if it is a known one."""
    try:
        code = json.loads(content)["error"]["code"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    return f" ({code})" if isinstance(code, str) and code in _ERROR_CODES else ""
