"""What a causal guard is shown in an epoch: every row as often as its weight says, each time augmented anew.

A row depends on the seed, the epoch, the example's id and which of its draws this is, so a resumed run is shown what
the killed one would have been. Heavy rows come several times instead of with a larger loss: each draw has another
disguise, policy and window, and no single row moves the weights many times as far as its neighbours in the batch.
"""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from guard.conversation import Example
from guard.errors import DataError
from guard.policy import Detail, Policy
from guard.prompts.causal import CausalPrompt, policy_text
from guard.prompts.prompt import Prompt
from guard.prompts.window import Ids
from guard.train.augment.augmentation import Augmentation, Augmented, augment
from guard.train.augment.padding import Pool
from guard.train.augment.policy_views import decides
from guard.train.common.sampling import holding
from guard.train.common.teaching import teaching

IGNORED = -100  # the label of a token that is not learnt, as torch's cross-entropy has it
DETAILS: tuple[Detail, ...] = ("names", "short", "full")
JITTER = 1.2
CHUNK = 4096  # draws among which batches of near lengths are made
_MARKS = 128  # more tokens than mark a turn, or ask and answer the question
MOST_DRAWS = 1000  # more than one row can have in an epoch


@dataclass(frozen=True, slots=True, repr=False)
class TrainingRow:
    """An example and the policy that its label is of."""

    example: Example
    policy: Policy


@dataclass(frozen=True, slots=True)
class RowCounts:
    """How many rows of a split were read, and why some teach nothing."""

    read: int
    foreign: int  # violate only categories that the policy lacks, or nothing is decided about them
    weightless: int

    @property
    def kept(self) -> int:
        return self.read - self.foreign - self.weightless


def training_rows(examples: Sequence[Example], rules: Policy, where: str) -> tuple[list[TrainingRow], RowCounts]:
    """The examples that teach something under the policy. DataError if none does, or if all have one label."""
    kept = teaching(examples, rules, where)
    weightless = sum(not example.weight > 0 for example in examples)
    return [TrainingRow(example, rules) for example in kept], RowCounts(
        len(examples), len(examples) - weightless - len(kept), weightless
    )


def replay_rows(
    examples: Sequence[Example], rules: Policy, own: Sequence[TrainingRow], share: float
) -> list[TrainingRow]:
    """Rows of another policy beside a user's own, weighted so that they make up `share` of an epoch's draws."""
    taught = [TrainingRow(example, rules) for example in examples if example.weight > 0 and decides(example, rules)]
    if not taught:
        return []
    weight = sum(row.example.weight for row in own) / sum(row.example.weight for row in taught)
    scale = weight * share / (1 - share)
    return [TrainingRow(dataclasses.replace(e.example, weight=e.example.weight * scale), rules) for e in taught]


def check_codes(examples: Sequence[Example], rules: Policy, data: Path) -> None:
    """DataError if categories of the rows are unknown to the policy; tells which policy the data was built for."""
    strange: dict[str, int] = {}
    for example in examples:
        for code in (example.categories or frozenset()) - set(rules.codes):
            strange[code] = strange.get(code, 0) + 1
    if strange:
        told = ", ".join(f"{code[:48]} ({count} rows)" for code, count in sorted(strange.items()))
        manifest = data / "manifest.json"
        built = json.loads(manifest.read_text(encoding="utf-8")).get("policy") if manifest.is_file() else None
        made_for = f"the data was built for policy {built['id']!r} (digest {built['digest'][:12]}); " if built else ""
        raise DataError(
            f"{data}: rows violate categories that policy {rules.id!r} (digest {rules.digest[:12]}) lacks: {told}; "
            f"{made_for}give the policy of the data, build it for this one, or set foreign=leave_out to train without "
            "those rows"
        )


