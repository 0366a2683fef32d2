"""Completions of chat endpoints, cached on disk by the digest of their request, so that none is paid for twice."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from guard.jobs.cache import Cache


@dataclass(frozen=True, slots=True, repr=False)
class Choice:
    """One generated text. finish: the finish reason, `stop` where it is complete, `length` where it was truncated."""

    text: str
    finish: str


@dataclass(frozen=True, slots=True, repr=False)
class Completion:
    """An endpoint's response. Tokens are None where it did not count them. cached: from the cache, not paid for."""

    choices: tuple[Choice, ...]
    tokens_in: int | None
    tokens_out: int | None
    retries: int = 0
    cached: bool = False


@dataclass(frozen=True, slots=True)
class Usage:
    """Completed requests and their usage. uncounted: those whose tokens the endpoint did not count."""

    requests: int = 0
    retries: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    uncounted: int = 0

    def cost(self, price_in: float | None, price_out: float | None) -> float | None:
        """In the currency of the prices, which are per million tokens; None without them."""
        if price_in is None or price_out is None:
            return None
        return round((self.tokens_in * price_in + self.tokens_out * price_out) / 1e6, 6)


class CompletionCache:
    """A file of completions, which threads and processes may share."""

    def __init__(self, path: Path) -> None:
        self._cache = Cache(path)

    def get(self, digest: str) -> Completion | None:
        """The completion of the request with this digest, marked as cached."""
        if (value := self._cache.get(_key(digest))) is None:
            return None
        choices = tuple(Choice(*choice) for choice in value["choices"])
        return Completion(choices, value["tokens_in"], value["tokens_out"], value["retries"], cached=True)

    def put(self, digest: str, account: str, completion: Completion) -> None:
        """account: the cost account for `usage`. The first completion of a request is kept."""
        value = {
            "choices": [[choice.text, choice.finish] for choice in completion.choices],
            "tokens_in": completion.tokens_in,
            "tokens_out": completion.tokens_out,
            "retries": completion.retries,
        }
        self._cache.put(_key(digest), value, account)

    def usage(self, account: str) -> Usage:
        """The usage of a cost account over all runs."""
        requests = retries = tokens_in = tokens_out = uncounted = 0
        for value in self._cache.tagged(account):
            requests += 1
            retries += value["retries"]
            tokens_in += value["tokens_in"] or 0
            tokens_out += value["tokens_out"] or 0
            uncounted += None in (value["tokens_in"], value["tokens_out"])
        return Usage(requests, retries, tokens_in, tokens_out, uncounted)

    def close(self) -> None:
        self._cache.close()


def _key(digest: str) -> str:
    return f"completion/1:{digest}"
