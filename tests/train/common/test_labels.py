"""What a policy-conditioned guard learns: the labels under each part of the policy, and a loss that falls."""

from __future__ import annotations

import math
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.conversation import Conversation, Example
from guard.policy import load
from guard.policy.route import between
from guard.train.common.labels import Item, item_of, relabelled
from tests.fixtures.lazy import lazy

torch, losses = lazy("torch"), lazy("guard.train.common.loss")

CODES = ("A1", "A2", "A3", "A4")
TOTAL = len(CODES)
FULL = range(TOTAL)


def codes(places: Iterable[int]) -> list[str]:
    return [CODES[place] for place in places]


def item(unsafe: bool, categories: set[int] | None, weight: float = 1.0) -> Item:
    return Item(unsafe, None if categories is None else frozenset(codes(categories)), weight)


def open_item(categories: set[int], undecided: set[int]) -> Item:
    return Item(True, frozenset(codes(categories)), 1.0, frozenset(codes(undecided)))


def told(one: Item, kept: range | list[int]) -> tuple[float, float, list[float], list[float]]:
    unsafe, weight, categories, known = losses.targets([one], codes(kept), len(kept) == TOTAL)
    assert unsafe.shape == weight.shape == (1,)
    assert categories.shape == known.shape == (1, len(kept))
    return unsafe.item(), weight.item(), categories[0].tolist(), known[0].tolist()


@pytest.mark.parametrize(
    ("one", "kept", "expected"),
    [
        # Under the whole policy.
        (item(False, set()), FULL, (0, 1, [0, 0, 0, 0], [1, 1, 1, 1])),
        (item(False, None), FULL, (0, 1, [0, 0, 0, 0], [1, 1, 1, 1])),  # safe is safe in every category
        (item(True, {1}), FULL, (1, 1, [0, 1, 0, 0], [1, 1, 1, 1])),
        (item(True, {0, 3}), FULL, (1, 1, [1, 0, 0, 1], [1, 1, 1, 1])),
        (item(True, None), FULL, (1, 1, [0, 0, 0, 0], [0, 0, 0, 0])),  # of no category is anything known
        # Under a part of it.
        (item(False, set()), [1, 2], (0, 1, [0, 0], [1, 1])),
        (item(True, {1}), [1, 2], (1, 1, [1, 0], [1, 1])),
        (item(True, {1, 3}), [1, 2], (1, 1, [1, 0], [1, 1])),
        (item(True, {1}), [0, 2, 3], (0, 1, [0, 0, 0], [1, 1, 1])),  # what it violates was dropped: safe
        (item(True, None), [0, 1, 2], (1, 0, [0, 0, 0], [0, 0, 0])),  # it may violate what was dropped: not counted
        # Of an undecided category nothing is learnt, and where it alone could be violated, nothing of the whole.
        (open_item({1}, {2}), FULL, (1, 1, [0, 1, 0, 0], [1, 1, 0, 1])),
        (open_item({1}, {2}), [0, 2], (0, 0, [0, 0], [1, 0])),
        (open_item({1}, {2}), [0, 3], (0, 1, [0, 0], [1, 1])),
        # The weight is that of the row.
        (item(True, {1}, 0.4), [1], (1, 0.4, [1], [0.4])),
        (item(False, set(), 0.4), [1], (0, 0.4, [0], [0.4])),
        (item(True, None, 0.4), FULL, (1, 0.4, [0, 0, 0, 0], [0, 0, 0, 0])),
    ],
)
def test_targets(one: Item, kept: range | list[int], expected: tuple[float, float, list[float], list[float]]) -> None:
    found = told(one, kept)
    assert found[:2] == pytest.approx(expected[:2])
    assert found[2:] == (pytest.approx(expected[2]), pytest.approx(expected[3]))


ITEMS = st.builds(
    item,
    st.booleans(),
    st.none() | st.sets(st.integers(0, TOTAL - 1), min_size=1),
    st.sampled_from([0.3, 1.0, 2.0]),
)
PARTS = st.sets(st.integers(0, TOTAL - 1), min_size=1).map(sorted)


