"""A causal guard that has learnt, in under 2 MB: verdicts are pinned, name what is violated, and obey the policy."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from guard import open_moderator, policy
from guard.bundle import open_bundle
from guard.conversation import Conversation, Example, conversation_from_row
from guard.metrics.classification import auprc
from guard.moderator import Moderator
from guard.verdict import Outcome, Verdict
from tests.fixtures import tiny_guard

GOLDEN = Path(__file__).parent.parent / "golden"


def lines(name: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in (GOLDEN / name).read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def moderator() -> Moderator:
    return open_moderator(tiny_guard.BUNDLE)


@pytest.fixture(scope="module")
def held_out() -> list[Example]:
    """Safe seeds and made-up messages that it has not learnt from."""
    pytest.importorskip("pyarrow")
    return tiny_guard.dev_rows()[::2]


def test_the_bundle_is_whole_and_small() -> None:
    bundle = open_bundle(tiny_guard.BUNDLE)
    assert bundle.manifest.kind == "causal"
    assert bundle.policy.digest == policy.load("mlcommons").digest
    assert sum(path.stat().st_size for path in bundle.root.rglob("*")) <= tiny_guard.MOST_BYTES


def test_golden_verdicts(moderator: Moderator) -> None:
    asked, pinned = lines("default_guard.jsonl"), lines("tiny_guard.jsonl")
    assert [row["id"] for row in asked] == [row["id"] for row in pinned]
    verdicts = moderator.moderate([conversation_from_row(row) for row in asked])
    for row, verdict in zip(pinned, verdicts, strict=True):
        assert verdict.p_unsafe == pytest.approx(row["p_unsafe"], abs=2e-3), row["id"]
        assert verdict.outcome.value == row["outcome"], row["id"]
        assert list(verdict.flagged) == row["flagged"], row["id"]


def test_a_score_does_not_depend_on_the_batch(moderator: Moderator) -> None:
    conversations = [conversation_from_row(row) for row in lines("default_guard.jsonl")]
    together = [verdict.p_unsafe for verdict in moderator.moderate(conversations)]
    for index in random.Random(3).sample(range(len(conversations)), 20):
        assert moderator.moderate([conversations[index]])[0].p_unsafe == pytest.approx(together[index], abs=1e-4)


@pytest.fixture(scope="module")
def verdicts(moderator: Moderator, held_out: list[Example]) -> list[Verdict]:
    return moderator.moderate([example.conversation for example in held_out])


def test_it_ranks_messages_that_it_has_not_seen(held_out: list[Example], verdicts: list[Verdict]) -> None:
    labels = [example.label == "unsafe" for example in held_out]
    found = auprc(labels, [verdict.p_unsafe for verdict in verdicts])
    assert found is not None
    assert found > 0.94


def test_it_names_the_category_whose_words_a_message_holds(held_out: list[Example], verdicts: list[Verdict]) -> None:
    pairs = zip(held_out, verdicts, strict=True)
    unsafe = [(example, verdict) for example, verdict in pairs if example.label == "unsafe"]
    named = [set(verdict.flagged) == example.categories for example, verdict in unsafe if verdict.flagged]
    assert len(named) > 0.9 * len(unsafe)
    assert sum(named) > 0.95 * len(named)


def test_what_leaves_the_policy_is_no_longer_flagged(
    moderator: Moderator, held_out: list[Example], verdicts: list[Verdict]
) -> None:
    flagged = [
        example
        for example, verdict in zip(held_out, verdicts, strict=True)
        if len(example.categories or ()) == 1 and verdict.outcome is Outcome.UNSAFE and example.label == "unsafe"
    ][:150]
    assert len(flagged) == 150
    stay = {"own": 0, "other": 0}
    asked: dict[str, list[tuple[str, Conversation]]] = {}  # by the category that leaves the policy
    for example in flagged:
        [own] = example.categories or ()
        other = random.Random(example.id).choice([code for code in moderator.policy.codes if code != own])
        asked.setdefault(own, []).append(("own", example.conversation))
        asked.setdefault(other, []).append(("other", example.conversation))
    for code, chats in asked.items():
        names, conversations = zip(*chats, strict=True)
        for name, verdict in zip(names, moderator.moderate(conversations, exclude=[code]), strict=True):
            assert code not in verdict.categories
            stay[name] += verdict.outcome is Outcome.UNSAFE
    assert stay["own"] < 0.05 * len(flagged)
    assert stay["other"] > 0.95 * len(flagged)


def test_a_short_and_a_long_message_are_read(moderator: Moderator) -> None:
    short, long = moderator.moderate([Conversation.of("?"), Conversation.of("a bench in the park " * 2000)])
    assert short.outcome is Outcome.SAFE
    assert long.coverage.tokens_seen == long.coverage.tokens_total > 5000
