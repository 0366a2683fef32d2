"""Rows that repeat held-out benchmark material, found by hashes, without holding the benchmark text."""

from __future__ import annotations

import dataclasses
import gzip
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from guard.data.ingest.fingerprint import digest, grams, normalise
from guard.data.row import Row
from guard.data.sources import formats
from guard.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PROMPTS = "prompts.sha256_16.txt.gz"
RESPONSES = "responses.sha256_16.txt.gz"
GRAMS = "prompt_8grams.sha256_16.part-*.txt.gz"
BOILERPLATE = 20  # an 8-gram in more held-out prompts than these says nothing about any of them
SHORTEST_RESPONSE = 40  # normalised characters; shorter answers repeat by chance


@dataclass(frozen=True, slots=True)
class Flag:
    """Which rules a row breaks: its prompt is held out, contains a held-out prompt, or its response is held out."""

    prompt_exact: bool = False
    prompt_contains: bool = False
    response_exact: bool = False

    def __bool__(self) -> bool:
        return self.prompt_exact or self.prompt_contains or self.response_exact

    @property
    def rules(self) -> str:
        """The names of the rules broken, joined by a comma and a space."""
        return ", ".join(name.replace("_", " ") for name, broken in dataclasses.asdict(self).items() if broken)


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
    parts = sorted(folder.glob(GRAMS))
    if not parts:
        raise DataError(
            f"no fingerprints in {folder}: expected {PROMPTS}, {RESPONSES} and {GRAMS}; without them take "
            "`decontaminate` out of the configuration, and name the test sets that you have under `against`"
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
    return _fingerprints(
        frozenset(line.split(" ")[0] for line in _lines(folder / PROMPTS)),
        frozenset(line.split(" ")[0] for line in _lines(folder / RESPONSES)),
        hashes,
        owners,
        totals,
    )


def fingerprint(prompts: Iterable[str], responses: Iterable[str] = ()) -> Fingerprints:
    """The fingerprints of held-out texts that are at hand, by the same rule as those in files."""
    listed = sorted({text for text in map(normalise, prompts) if text})
    runs = [grams(text) for text in listed]
    spread = Counter(gram for own in runs for gram in own)
    hashes: list[int] = []
    owners: list[int] = []
    for owner, own in enumerate(runs):
        rare = sorted(gram for gram in own if spread[gram] <= BOILERPLATE)
        hashes += [int(digest(gram), 16) for gram in rare]
        owners += [owner] * len(rare)
    return _fingerprints(
        frozenset(map(digest, listed)),
        frozenset(digest(text) for text in map(normalise, responses) if len(text) > SHORTEST_RESPONSE),
        hashes,
        owners,
        {owner: len(own) for owner, own in enumerate(runs) if own},
    )


def from_file(path: Path) -> Fingerprints:
    """The fingerprints of a file of held-out rows: `text`, `prompt` and `response`, or `messages`."""
    prompts: list[str] = []
    responses: list[str] = []
    for record in formats.read(path, str(path), formats.format_of(path)):
        row = record.fields
        turns = row.get("messages")
        if isinstance(turns, list):
            texts = [(turn.get("role"), turn.get("content")) for turn in turns if isinstance(turn, dict)]
            prompts += [str(content) for role, content in texts if role != "assistant"]
            responses += [str(content) for role, content in texts if role == "assistant"]
        elif text := next((row[name] for name in ("prompt", "text") if row.get(name)), None):
            prompts.append(str(text))
            responses += [str(row["response"])] if row.get("response") else []
        else:
            raise DataError(
                f"{record.place}: held-out rows need `text`, `prompt` (with an optional `response`) or `messages`; "
                f"this one has {', '.join(map(str, row)) or 'nothing'}"
            )
    if not prompts:
        raise DataError(f"{path}: has no rows to hold out")
    return fingerprint(prompts, responses)


def join(first: Fingerprints, second: Fingerprints) -> Fingerprints:
    """What is held out by either."""
    shift = max(first.gram_totals, default=-1) + 1
    return _fingerprints(
        first.prompts | second.prompts,
        first.responses | second.responses,
        [*first.gram_hashes.tolist(), *second.gram_hashes.tolist()],
        [*first.gram_owners.tolist(), *(owner + shift for owner in second.gram_owners.tolist())],
        first.gram_totals | {owner + shift: total for owner, total in second.gram_totals.items()},
    )


def _fingerprints(
    prompts: frozenset[str], responses: frozenset[str], hashes: list[int], owners: list[int], totals: dict[int, int]
) -> Fingerprints:
    import numpy as np

    keys = np.array(hashes, dtype=np.uint64)
    order = np.argsort(keys, kind="stable")
    return Fingerprints(prompts, responses, keys[order], np.array(owners, dtype=np.int64)[order], totals)


def _lines(path: Path) -> Iterator[str]:
    try:
        with gzip.open(path, "rt", encoding="utf-8") as stream:
            for line in stream:
                yield line.rstrip("\n")
    except OSError as problem:
        raise DataError(f"{path}: cannot be read: {problem.strerror or 'it is not gzip'}") from None


def flags(rows: Sequence[Row], held_out: Fingerprints) -> list[Flag]:
    """One flag a row, in order; a row whose flag is true must not be trained on.

    Of a row with several turns each user turn is looked at as well as the whole, of a pair both answers.
    """
    known: dict[str, tuple[bool, bool]] = {}  # many rows share a prompt
    result = []
    for row in rows:
        texts = [row.prompt, *(content for role, content in row.turns if role == "user")]
        for text in texts:
            if text not in known:
                normalised = normalise(text)
                known[text] = (digest(normalised) in held_out.prompts, _contains(normalised, held_out))
        exact, contains = (any(known[text][rule] for text in texts) for rule in (0, 1))
        answered = any(_repeats_response(text, held_out) for text in (row.response, row.rejected))
        result.append(Flag(exact, contains, answered))
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
