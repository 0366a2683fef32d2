"""Views of a policy: labels follow them, and nothing is called safe that may not be."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard import policy as policies
from guard.conversation import Conversation, Example
from guard.policy import Category, Policy
from guard.train.augment import policy_views as views

ALL = ("S1", "S2", "S10", "hate", "hate/threatening", "hate/threatening/mass", "x-ray")
POLICY = Policy(
    "garden",
    "1",
    "Garden rules",
    tuple(Category(code, f"Name {code}", f"About {code}.", ("this",), ("that",)) for code in ALL),
)
codes = st.lists(st.sampled_from(ALL), unique=True, min_size=1)
some = st.frozensets(st.sampled_from(ALL))
seeds = st.integers(0, 2**32)


def example(label="unsafe", categories=None, undecided=frozenset()):
    return Example("1", Conversation.of("A"), label, categories, "s", "l", "en", "prompt", undecided=undecided)


def in_order(part, whole):
    return list(part) == [code for code in whole if code in part]


@given(some, some)
def test_only_what_is_decided_stays(violated, undecided):
    kept = views.decided(ALL, violated, undecided)
    assert in_order(kept, ALL)
    assert violated <= set(kept)
    assert not (undecided - violated) & set(kept)
    for code in set(ALL) - undecided - violated:
        narrowed = any(other.startswith(f"{code}/") for other in violated)
        assert (code in kept) == (not narrowed)


@given(st.permutations(ALL), st.sampled_from(["S", "C", "Rule"]))
def test_renumbering_is_a_bijection_in_the_order_given(order, prefix):
    names = views.renumbered(order, prefix)
    assert list(names) == list(order)
    assert list(names.values()) == [f"{prefix}{number}" for number in range(1, len(ALL) + 1)]
    view = views.view(POLICY, names)
    assert view.codes == tuple(names.values())
    assert [category.name for category in view.categories] == [f"Name {code}" for code in order]
    assert {code: category.definition for code, category in zip(order, view.categories, strict=True)} == {
        category.code: category.definition for category in POLICY.categories
    }


@given(codes, st.sampled_from(["names", "short", "full"]))
def test_a_view_is_a_valid_policy_that_says_what_is_left(order, detail):
    view = views.view(POLICY, {code: code for code in order}, detail)
    assert policies.from_text(policies.dump(view), "view").digest == view.digest
    assert (view.id, view.version, view.codes) == (POLICY.id, POLICY.version, tuple(order))
    for category in view.categories:
        original = POLICY.category(category.code)
        assert category.definition == original.definition
        kept = (original.includes, original.excludes) if detail == "full" else ((), ())
        assert (category.includes, category.excludes) == kept


def test_the_whole_policy_is_its_own_view():
    assert views.view(POLICY, {code: code for code in ALL}) is POLICY


@given(st.one_of(st.none(), some), some, codes, st.booleans())
def test_labels_follow_the_view(categories, undecided, shown, unsafe):
    row = example("unsafe" if unsafe else "safe", categories if unsafe else frozenset(), undecided)
    names = views.renumbered(shown, "N")
    made = views.relabelled(row, names)
    if unsafe and not categories:
        assert (made.label, made.categories) == ("unsafe", categories)
    else:
        assert made.label == ("unsafe" if unsafe and categories & set(shown) else "safe")
        assert made.categories == {names[code] for code in row.categories & set(shown)}
    assert made.undecided == {names[code] for code in undecided & set(shown)}
    same = {"label": row.label, "categories": row.categories, "undecided": row.undecided}
    assert dataclasses.replace(made, **same) == row


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (example(categories=frozenset({"S1", "Z9"})), True),
        (example(categories=frozenset({"Z9"})), False),
        (example(categories=None), True),
        (example(categories=frozenset()), True),
        (example("safe", frozenset()), True),
        (example("safe", None), True),
        (example("safe", frozenset(), frozenset(ALL[1:])), True),
        (example("safe", frozenset(), frozenset(ALL)), False),
    ],
)
def test_what_an_example_says_under_a_policy(row, says):
    assert views.decides(row, POLICY) is says
