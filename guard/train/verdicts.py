"""What a causal model learns from a batch: the verdict of each row, under the whole policy or one of several parts.

Nothing in a causal model's prefix depends on what follows, so each policy's keys and values are computed once a batch,
with their gradients, and every row continues from those of its own: as in serving, but for learning, too.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import DynamicCache

from guard.conversation import Conversation
from guard.data.augment import policy_views
from guard.engines.base import Reading, Window, padded_batches
from guard.policy import Policy
from guard.prompt import Prompt
from guard.train import causal_scores
from guard.train.conditioned import Item, loss_of

Ids = tuple[int, ...]
_SCORED_TOKENS = 8192  # of one batch of held-out windows, padding counted


@dataclass(frozen=True, slots=True)
class PromptReader:
    """Conversations as the windows of prompts, as `guard.train.visits` asks for them."""

    prompt: Prompt

    def read(self, conversation: Conversation, policy: Policy) -> Reading:
        suffixes, total = self.prompt.suffixes(conversation, policy)
        windows = tuple(Window(policy, suffix.ids, (), suffix.start, suffix.end) for suffix in suffixes)
        return Reading(windows, total, total)


@dataclass(frozen=True, slots=True)
class Parts:
    """How much of the policy a batch is asked under. share: of the rows of known categories, asked under a part; the
    others are asked under the whole. number: of parts in a batch. most: categories in a part."""

    share: float
    number: int
    most: int


def parts_of(rules: Policy, parts: Parts, rng: random.Random) -> list[Policy]:
    """Parts of the policy, each with 1 to `most` of its categories, never all, in its order."""
    codes = rules.codes
    most = min(parts.most, len(codes) - 1)
    drawn = [frozenset(rng.sample(codes, rng.randint(1, most))) for _ in range(parts.number)] if most else []
    return [policy_views.view(rules, {code: code for code in codes if code in kept}) for kept in drawn]


@dataclass(frozen=True, slots=True, repr=False)
class Asked:
    """A row: which of the batch's policies it is asked under, the ids that follow the policy, those of the verdict."""

    policy: int
    prompt: Ids
    verdict: Ids
    item: Item


@dataclass(frozen=True, slots=True, repr=False)
class Questions:
    """A batch: policies, and rows that are asked under them."""

    policies: tuple[Policy, ...]
    rows: tuple[Asked, ...]


def verdict_of(item: Item, prompt: Prompt, shown: Policy, whole: bool) -> Ids | None:
    """The verdict's ids under the categories shown; None where the label says nothing about them.

    Of an unsafe row whose categories nobody knows only the word is learnt, and only under the whole policy.
    """
    if item.unsafe and item.categories is None:
        return prompt.unsafe if whole else None
    found = (item.categories or frozenset()) & set(shown.codes) if item.unsafe else frozenset()
    if item.undecided & set(shown.codes):
        return prompt.unsafe if found else None
    return prompt.verdict_ids(shown, found, safe=not found)


def known_share(items: Sequence[Item]) -> float:
    """The share of the unsafe items whose categories are known, the others being good for the whole policy alone."""
    unsafe = [item for item in items if item.unsafe]
    return sum(item.categories is not None for item in unsafe) / max(1, len(unsafe))


def questions(
    batch: Sequence[tuple[Ids, Item]], prompt: Prompt, rules: Policy, parts: Parts, known: float, rng: random.Random
) -> Questions:
    """Each row under the whole policy or a part; an unsafe row under two parts, with and without what it violates.

    A row that is unsafe here and safe there differs by the policy alone, and only many policies beside each other tell
    which of a policy's categories made the difference. Of the safe rows fewer are drawn for a part, by the share of
    unsafe rows whose categories are known: were they as many, a short policy would by itself be a sign of safety.
    """
    shown = [rules, *parts_of(rules, parts, rng)]
    found: list[Asked] = []

    def ask(policy: int, ids: Ids, item: Item) -> bool:
        verdict = verdict_of(item, prompt, shown[policy], policy == 0)
        if verdict is not None:
            found.append(Asked(policy, ids, verdict, item))
        return verdict is not None

    for ids, item in batch:
        drawn = rng.random() < parts.share * (1.0 if item.unsafe else known) and len(shown) > 1
        if not any([ask(policy, ids, item) for policy in _drawn_for(item, shown, rng)] if drawn else []):
            ask(0, ids, item)
    used = sorted({row.policy for row in found})
    place = {policy: index for index, policy in enumerate(used)}
    rows = tuple(dataclasses.replace(row, policy=place[row.policy]) for row in found)
    return Questions(tuple(shown[policy] for policy in used), rows)


def _drawn_for(item: Item, shown: Sequence[Policy], rng: random.Random) -> list[int]:
    """Which parts a row is asked under: one, or one with a category that it violates and one without any."""
    parts = range(1, len(shown))
    if item.unsafe and item.categories:
        sides = [
            [part for part in parts if bool(item.categories & set(shown[part].codes)) == violated]
            for violated in (True, False)
        ]
        if all(sides):
            return [rng.choice(side) for side in sides]
    return [rng.choice(parts)]


