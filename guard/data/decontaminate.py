"""Rows that repeat held-out benchmark material, found by hashes, without holding the benchmark text."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from guard.data.fingerprint import digest, grams, normalise
from guard.data.row import Row
from guard.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PROMPTS = "prompts.sha256_16.txt.gz"
RESPONSES = "responses.sha256_16.txt.gz"
GRAMS = "prompt_8grams.sha256_16.part-*.txt.gz"
SHORTEST_RESPONSE = 40  # normalised characters; shorter answers repeat by chance


@dataclass(frozen=True, slots=True)
class Flag:
    """Which rules a row breaks: its prompt is held out, contains a held-out prompt, or its response is held out."""

    prompt_exact: bool = False
    prompt_contains: bool = False
    response_exact: bool = False

    def __bool__(self) -> bool:
        return self.prompt_exact or self.prompt_contains or self.response_exact


@dataclass(frozen=True, slots=True, repr=False)
class Fingerprints:
    """Hashes of held-out texts. `gram_hashes` is sorted; `gram_owners` names the held-out prompt of each entry."""

    prompts: frozenset[str]
    responses: frozenset[str]
    gram_hashes: NDArray[np.uint64]
    gram_owners: NDArray[np.int64]
    gram_totals: dict[int, int]


def load(folder: Path) -> Fingerprints:
    """The fingerprints in `folder`; DataError if it is missing, a file of it is, or a line is broken."""
    import numpy as np

    parts = sorted(folder.glob(GRAMS))
    if not parts:
        raise DataError(
            f"no fingerprints in {folder}: expected {PROMPTS}, {RESPONSES} and {GRAMS}; see `decontaminate`"
        )
    owners: list[int] = []
    hashes: list[int] = []
    totals: dict[int, int] = {}
    for path in parts:
        for number, line in enumerate(_lines(path), 1):
            try:
                owner, _, total, *listed = line.split(" ")
                totals[int(owner)] = int(total)
                hashes += [int(value, 16) for value in listed]
            except ValueError:
                raise DataError(f"{path} line {number}: must be `<prompt> <sets> <n> <hash> …`") from None
            owners += [int(owner)] * len(listed)
    keys = np.array(hashes, dtype=np.uint64)
    order = np.argsort(keys, kind="stable")
    return Fingerprints(
        prompts=frozenset(line.split(" ")[0] for line in _lines(folder / PROMPTS)),
        responses=frozenset(line.split(" ")[0] for line in _lines(folder / RESPONSES)),
        gram_hashes=keys[order],
        gram_owners=np.array(owners, dtype=np.int64)[order],
        gram_totals=totals,
    )


def _lines(path: Path) -> Iterator[str]:
    try:
        with gzip.open(path, "rt", encoding="utf-8") as stream:
            for line in stream:
                yield line.rstrip("\n")
    except OSError as problem:
        raise DataError(f"{path}: cannot be read: {problem.strerror or 'it is not gzip'}") from None


def flags(rows: list[Row], held_out: Fingerprints) -> list[Flag]:
    """One flag a row, in order; a row whose flag is true must not be trained on."""
    known: dict[str, tuple[bool, bool]] = {}  # many rows share a prompt
    result = []
    for row in rows:
        if row.prompt not in known:
            normalised = normalise(row.prompt)
            known[row.prompt] = (digest(normalised) in held_out.prompts, _contains(normalised, held_out))
        result.append(Flag(*known[row.prompt], _repeats_response(row.response, held_out)))
    return result


def _repeats_response(response: str | None, held_out: Fingerprints) -> bool:
    normalised = normalise(response or "")
    return len(normalised) > SHORTEST_RESPONSE and digest(normalised) in held_out.responses


def _contains(normalised: str, held_out: Fingerprints) -> bool:
    """Whether at least half of the 8-grams of some held-out prompt are among those of this text."""
    import numpy as np

    own = grams(normalised)
    if not own:
        return False
    keys = np.fromiter((int(digest(gram), 16) for gram in own), dtype=np.uint64, count=len(own))
    start = np.searchsorted(held_out.gram_hashes, keys, "left")
    stop = np.searchsorted(held_out.gram_hashes, keys, "right")
    found = [held_out.gram_owners[a:b] for a, b in zip(start, stop, strict=True) if a < b]
    if not found:
        return False
    owners, counts = np.unique(np.concatenate(found), return_counts=True)
    return any(2 * count >= held_out.gram_totals[owner] for owner, count in zip(owners.tolist(), counts, strict=True))
