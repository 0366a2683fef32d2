"""Decontamination: rows that repeat held-out benchmark texts, matched by hashes instead of the texts themselves."""

from __future__ import annotations

import dataclasses
import gzip
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from guard.conversation import messages_from_row
from guard.data.ingest.fingerprint import digest, grams, normalise
from guard.data.row import Row
from guard.data.sources import formats
from guard.errors import DataError, InvalidInput

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PROMPTS = "prompts.sha256_16.txt.gz"
RESPONSES = "responses.sha256_16.txt.gz"
GRAMS = "prompt_8grams.sha256_16.part-*.txt.gz"
BOILERPLATE = 20  # an 8-gram that occurs in more held-out prompts than this identifies none of them
SHORTEST_RESPONSE = 40  # normalised characters; shorter responses repeat by chance


@dataclass(frozen=True, slots=True)
class Match:
    """How a row matches held-out texts: its prompt equals or contains a held-out prompt, or its response equals one.

    False where nothing matches.
    """

    prompt_exact: bool = False
    prompt_contains: bool = False
    response_exact: bool = False

    def __bool__(self) -> bool:
        return self.prompt_exact or self.prompt_contains or self.response_exact

    @property
    def rules(self) -> str:
        """The names of the matching rules, joined by a comma and a space."""
        return ", ".join(name.replace("_", " ") for name, matches in dataclasses.asdict(self).items() if matches)


@dataclass(frozen=True, slots=True, repr=False)
class Fingerprints:
    """Hashes of held-out texts. `gram_hashes` is sorted; `gram_owners` is the index of the held-out prompt of each."""

    prompts: frozenset[str]
    responses: frozenset[str]
    gram_hashes: NDArray[np.uint64]
    gram_owners: NDArray[np.int64]
    gram_totals: dict[int, int]


def load(folder: Path) -> Fingerprints:
    """The fingerprints in `folder`; DataError if the folder or a file is missing, or a line is malformed."""
    paths = sorted(folder.glob(GRAMS))
    if not paths:
        raise DataError(
            f"no fingerprints in {folder}: expected {PROMPTS}, {RESPONSES} and {GRAMS}; without them take "
            "`decontaminate` out of the configuration, and name the test sets that you have under `against`"
        )
    owners: list[int] = []
    hashes: list[int] = []
    totals: dict[int, int] = {}
    for path in paths:
        for number, line in enumerate(_lines(path), 1):
            try:
                owner, _, total, *digests = line.split(" ")
                totals[int(owner)] = int(total)
                hashes += [int(value, 16) for value in digests]
            except ValueError:
                raise DataError(f"{path} line {number}: must be `<prompt> <sets> <n> <hash> …`") from None
            owners += [int(owner)] * len(digests)
    return _fingerprints(
        frozenset(line.split(" ")[0] for line in _lines(folder / PROMPTS)),
        frozenset(line.split(" ")[0] for line in _lines(folder / RESPONSES)),
        hashes,
        owners,
        totals,
    )


def fingerprint(prompts: Iterable[str], responses: Iterable[str] = ()) -> Fingerprints:
    """The fingerprints of held-out texts, by the same rules as those in files."""
    distinct = sorted({text for text in map(normalise, prompts) if text})
    prompt_grams = [grams(text) for text in distinct]
    frequency = Counter(gram for of_prompt in prompt_grams for gram in of_prompt)
    hashes: list[int] = []
    owners: list[int] = []
    for owner, of_prompt in enumerate(prompt_grams):
        rare = sorted(gram for gram in of_prompt if frequency[gram] <= BOILERPLATE)
        hashes += [int(digest(gram), 16) for gram in rare]
        owners += [owner] * len(rare)
    return _fingerprints(
        frozenset(map(digest, distinct)),
        frozenset(digest(text) for text in map(normalise, responses) if len(text) > SHORTEST_RESPONSE),
        hashes,
        owners,
        {owner: len(of_prompt) for owner, of_prompt in enumerate(prompt_grams) if of_prompt},
    )


def from_file(path: Path) -> Fingerprints:
    """The fingerprints of a file of held-out rows: `text`, `prompt` and `response`, or `messages`."""
    prompts: list[str] = []
    responses: list[str] = []
    for record in formats.read(path, str(path), formats.format_of(path)):
        try:
            messages = messages_from_row({name: value for name, value in record.fields.items() if value != ""})
        except InvalidInput as problem:
            raise DataError(f"{record.place}: {problem}") from None
        for message in messages:
            (responses if message.role == "assistant" else prompts).append(message.content)
    if not prompts:
        raise DataError(f"{path}: has no rows to hold out")
    return fingerprint(prompts, responses)


def join(first: Fingerprints, second: Fingerprints) -> Fingerprints:
    """The union of two sets of fingerprints."""
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


def match_rows(rows: Sequence[Row], held_out: Fingerprints) -> list[Match]:
    """The match of each row, in order; a row whose match is true must not be trained on.

    Of a conversation each user turn is compared as well as the whole, of a pair both responses.
    """
    cache: dict[str, tuple[bool, bool]] = {}  # many rows share a prompt
    matches = []
    for row in rows:
        texts = [row.prompt, *(content for role, content in row.turns if role == "user")]
        for text in texts:
            if text not in cache:
                normalised = normalise(text)
                cache[text] = (digest(normalised) in held_out.prompts, _contains_prompt(normalised, held_out))
        exact, contains = (any(cache[text][rule] for text in texts) for rule in (0, 1))
        response = any(_is_response(text, held_out) for text in (row.response, row.rejected))
        matches.append(Match(exact, contains, response))
    return matches


def _is_response(response: str | None, held_out: Fingerprints) -> bool:
    normalised = normalise(response or "")
    return len(normalised) > SHORTEST_RESPONSE and digest(normalised) in held_out.responses


def _contains_prompt(normalised: str, held_out: Fingerprints) -> bool:
    """Whether at least half of the 8-grams of some held-out prompt are among those of this text."""
    import numpy as np

    text_grams = grams(normalised)
    if not text_grams:
        return False
    keys = np.fromiter((int(digest(gram), 16) for gram in text_grams), dtype=np.uint64, count=len(text_grams))
    start = np.searchsorted(held_out.gram_hashes, keys, "left")
    stop = np.searchsorted(held_out.gram_hashes, keys, "right")
    hits = [held_out.gram_owners[a:b] for a, b in zip(start, stop, strict=True) if a < b]
    if not hits:
        return False
    owners, counts = np.unique(np.concatenate(hits), return_counts=True)
    return any(2 * count >= held_out.gram_totals[owner] for owner, count in zip(owners.tolist(), counts, strict=True))
