"""What a causal model learns from a batch under one policy: the verdict of each row, after a prefix that all share.

Nothing in a causal model's prefix depends on what follows, so the policy's keys and values are computed once a batch,
with their gradients, and every row continues from them: as in serving, but for learning, too.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
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
from guard.train.conditioned import Item

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
class Rates:
    """How often a row is asked under a part of the policy, and how often a policy shown has its categories in another
    order, or calls them S1, S2 … anew."""

    partial: float
    shuffle: float = 0.0
    renumber: float = 0.0


def names_in_force(rules: Policy, partial: bool, rates: Rates, rng: random.Random) -> dict[str, str]:
    """The codes of the categories that are in force, in their order, and what each is called there. partial: whether
    they are some of the policy's, any number of them, or all."""
    codes = rules.codes
    if partial and len(codes) > 1:
        kept = set(rng.sample(codes, rng.randint(1, len(codes) - 1)))
        codes = tuple(code for code in codes if code in kept)
    if rng.random() < rates.shuffle:
        codes = tuple(rng.sample(codes, len(codes)))
    return policy_views.renumbered(codes, "S") if rng.random() < rates.renumber else {code: code for code in codes}


@dataclass(frozen=True, slots=True, repr=False)
class Asked:
    """What follows the policy in one row: the prompt's ids, then those of the verdict. weight: beside its batch."""

    prompt: Ids
    verdict: Ids
    weight: float


def verdict_of(item: Item, prompt: Prompt, shown: Policy, names: Mapping[str, str], whole: bool) -> Ids | None:
    """The verdict's ids under the categories in force; None where the label says nothing about them.

    Of an unsafe row whose categories nobody knows only the word is learnt, and only under the whole policy.
    """
    if item.unsafe and item.categories is None:
        return prompt.unsafe if whole else None
    found = {names[code] for code in item.categories or () if code in names} if item.unsafe else set()
    if item.undecided & names.keys():
        return prompt.unsafe if found else None
    return prompt.verdict_ids(shown, found, safe=not found)


@dataclass(frozen=True, slots=True, repr=False)
class Group:
    """The rows of a batch that are asked under the same policy."""

    policy: Policy
    rows: tuple[Asked, ...]

    @property
    def weight(self) -> float:
        return sum(row.weight for row in self.rows)


def known_share(items: Sequence[Item]) -> float:
    """The share of the unsafe items whose categories are known, the others being good for the whole policy alone."""
    unsafe = [item for item in items if item.unsafe]
    return sum(item.categories is not None for item in unsafe) / max(1, len(unsafe))


def groups(
    batch: Sequence[tuple[Ids, Item]], prompt: Prompt, rules: Policy, rates: Rates, known: float, rng: random.Random
) -> list[Group]:
    """The batch in two: some rows under a part of the policy, drawn for the batch, the others under the whole.

    Of the safe rows fewer are drawn for the part, by the share of unsafe rows whose categories are known: were they as
    many, a policy that lacks a category would by itself be a sign of safety.
    """
    part, whole = (names_in_force(rules, partial, rates, rng) for partial in (True, False))
    found: dict[bool, list[Asked]] = {True: [], False: []}
    for ids, item in batch:
        drawn = rng.random() < rates.partial * (1.0 if item.unsafe else known)
        asked = (
            verdict_of(item, prompt, policy_views.view(rules, part), part, len(part) == len(whole)) if drawn else None
        )
        if asked is not None:
            found[True].append(Asked(ids, asked, item.weight))
        elif (said := verdict_of(item, prompt, policy_views.view(rules, whole), whole, True)) is not None:
            found[False].append(Asked(ids, said, item.weight))
    shown = {True: part, False: whole}
    return [Group(policy_views.view(rules, shown[key]), tuple(rows)) for key, rows in found.items() if rows]


def shared(model: Any, prefix: Ids, rows: int) -> DynamicCache:
    """The keys and values of a prefix, computed once, for each of `rows` rows."""
    cache = model.get_decoder()(input_ids=torch.tensor([prefix]), use_cache=True).past_key_values
    return DynamicCache(
        ddp_cache_data=[
            (layer.keys.expand(rows, -1, -1, -1), layer.values.expand(rows, -1, -1, -1)) for layer in cache.layers
        ]
    )


def read_rows(model: Any, prefix: Ids, rows: Sequence[Ids], dropout: float = 0.0) -> tuple[Tensor, Tensor]:
    """[rows, longest, width], the last hidden states of what follows the prefix, and [rows, longest] its ids.

    Padding stands at the right, where nothing that comes before can see it. dropout: of the embeddings and the states.
    """
    ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.tensor(row)
    words = nn.functional.dropout(model.get_input_embeddings()(ids), dropout)
    past = shared(model, prefix, len(rows))
    found = model.get_decoder()(inputs_embeds=words, past_key_values=past, use_cache=True)
    return nn.functional.dropout(found.last_hidden_state, dropout), ids