class EpochRows:
    """A dataset of `input_ids` and `labels` whose epochs differ; the loss sees the verdict with its end, nothing else.

    Its order is for a sequential sampler: rows of near lengths stand together in groups of `group` (those of one step
    on all devices), groups in random order; in the first epoch the longest comes first, so that a lack of memory shows
    at once. `__getitem__` is pure between calls of `set_epoch`.
    """

    def __init__(
        self,
        taught: Sequence[TrainingRow],
        prompts: Mapping[Detail, Prompt],
        detail: Detail,
        settings: Augmentation,
        pool: Pool,
        seed: int,
        group: int,
    ) -> None:
        self._taught = taught
        self._prompts = prompts
        self._detail = detail
        self._settings = settings
        self._pool = pool
        self._seed = seed
        self._group = group
        weights = np.array([row.example.weight for row in taught])
        self._length = max(1, round(float(weights.sum())))
        self._weights = weights * (self._length / weights.sum())
        self._epoch = -1
        self.set_epoch(0)

    def __len__(self) -> int:
        """The same in every epoch: the sum of the weights."""
        return self._length

    def set_epoch(self, epoch: int) -> None:
        """Draws the rows of the epoch and their order; called by the data loader, more than once an epoch."""
        if epoch == self._epoch:
            return
        self._epoch = epoch
        self._draws = draws(self._weights, np.random.default_rng([self._seed, epoch]))
        rng = random.Random(f"{self._seed}/{epoch}/order")
        # Jitter, because labels hang together with lengths: rows of one length alone would often be of one label.
        sizes = [self._size(self._shown(*draw)) * rng.uniform(1, JITTER) for draw in self._draws]
        self._draws = [self._draws[i] for i in grouped(sizes, self._group, rng, longest_first=epoch == 0)]

    def __getitem__(self, place: int) -> dict[str, list[int]]:
        index, draw = self._draws[place]
        shown = self._shown(index, draw)
        prompt = self._prompts[self._read(shown)]
        windows = prompt.tokenize(shown.example.conversation, shown.policy).windows
        if shown.example.label == "unsafe":
            windows = holding(windows, shown.span)
        rng = random.Random(f"{self._seed}/{self._epoch}/{draw}/{shown.example.id}")
        asked = [*prompt.prefix_ids(shown.policy), *rng.choice(windows).ids]
        verdict = answer(prompt, shown.example, shown.policy)
        return {"input_ids": [*asked, *verdict], "labels": [IGNORED] * len(asked) + [*verdict]}

    def _shown(self, index: int, draw: int) -> Augmented:
        row = self._taught[index]
        epoch = self._epoch * MOST_DRAWS + draw
        return augment(row.example, row.policy, self._settings, self._seed, epoch, self._pool)

    def _read(self, shown: Augmented) -> Detail:
        """How much of the policy is told: what augmentation drew, and never more than the guard will be told later."""
        return min(self._detail, shown.detail, key=DETAILS.index)

    def _size(self, shown: Augmented) -> int:
        """Bytes of the policy and of what is said: near enough to tokens to put like beside like, and quick."""
        said = sum(len(message.content.encode()) for message in shown.example.conversation.messages)
        return said + len(policy_text(shown.policy, self._read(shown)))


def count_windowed(taught: Sequence[TrainingRow], prompt: Prompt) -> int:
    """How many rows are too long for one window: each draw of such a row shows one of several."""
    count = 0
    for row in taught:
        messages = row.example.conversation.messages
        most = len(prompt.prefix_ids(row.policy)) + sum(len(m.content.encode()) + _MARKS for m in messages) + _MARKS
        # Our own prompt then fits, as no token is less than a byte; a released guard's may hold anything.
        if not isinstance(prompt, CausalPrompt) or most > prompt.max_tokens:
            count += len(prompt.tokenize(row.example.conversation, row.policy).windows) > 1
    return count


def answer(prompt: Prompt, example: Example, policy: Policy) -> Ids:
    """The verdict to learn, with its end. Of an unsafe example whose categories nobody knows, the word alone."""
    if example.label == "safe":
        return prompt.grammar(policy).ids((), safe=True)
    if example.categories and example.undecided.isdisjoint(policy.codes):
        return prompt.grammar(policy).ids(example.categories)
    return prompt.unsafe


def draws(weights: np.ndarray[tuple[int], np.dtype[np.float64]], rng: np.random.Generator) -> list[tuple[int, int]]:
    """(index, which draw of it) in random order. An index of weight w comes w times, rounded up or down at random so
    that the mean is w; the number of all draws is the sum of the weights, a whole number (systematic sampling)."""
    order = rng.permutation(len(weights))
    upto = np.cumsum(weights[order])
    upto[-1] = round(float(upto[-1]))  # what rounding errors could cost is a draw
    times = np.diff(np.floor(upto + rng.random()), prepend=0).astype(int)
    return [(int(index), draw) for index, count in zip(order, times, strict=True) for draw in range(count)]


def grouped(sizes: Sequence[float], group: int, rng: random.Random, longest_first: bool = False) -> list[int]:
    """All indices; each `group` of them in a row is of near sizes, the groups come in random order."""
    order = list(range(len(sizes)))
    rng.shuffle(order)
    chunk = max(1, CHUNK // group) * group
    groups: list[list[int]] = []
    for start in range(0, len(order), chunk):
        part = sorted(order[start : start + chunk], key=sizes.__getitem__)
        groups += [part[at : at + group] for at in range(0, len(part), group)]
    short = [groups.pop()] if len(groups[-1]) < group else []  # goes last, so that no other group is cut
    rng.shuffle(groups)
    if longest_first and groups:
        longest = max(range(len(groups)), key=lambda at: sizes[groups[at][-1]])
        groups.insert(0, groups.pop(longest))
    return [index for members in [*groups, *short] for index in members]