@given(st.lists(ITEMS, min_size=1, max_size=8), PARTS, st.integers(0, 2**16))
def test_the_loss_is_finite_and_a_row_that_does_not_count_has_no_part_in_it(items, kept, seed):
    torch.manual_seed(seed)
    logits = (torch.randn(len(items), len(kept)) * 30).requires_grad_()
    loss = losses.loss_of(logits, items, codes(kept), len(kept) == TOTAL, category_weight=0.2, smooth=0.02)
    loss.backward()
    assert torch.isfinite(loss)
    assert loss.item() >= 0
    assert torch.isfinite(logits.grad).all()
    for row, one in enumerate(items):
        if one.unsafe and one.categories is None and len(kept) < TOTAL:
            assert logits.grad[row].abs().sum() == 0


def test_the_loss_falls_and_the_scores_take_the_labels():
    torch.manual_seed(0)
    items = [item(False, set()), item(True, {2}), item(True, None), item(True, {0, 1})]
    logits = torch.zeros(len(items), TOTAL, requires_grad=True)
    fell = []
    for _ in range(100):
        loss = losses.loss_of(logits, items, CODES, True, category_weight=1.0, smooth=0.0)
        (slope,) = torch.autograd.grad(loss, logits)
        logits = (logits - 3.0 * slope).detach().requires_grad_()
        fell.append(loss.item())
    assert fell[-1] < fell[0] / 5
    unsafe = torch.logsumexp(logits, 1) > 0
    assert unsafe.tolist() == [False, True, True, True]
    assert (logits[1] > 0).tolist() == [False, False, True, False]
    assert (logits[3] > 0).tolist() == [True, True, False, False]


def test_a_heavier_row_pulls_harder():
    logits = torch.zeros(2, TOTAL, requires_grad=True)
    losses.loss_of(logits, [item(True, {0}, 2.0), item(True, {0}, 0.5)], CODES, True, 0.2, 0.02).backward()
    heavy, light = logits.grad[0], logits.grad[1]
    torch.testing.assert_close(heavy, light * 4)


def test_a_batch_that_teaches_nothing_has_no_loss():
    logits = torch.randn(2, 2, requires_grad=True)
    loss = losses.loss_of(logits, [item(True, None), item(True, None)], CODES[:2], False, 0.2, 0.02)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad.abs().sum() == 0


def test_smoothing_keeps_a_sure_verdict_from_costing_nothing():
    sure = torch.full((1, TOTAL), -30.0)
    assert losses.loss_of(sure, [item(False, set())], CODES, True, 0.2, 0.0).item() < 1e-6
    assert losses.loss_of(sure, [item(False, set())], CODES, True, 0.2, 0.02).item() > 0.1


def example(label: str, categories: set[str] | None, undecided: frozenset[str] = frozenset()) -> Example:
    known = None if categories is None else frozenset(categories)
    conversation = Conversation.of("some words")
    return Example("1", conversation, label, known, "here", "CC0-1.0", "en", "prompt", undecided=undecided)


def test_a_label_under_a_policy_knows_only_its_codes():
    rules = load("mlcommons")
    assert item_of(example("unsafe", {"S1", "X9"}), rules) == Item(True, frozenset({"S1"}))
    assert item_of(example("unsafe", {"X9"}), rules) is None  # neither safe nor unsafe there
    assert item_of(example("unsafe", None), rules) == Item(True, None)
    assert item_of(example("safe", set(), frozenset({"S2", "X9"})), rules) == Item(
        False, frozenset(), 1.0, frozenset({"S2"})
    )


def test_a_label_under_another_policy():
    crosswalk = between(load("mlcommons"), load("llama-guard-1")).crosswalk
    for code, entry in crosswalk.entries.items():
        made = relabelled(crosswalk, Item(True, frozenset({code}), 2.0))
        assert made.weight == (0.0 if entry.kind == "unmapped" else 2.0)
        if entry.kind == "mapped":
            assert made.unsafe
            assert made.categories == frozenset(entry.codes)
        if entry.kind == "outside":
            assert not made.unsafe
    assert relabelled(crosswalk, Item(True, None)).weight == 0.0
    assert not relabelled(crosswalk, Item(False, frozenset())).unsafe


def test_only_known_refusals_count():
    logits = torch.tensor([2.0, -1.0, 5.0], requires_grad=True)
    items = [Item(False, None, refusal=True), Item(True, None, refusal=False), Item(True, None)]
    loss = losses.refusal_loss(logits, items)
    loss.backward()
    assert loss.item() == pytest.approx((math.log1p(math.exp(-2)) + math.log1p(math.exp(-1))) / 2)
    assert logits.grad[2] == 0
    assert losses.refusal_loss(logits, [items[2]] * 3).item() == 0