@dataclass(frozen=True, slots=True)
class Losses:
    """Mean cross-entropies: of the verdicts' first tokens and, per row, of those after it, both by weight; of the
    verdict's word where it was asked for before its place, by weight, and of the text, per token (None: not asked)."""

    word: Tensor
    codes: Tensor
    early: Tensor | None = None
    text: Tensor | None = None

    def total(self, codes: float, early: float, text: float) -> Tensor:
        """The loss of the word, and the others times their weights."""
        total = self.word + codes * self.codes
        if self.early is not None:
            total = total + early * self.early
        return total if self.text is None else total + text * self.text


def losses(
    model: Any,
    prompt: Prompt,
    prefix: Ids,
    rows: Sequence[Asked],
    smooth: float = 0.0,
    dropout: float = 0.0,
    early: float = 0.0,
    text: float = 0.0,
) -> Losses:
    """What the model says of a batch. The first token is smoothed between the two words alone: labels are noisy.

    early: the share of the prompts' tokens after which the verdict is asked for as well, of the two words alone. A
    model that begins without any language learns sooner what each word tells if it need not find it from the end.
    text: the share of those whose next token is asked for; a large vocabulary makes each of them dear.
    """
    states, ids = read_rows(model, prefix, [row.prompt + row.verdict[:-1] for row in rows], dropout)
    head = model.get_output_embeddings()
    last = torch.tensor([len(row.prompt) - 1 for row in rows])
    weights = torch.tensor([row.weight for row in rows])
    scale = weights.sum().clamp(min=1.0)
    log_probs = torch.log_softmax(head(states[torch.arange(len(rows)), last]).float(), -1)
    right = log_probs[torch.arange(len(rows)), torch.tensor([row.verdict[0] for row in rows])]
    either = log_probs[:, [prompt.safe[0], prompt.unsafe[0]]].sum(1)
    word = -(((1 - 2 * smooth) * right + smooth * either) * weights).sum() / scale

    after = [(n, len(row.prompt) + k, token) for n, row in enumerate(rows) for k, token in enumerate(row.verdict[1:])]
    codes = word.new_zeros(())
    if after:
        index, place, wanted = torch.tensor(after).unbind(1)
        each = nn.functional.cross_entropy(head(states[index, place]).float(), wanted, reduction="none")
        codes = (each * weights[index]).sum() / scale
    inside = torch.arange(ids.shape[1] - 1) < last[:, None]
    return Losses(
        word,
        codes,
        _early(states, inside & _drawn(inside, early), rows, prompt, head, smooth) if early else None,
        _text(states, inside & _drawn(inside, text), ids, head) if text else None,
    )


def _drawn(places: Tensor, share: float) -> Tensor:
    return torch.rand(places.shape) < share


def _early(states: Tensor, places: Tensor, rows: Sequence[Asked], prompt: Prompt, head: Any, smooth: float) -> Tensor:
    """Each row counts with its weight, however many of its tokens were drawn; one without any does not."""
    row, place = places.nonzero().unbind(1)
    words = head.weight[[prompt.safe[0], prompt.unsafe[0]]]
    unsafe = torch.tensor([int(asked.verdict[0] == prompt.unsafe[0]) for asked in rows])
    each = nn.functional.cross_entropy(
        (states[row, place] @ words.T).float(), unsafe[row], reduction="none", label_smoothing=2 * smooth
    )
    weights = torch.tensor([asked.weight for asked in rows])
    counts = places.sum(1)
    return (each * (weights / counts.clamp(min=1))[row]).sum() / (weights * (counts > 0)).sum().clamp(min=1.0)


def _text(states: Tensor, places: Tensor, ids: Tensor, head: Any) -> Tensor:
    return nn.functional.cross_entropy(head(states[:, :-1][places]).float(), ids[:, 1:][places])


def read_verdicts(model: Any, prompt: Prompt, rules: Policy, prompts: Sequence[Ids]) -> causal_scores.Reading:
    """What `guard.train.causal_scores` reads of whole prompts, all of which begin with this policy, in less time."""
    prefix = prompt.prefix_ids(rules)
    rows = [ids[len(prefix) :] for ids in prompts]
    odds, mass = np.zeros(len(rows)), np.zeros(len(rows))
    words = torch.tensor([prompt.safe[0], prompt.unsafe[0]])
    for batch in padded_batches([len(ids) for ids in rows], _SCORED_TOKENS, 128):
        last = torch.tensor([len(rows[index]) - 1 for index in batch])
        with torch.no_grad():
            states, _ = read_rows(model, prefix, [rows[index] for index in batch])
            logits = model.get_output_embeddings()(states[torch.arange(len(batch)), last])
        safe, unsafe = torch.log_softmax(logits.float(), -1)[:, words].double().unbind(1)
        odds[batch], mass[batch] = (unsafe - safe).numpy(), (safe.exp() + unsafe.exp()).numpy()
    return causal_scores.Reading(odds, mass)