def read_rows(
    model: Any, prefixes: Sequence[Ids], which: Sequence[int], rows: Sequence[Ids], dropout: float = 0.0, layer: int = 0
) -> tuple[Tensor, Tensor]:
    """[rows, longest, width], the last hidden states of what follows each row's prefix, and those after `layer` layers.

    dropout: of the embeddings and the last states.

    Rows are padded at the right, where nothing that comes before can see it, prefixes at the left, where no row looks.
    """
    before, seen = _padded(prefixes, left=True)
    place = (seen.cumsum(1) - 1).clamp(min=0)
    cache = model.get_decoder()(
        input_ids=before, attention_mask=seen, position_ids=place, use_cache=True
    ).past_key_values
    own = torch.tensor(which)
    past = DynamicCache(ddp_cache_data=[(kept.keys[own], kept.values[own]) for kept in cache.layers])
    ids, said = _padded(rows)
    words = nn.functional.dropout(model.get_input_embeddings()(ids), dropout)
    found = model.get_decoder()(
        inputs_embeds=words,
        attention_mask=torch.cat([seen[own], said], 1),
        position_ids=seen.sum(1)[own][:, None] + torch.arange(ids.shape[1]),
        past_key_values=past,
        use_cache=True,
        output_hidden_states=True,
    )
    return nn.functional.dropout(found.last_hidden_state, dropout), found.hidden_states[layer]


def _padded(rows: Sequence[Ids], left: bool = False) -> tuple[Tensor, Tensor]:
    """[rows, longest]: the ids, and 1 where they are no padding."""
    longest = max(map(len, rows))
    ids, real = torch.zeros(2, len(rows), longest, dtype=torch.long)
    for index, row in enumerate(rows):
        start = longest - len(row) if left else 0
        ids[index, start : start + len(row)] = torch.tensor(row)
        real[index, start : start + len(row)] = 1
    return ids, real


@dataclass(frozen=True, slots=True)
class Losses:
    """Means by the rows' weights: of the cross-entropies of the verdicts' first tokens and of all those after it, and
    of a probe's loss."""

    word: Tensor
    codes: Tensor
    probe: Tensor


def losses(
    model: Any,
    probe: nn.Linear,
    layer: int,
    prompt: Prompt,
    rules: Policy,
    asked: Questions,
    smooth: float = 0.0,
    dropout: float = 0.0,
) -> Losses:
    """What the model says of a batch. The first token is smoothed between the two words alone: labels are noisy.

    probe: from the state after `layer` layers, where the verdict begins, to one logit for each category of the rules.
    It is asked which of all of them are violated, whatever the row's policy: a model has to know what a text violates
    before it can look whether the policy forbids it.
    """
    rows = asked.rows
    states, within = read_rows(
        model,
        [prompt.prefix_ids(policy) for policy in asked.policies],
        [row.policy for row in rows],
        [row.prompt + row.verdict[:-1] for row in rows],
        dropout,
        layer,
    )
    head = model.get_output_embeddings()
    each, last = torch.arange(len(rows)), torch.tensor([len(row.prompt) - 1 for row in rows])
    weights = torch.tensor([row.item.weight for row in rows])
    scale = weights.sum().clamp(min=1.0)
    log_probs = torch.log_softmax(head(states[each, last]).float(), -1)
    right = log_probs[each, torch.tensor([row.verdict[0] for row in rows])]
    either = log_probs[:, [prompt.safe[0], prompt.unsafe[0]]].sum(1)
    word = -(((1 - 2 * smooth) * right + smooth * either) * weights).sum() / scale

    after = [(n, len(row.prompt) + k, token) for n, row in enumerate(rows) for k, token in enumerate(row.verdict[1:])]
    codes = word.new_zeros(())
    if after:
        index, place, wanted = torch.tensor(after).unbind(1)
        said = nn.functional.cross_entropy(head(states[index, place]).float(), wanted, reduction="none")
        codes = (said * weights[index]).sum() / scale
    kinds = probe(within[each, last]).float()
    return Losses(word, codes, loss_of(kinds, [row.item for row in rows], rules.codes, True, 1.0, smooth))


def read_verdicts(model: Any, prompt: Prompt, rules: Policy, prompts: Sequence[Ids]) -> causal_scores.Reading:
    """What `guard.train.causal_scores` reads of whole prompts, all of which begin with this policy, in less time."""
    prefix = prompt.prefix_ids(rules)
    rows = [ids[len(prefix) :] for ids in prompts]
    odds, mass = np.zeros(len(rows)), np.zeros(len(rows))
    words = torch.tensor([prompt.safe[0], prompt.unsafe[0]])
    for batch in padded_batches([len(ids) for ids in rows], _SCORED_TOKENS, 128):
        last = torch.tensor([len(rows[index]) - 1 for index in batch])
        with torch.no_grad():
            states, _ = read_rows(model, [prefix], [0] * len(batch), [rows[index] for index in batch])
            logits = model.get_output_embeddings()(states[torch.arange(len(batch)), last])
        safe, unsafe = torch.log_softmax(logits.float(), -1)[:, words].double().unbind(1)
        odds[batch], mass[batch] = (unsafe - safe).numpy(), (safe.exp() + unsafe.exp()).numpy()
    return causal_scores.Reading(odds, mass)
