"""What a causal guard is shown: groups of rows under one policy, each row as often as its weight says, augmented anew.

The rows of a group share the policy's words, which a step so computes once (guard.train.causal.step). Which part of a
policy is in force, in which order, under which codes and in how much detail is drawn for each group, and the labels of
its rows follow: a row that violates only what was left out is safe there. In a pair of groups the same rows stand under
a part of the categories and under the rest, so that nothing but the policy tells their labels apart. Groups are put
together into batches of like numbers of rows, as some policies have few rows.

A batch depends on the seed and its place alone, so a resumed run is shown what the killed one would have been. Heavy
rows come several times instead of with a larger loss: each draw has another disguise, policy and window, and no single
row moves the weights many times as far as its neighbours.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from guard.conversation import Example
from guard.policy import Detail, Policy
from guard.prompts.prompt import Prompt
from guard.prompts.window import Ids
from guard.train.augment import policy_views as views
from guard.train.augment.augmentation import Augmentation, Augmented, augment
from guard.train.augment.padding import Pool
from guard.train.causal.group import Batch, Group, Sizes, together
from guard.train.causal.other_policies import OtherPolicies
from guard.train.causal.rows import DETAILS, TrainingRow, answer
from guard.train.common.sampling import holding

CHUNK = 8192  # draws among which groups of near lengths are made
PACK = 16  # draws that stay together where a policy has few rows: two groups of eight
JITTER = 1.1
LEAST_ROOM = 128  # tokens for a row; a policy whose definitions leave less is shown by its names
MOST_DRAWS = 1000  # more than one row can have in an epoch


@dataclass(frozen=True, slots=True)
class _Scope:
    """What rows of one group have in common: their policy, the codes of it about which all of them say something,
    whether they do so about every part of it, and the least of it that they must be told."""

    policy: Policy
    codes: tuple[str, ...]
    any_part: bool
    least: Detail


class EpochBatches:
    """A sequence of batches, epoch after epoch, without an end but the one that `count` sets.

    Every chunk of CHUNK draws is cut into groups of near lengths, which make batches in random order. Chunks are made
    when they are asked for, one at a time and best in order. `__getitem__` is pure.
    """

    def __init__(
        self,
        taught: Sequence[TrainingRow],
        prompts: Mapping[Detail, Prompt],
        detail: Detail,
        settings: Augmentation,
        pool: Pool,
        seed: int,
        sizes: Sizes,
        other: OtherPolicies | None = None,
        count: int = 0,
    ) -> None:
        self.count = count
        self._taught = taught
        self._prompts = prompts
        self._detail = detail
        self._settings = settings
        self._pool = pool
        self._seed = seed
        self._sizes = sizes
        self._other = other or OtherPolicies()
        weights = np.array([row.example.weight for row in taught])
        self.draws = max(1, round(float(weights.sum())))  # of an epoch
        self._weights = weights * (self.draws / weights.sum())
        self._chunks = -(-self.draws // CHUNK)  # of an epoch
        self._number, self._first = 0, 0  # of the chunk at hand, and of its first batch
        self._batches: list[Batch] | None = None
        self._order = lru_cache(1)(self._order_of)

    def __len__(self) -> int:
        return self.count

    def per_epoch(self) -> int:
        """About how many batches an epoch has, from its first chunk."""
        return max(1, round(len(self.chunk(0)) * self.draws / min(self.draws, CHUNK)))

    def __getitem__(self, place: int) -> Batch:
        if not 0 <= place < self.count:
            raise IndexError(place)
        if self._batches is None or place < self._first:
            self._number, self._first, self._batches = 0, 0, self.chunk(0)
        while place >= self._first + len(self._batches):
            self._first += len(self._batches)
            self._number += 1
            self._batches = self.chunk(self._number)
        return self._batches[place - self._first]

    def chunk(self, number: int) -> list[Batch]:
        """The batches of a chunk, in their order."""
        rng = random.Random(f"{self._seed}/{number}/groups")
        scopes = mixed(self._scopes(number), rng)
        units = [unit for scope, shown in scopes.items() for unit in self._cut(scope, shown, rng)]
        rng.shuffle(units)
        made = together(units, self._sizes)
        rng.shuffle(made)
        return made

    def _scopes(self, number: int) -> dict[_Scope, list[Augmented]]:
        """The rows of a chunk by what they may have in common."""
        epoch, part = divmod(number, self._chunks)
        scopes: dict[_Scope, list[Augmented]] = {}
        for index, draw in self._order(epoch)[part * CHUNK : (part + 1) * CHUNK]:
            row = self._other.drawn(self._taught[index], random.Random(f"{self._seed}/{epoch}/{index}/{draw}"))
            number_of = epoch * MOST_DRAWS + draw
            shown = augment(row.example, row.policy, self._settings, self._seed, number_of, self._pool)
            scopes.setdefault(self._scope(row, shown.example), []).append(shown)
        return scopes

    def _order_of(self, epoch: int) -> list[tuple[int, int]]:
        """The draws of an epoch: in random order, but those of a policy with few rows come in packs, so that they can
        share its prefix."""
        by_policy: dict[Policy, list[tuple[int, int]]] = {}
        for draw in draws(self._weights, np.random.default_rng([self._seed, epoch])):
            by_policy.setdefault(self._taught[draw[0]].policy, []).append(draw)
        packs: list[list[tuple[int, int]]] = []
        for found in by_policy.values():
            size = PACK if len(found) < self._sizes.group_rows * self._chunks else 1
            packs += [found[at : at + size] for at in range(0, len(found), size)]
        random.Random(f"{self._seed}/{epoch}/order").shuffle(packs)
        return [draw for pack in packs for draw in pack]

    def _scope(self, row: TrainingRow, shown: Example) -> _Scope:
        """Of an example that violates nobody knows what, only the whole policy is certain to be violated."""
        policy, example = row.policy, row.example
        if shown.label != example.label:  # a refusal now, which violates nothing
            return _Scope(policy, policy.codes, True, row.least)
        violated = (example.categories or frozenset()) if example.label == "unsafe" else frozenset()
        if example.label == "unsafe" and not violated:
            return _Scope(policy, policy.codes, False, row.least)
        complete = violated.issubset(policy.codes) and example.source not in self._settings.incomplete
        return _Scope(policy, views.decided(policy.codes, violated, example.undecided), complete, row.least)

    def _cut(self, scope: _Scope, shown: list[Augmented], rng: random.Random) -> list[Batch]:
        """The rows in units that stay in one batch: single groups, and pairs of groups of the same rows."""
        # Jitter, because labels hang together with lengths: rows of one length alone would often be of one label.
        encode = self._prompts[self._detail].chat.tokenizer.encode_batch
        texts = [[message.content for message in one.example.conversation.messages] for one in shown]
        sizes = [sum(map(len, encode(said, add_special_tokens=False))) * rng.uniform(1, JITTER) for said in texts]
        order = [shown[index] for index in sorted(range(len(shown)), key=sizes.__getitem__)]
        size, made = self._sizes.group_rows, []
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            if scope.any_part and len(scope.codes) > 1 and rng.random() < self._settings.contrast:
                part, rest = _parted(scope.codes, rng)
                for half in (rows[: len(rows) // 2], rows[len(rows) // 2 :]):
                    both = [group for codes in (part, rest) for group in self._groups_of(scope, codes, half, rng)]
                    made += [tuple(both)] if both else []
            else:
                made += [(group,) for group in self._groups_of(scope, self._kept(scope, rng), rows, rng)]
        return made

    def _groups_of(
        self, scope: _Scope, codes: Sequence[str], shown: Sequence[Augmented], rng: random.Random
    ) -> list[Group]:
        """The rows under a view of these categories: one group, or more where they are too long for one."""
        names = self._told(codes, rng)
        drawn = max(scope.least, _detail(self._settings, rng), key=DETAILS.index)
        prompt = self._prompts[min(self._detail, drawn, key=DETAILS.index)]  # never more than the guard will be told
        policy = views.view(scope.policy, names, drawn)
        room = self._sizes.row or LEAST_ROOM
        if scope.least == "names" and self._whole(prompt, policy, room) > prompt.max_tokens:
            prompt = self._prompts["names"]
        if self._sizes.row is not None:
            prompt = prompt.with_room(min(prompt.max_tokens, self._whole(prompt, policy, room)))
        prefix = prompt.prefix_ids(policy)
        rows = [self._row(prompt, one, names, policy, rng) for one in shown]
        pieces, longest = [rows[:0]], 0
        for row in rows:
            longest = max(longest, len(row[0]) + len(row[1]))
            if pieces[-1] and self._sizes.cost(len(prefix), len(pieces[-1]) + 1, longest) > self._sizes.tokens:
                pieces.append([])
                longest = len(row[0]) + len(row[1])
            pieces[-1].append(row)
        return [Group(prefix, tuple(piece)) for piece in pieces if piece]

    def _whole(self, prompt: Prompt, policy: Policy, room: int) -> int:
        """Tokens of a prompt that leaves so many to a row."""
        return len(prompt.prefix_ids(policy)) + prompt.grammar(policy).longest + room

    def _kept(self, scope: _Scope, rng: random.Random) -> Sequence[str]:
        """The categories in force: all, or a part of any size."""
        if scope.any_part and len(scope.codes) > 1 and rng.random() < self._settings.drop:
            return _parted(scope.codes, rng)[0]
        return scope.codes

    def _told(self, codes: Sequence[str], rng: random.Random) -> dict[str, str]:
        """The codes in their order, with those that the group is told instead."""
        settings, codes = self._settings, list(codes)
        if rng.random() < settings.shuffle:
            rng.shuffle(codes)
        if rng.random() < settings.renumber:
            return views.renumbered(codes, rng.choice(settings.prefixes))
        return {code: code for code in codes}

    def _row(
        self, prompt: Prompt, shown: Augmented, names: Mapping[str, str], policy: Policy, rng: random.Random
    ) -> tuple[Ids, Ids]:
        example = views.relabelled(shown.example, names)
        windows = prompt.tokenize(example.conversation, policy).windows
        if example.label == "unsafe":
            windows = holding(windows, shown.span)
        return rng.choice(windows).ids, answer(prompt, example, policy)


def mixed(scopes: Mapping[_Scope, Sequence[Augmented]], rng: random.Random) -> dict[_Scope, list[Augmented]]:
    """The rows of the scopes; those that are safe whatever part of their policy is in force are spread over all scopes
    of it, in proportion to the other rows there.

    In a scope of their own they would make groups of one label, and so would rows of which nobody knows what they
    violate: such groups teach to tell the label by the policy's rendering, and their gradients undo one another.
    """
    found: dict[_Scope, list[Augmented]] = {scope: [] for scope in scopes}
    free: dict[tuple[Policy, Detail], list[Augmented]] = {}
    for scope, shown in scopes.items():
        whole = scope.any_part and scope.codes == scope.policy.codes
        for one in shown:
            anywhere = whole and one.example.label == "safe"
            (free.setdefault((scope.policy, scope.least), []) if anywhere else found[scope]).append(one)
    for (policy, least), rows in free.items():
        own = [scope for scope in found if (scope.policy, scope.least) == (policy, least)]
        rng.shuffle(rows)
        total, taken = sum(len(found[scope]) for scope in own), 0
        upto = 0
        for scope in own:
            upto += len(found[scope]) if total else 1
            until = round(len(rows) * upto / (total or len(own)))
            found[scope] += rows[taken:until]
            taken = until
    return found


def draws(weights: np.ndarray[tuple[int], np.dtype[np.float64]], rng: np.random.Generator) -> list[tuple[int, int]]:
    """(index, which draw of it) in random order. An index of weight w comes w times, rounded up or down at random so
    that the mean is w; the number of all draws is the sum of the weights, a whole number (systematic sampling)."""
    order = rng.permutation(len(weights))
    upto = np.cumsum(weights[order])
    upto[-1] = round(float(upto[-1]))  # what rounding errors could cost is a draw
    times = np.diff(np.floor(upto + rng.random()), prepend=0).astype(int)
    return [(int(index), draw) for index, count in zip(order, times, strict=True) for draw in range(count)]


def _detail(settings: Augmentation, rng: random.Random) -> Detail:
    drawn = rng.random()
    if drawn < settings.names_only:
        return "names"
    return "short" if drawn < settings.names_only + settings.short else "full"


def _parted(codes: Sequence[str], rng: random.Random) -> tuple[list[str], list[str]]:
    """A part of any size, and the rest, both in order; neither is empty."""
    part = set(rng.sample(codes, rng.randint(1, len(codes) - 1)))
    return [code for code in codes if code in part], [code for code in codes if code not in part]
