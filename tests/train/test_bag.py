"""Token embeddings taught by a bag of words."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import torch

from guard.train.bag import Bag, taught_embeddings
from guard.train.conditioned import Item
from guard.train.visits import Visit

CODES = ("M1", "M2")
# Tokens 1 and 2 are harmless, 3 violates M1, 4 violates M2, 5 violates something that nobody has named.
KNOWN = [((1, 2, 1), frozenset[str]()), ((1, 3, 2), frozenset(["M1"])), ((4, 2, 2, 1), frozenset(["M2"]))]


def shown(repeats: int = 60) -> list[Visit]:
    rows = [Visit(Item(bool(codes), codes), (ids, (0,) * len(ids))) for ids, codes in KNOWN]
    rows.append(Visit(Item(True, None), ((5, 1, 2), (0, 0, 0))))
    return rows * repeats


def table() -> torch.Tensor:
    return torch.randn(8, 16, generator=torch.Generator().manual_seed(1)) * 0.06


def test_what_violates_which_category_is_learnt_into_the_embeddings() -> None:
    words, losses = taught_embeddings(table(), shown(600), CODES, 10, 0.0, 3)
    assert losses[-1] < losses[0] / 2
    assert nearest(words) > nearest(table()) + 0.15


def nearest(words: torch.Tensor) -> float:
    """By how much closer, in cosine, a row lies to one of its own label than to the others, in the mean of the rows."""
    unit = torch.nn.functional.normalize(words, dim=1)
    rows = [unit[list(ids)].mean(0) for ids in ((1, 3, 1), (2, 3, 1), (1, 4, 1), (2, 4, 1))]
    cosine = torch.nn.functional.cosine_similarity
    own = cosine(rows[0], rows[1], dim=0) + cosine(rows[2], rows[3], dim=0)
    return float(own - cosine(rows[0], rows[2], dim=0) - cosine(rows[1], rows[3], dim=0)) / 2


def test_a_token_that_no_row_holds_keeps_its_direction() -> None:
    before = table()
    words, _ = taught_embeddings(before, shown(), CODES, 5, 0.0, 3)
    assert float(torch.nn.functional.cosine_similarity(words[7], before[7], dim=0)) > 0.999


def test_the_same_seed_teaches_the_same_and_leaves_the_given_table_alone() -> None:
    before = table()
    one, told = taught_embeddings(before, shown(), CODES, 3, 0.02, 3)
    other, again = taught_embeddings(before, shown(), CODES, 3, 0.02, 3)
    assert torch.equal(one, other)
    assert told == again
    assert len(told) == 3
    assert torch.equal(before, table())


def test_a_row_is_the_mean_of_its_tokens_whatever_stands_beside_it() -> None:
    torch.manual_seed(0)
    bag = Bag(table(), 2).eval()
    rows = [torch.tensor([1, 3, 3]), torch.tensor([4])]
    alone = torch.cat([bag([row]) for row in rows])
    assert torch.allclose(bag(rows), alone, atol=1e-6)
    assert torch.allclose(bag([torch.tensor([3, 1, 3])])[0], alone[0], atol=1e-6)
