"""Cached readings: a reward model's, by its fingerprint and the texts, on disk and shared by processes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from guard.jobs.cache import Cache
from guard.reward.score import Asked, Compared, Reader, Reading
from guard.reward.scorer import Scorer

_VERSION = "reward-2"
_CHUNK = 64  # readings that are stored together, and lost together if the process is killed


@dataclass(frozen=True, eq=False)
class CachedReader:
    """Asks its reader only for what no process has asked before under the same fingerprint."""

    reader: Reader
    cache: Cache
    fingerprint: str

    @property
    def pairwise(self) -> bool:
        return self.reader.pairwise

    def singles(self, asked: Sequence[Asked]) -> list[Reading]:
        found = self._all(asked, lambda rest: [[dataclasses.asdict(r)] for r in self.reader.singles(rest)])
        return [Reading(**each[0]) for each in found]

    def pairs(self, asked: Sequence[Compared]) -> list[tuple[Reading, Reading]]:
        found = self._all(
            asked, lambda rest: [[dataclasses.asdict(r) for r in both] for both in self.reader.pairs(rest)]
        )
        return [(Reading(**first), Reading(**second)) for first, second in found]

    def seeded(self, seed: int) -> CachedReader:
        return CachedReader(self.reader.seeded(seed), self.cache, f"{self.fingerprint}/seed {seed}")

    def _all(self, asked: Sequence[Any], ask: Callable[[Sequence[Any]], list[Any]]) -> list[Any]:
        keys = [self._key(each) for each in asked]
        known = self.cache.get_many(keys)
        missing = {key: each for key, each in zip(keys, asked, strict=True) if key not in known}
        rest = list(missing)
        for chunk in (rest[at : at + _CHUNK] for at in range(0, len(rest), _CHUNK)):
            made = dict(zip(chunk, ask([missing[key] for key in chunk]), strict=True))
            self.cache.put_many(made)
            known |= made | self.cache.get_many(chunk)  # what another process stored first holds
        return [known[key] for key in keys]

    def _key(self, asked: Any) -> str:
        """Of everything that a reading depends on: the model, how it is asked, and all texts in their order."""
        prompt, *answers = asked
        texts = [[message.role, message.content] for message in prompt]
        parts = json.dumps([self.fingerprint, self.pairwise, texts, answers]).encode()
        return f"{_VERSION}:{hashlib.sha256(parts).hexdigest()}"


def cached(scorer: Scorer, cache: Cache | None) -> Scorer:
    """The scorer with a cache before its reader; the scorer itself without one."""
    if cache is None:
        return scorer
    return dataclasses.replace(scorer, reader=CachedReader(scorer.reader, cache, scorer.info.fingerprint))
