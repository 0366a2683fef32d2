"""API keys: who may ask for what. A file holds their digests alone, and is read again when it changes."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import Field

from guard import schema
from guard.errors import ConfigError, PermissionDenied, Unauthenticated
from guard.serve.core.quota import CALLER, Caller, Quota
from guard.serve.core.watched import Watched

Scope = Literal["moderate", "metrics", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
_PREFIX = "guard_"


@dataclass(frozen=True, slots=True)
class Key:
    """A key by its sha256. It is random and long, so that a fast digest does not help to guess it."""

    __pydantic_config__ = schema.STRICT

    name: Annotated[str, Field(min_length=1, max_length=80)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    scopes: tuple[Scope, ...] = ("moderate",)
    per_second: schema.Positive | None = None  # conversations
    concurrent: Annotated[int, Field(ge=1)] | None = None  # calls


@dataclass(frozen=True, slots=True)
class KeyFile:
    """The keys that are valid; to rotate one, list the new one beside the old one, and remove that later."""

    __pydantic_config__ = schema.STRICT

    keys: tuple[Key, ...]


def new_key(name: str, scopes: tuple[Scope, ...]) -> tuple[str, Key]:
    """A fresh key in the clear, to be shown once, and what the file holds of it."""
    clear = _PREFIX + secrets.token_urlsafe(32)
    return clear, Key(name, hashlib.sha256(clear.encode()).hexdigest(), scopes)


class Keys:
    """The keys of a file, at which it looks again after `look_seconds`.

    Raises ConfigError if it cannot be read at first; later the last good ones stay valid.
    """

    def __init__(self, path: Path, look_seconds: float | None = None) -> None:
        self._file = Watched("keys", [path], lambda: schema.load(path, KeyFile, ConfigError).keys, look_seconds)
        self._quotas: dict[str, Quota] = {}

    @contextmanager
    def admitted(self, headers: Mapping[str, str], scope: Scope) -> Iterator[Caller]:
        """The caller, who is `CALLER` and counts as a call until the end of the block.

        Raises as `check` does, and QuotaExceeded where the key has as many calls as it may.
        """
        key = self.check(headers, scope)
        quota = self._quotas.setdefault(key.sha256, Quota())  # stays with the key, whatever else the file says
        with quota.call(key.concurrent):
            caller = Caller(key.name, quota, key.per_second)
            token = CALLER.set(caller)
            try:
                yield caller
            finally:
                CALLER.reset(token)

    def check(self, headers: Mapping[str, str], scope: Scope) -> Key:
        """The valid key in `authorization: Bearer …` or `x-api-key`.

        Raises Unauthenticated without one, PermissionDenied if it has not the scope.
        """
        kind, _, bearer = headers.get("authorization", "").partition(" ")
        sent = bearer.strip() if kind.lower() == "bearer" else headers.get("x-api-key", "")
        if not sent:
            raise Unauthenticated("a key is required; send it as `authorization: Bearer KEY` or `x-api-key: KEY`")
        digest = hashlib.sha256(sent.encode(errors="surrogatepass")).hexdigest()
        # Every key is compared, and each in constant time.
        valid = [key for key in self._file.value if hmac.compare_digest(key.sha256, digest)]
        if not valid:
            raise Unauthenticated("the key is not valid")
        for key in valid:
            if scope in key.scopes:
                return key
        raise PermissionDenied(f"the key lacks the scope `{scope}`")
