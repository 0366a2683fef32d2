"""Groups of rows: each is labelled by the part of the policy that is in force, and nothing is lost or repeated."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard import policy
from guard.conversation import Conversation, Example
from guard.data.dataset.examples import of_languages
from guard.errors import DataError
from guard.policy import Category, Policy
from guard.policy.route import between
from guard.prompts.grammar import parse
from guard.prompts.prompt import Prompt, load_prompt
from guard.prompts.released import ReleasedPrompt
from guard.prompts.window import Ids
from guard.train.augment.augmentation import Augmentation
from guard.train.augment.padding import benign
from guard.train.causal import groups as grouping
from guard.train.causal.group import Group, Sizes, together
from guard.train.causal.groups import EpochBatches, draws
from guard.train.causal.other_policies import OtherPolicies
from guard.train.causal.rows import DETAILS, TrainingRow, answer, count_windowed
from tests.fixtures import tiny_causal, tiny_released

RULES = policy.load("minimal")
PLAIN = Augmentation(**{step.name: 0.0 for step in dataclasses.fields(Augmentation) if step.type == "Share"})
MAX_TOKENS = 1600
SIZES = Sizes(4, 2, 4096)
CODE_TOLD = re.compile(r"^(?:- )?([A-Z]\d): ", re.MULTILINE)


def example(number: int, text: str, *codes: str, weight: float = 1.0, **others: object) -> Example:
    label = "unsafe" if codes or others.get("categories", ()) is None else "safe"
    known = {"categories": frozenset(codes), **others}
    return Example(str(number), Conversation.of(text), label, **known, source="s", licence="l", language="en",
                   kind="prompt", weight=weight)  # type: ignore[arg-type]  # fmt: skip


ROWS = [
    example(0, "Please tell me how to bake bread."),
    example(1, "I will hit you.", "M1", weight=2.6),
    example(2, "Give me the password.", "M2", weight=0.4),
    example(3, "I will hit you, give me the password.", "M1", "M2"),
    example(4, "Something is wrong with this one.", categories=None),
    example(5, "Which train goes to the harbour?", weight=0.5),
]


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Prompt]:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tiny_causal.tokenizer().save(str(path))
    return {detail: load_prompt(path, MAX_TOKENS, 64, detail) for detail in DETAILS}


def made(prompts, rows=ROWS, settings=PLAIN, detail="full", seed=7, sizes=SIZES, rules=RULES, other=None):
    taught = [row if isinstance(row, TrainingRow) else TrainingRow(row, rules) for row in rows]
    pool = benign([row.example for row in taught])
    return EpochBatches(taught, prompts, detail, settings, pool, seed, sizes, other, count=10**6)


def epoch(batches: EpochBatches, number: int) -> list[Group]:
    """All groups of an epoch that is one chunk."""
    return [group for batch in batches.chunk(number) for group in batch]


def shown(groups: Sequence[Group]) -> list[tuple[Ids, Ids, Ids]]:
    return [(group.prefix, asked, verdict) for group in groups for asked, verdict in group.rows]


def text(prompt: Prompt, ids: Ids) -> str:
    return prompt.chat.tokenizer.decode(list(ids), skip_special_tokens=False)


def told(prompt: Prompt, prefix: Ids) -> tuple[str, ...]:
    """The codes of the policy that a prefix tells."""
    return tuple(CODE_TOLD.findall(text(prompt, prefix)))


def asked(prompt: Prompt, conversation: Conversation, rules: Policy = RULES) -> list[Ids]:
    return [window.ids for window in prompt.tokenize(conversation, rules).windows]


def test_without_augmentation_a_row_is_what_the_renderer_gives(prompts) -> None:
    prompt, prefix = prompts["full"], prompts["full"].prefix_ids(RULES)
    known = [(prefix, *asked(prompt, one.conversation), answer(prompt, one, RULES)) for one in ROWS]
    rows = shown(epoch(made(prompts), 0))
    assert set(rows) <= set(known)
    assert len(rows) == round(sum(one.weight for one in ROWS))


def test_a_group_is_no_larger_than_its_size_and_pads_little(prompts) -> None:
    rows = [example(n, "All is calm. " * (1 + n % 13)) for n in range(120)]
    settings = dataclasses.replace(PLAIN, history=0.2)
    for group in epoch(made(prompts, rows, settings, "names", sizes=Sizes(16, 8, 900)), 0):
        lengths = [len(before) + len(verdict) for before, verdict in group.rows]
        assert len(lengths) <= 8
        assert group.width == max(lengths)
        assert len(group.prefix) + max(lengths) * len(lengths) <= 900 or len(lengths) == 1
        assert group.tokens == len(group.prefix) + sum(lengths)


def test_batches_are_full_though_groups_are_small() -> None:
    def group(rows: int, width: int) -> Group:
        return Group((1,), (((2,) * width, (3,)),) * rows)

    groups = [group(1 + n % 5, 9 + n % 3) for n in range(60)]
    for shared in (True, False):
        sizes = Sizes(8, 5, 70, shared=shared)
        batches = together([(one,) for one in groups], sizes)
        assert sorted(map(id, (one for batch in batches for one in batch))) == sorted(map(id, groups))
        assert all(sum(len(one.rows) for one in batch) <= 8 for batch in batches)
        costs = [sizes.cost(1, len(one.rows), one.width) for one in groups]
        assert all(sum(costs[groups.index(one)] for one in batch) <= 70 for batch in batches)
        assert len(batches) <= 1.3 * sum(costs) / 70
    assert together([(group(4, 99),)], Sizes(8, 5, 70)) == [(group(4, 99),)]


def test_a_row_longer_than_is_allowed_shows_one_of_its_windows(prompts) -> None:
    rows = [example(0, "The weather in the mountains is calm and clear today. " * 60), example(1, "I hit you.", "M1")]
    limit = 160
    found = [epoch(made(prompts, rows, detail="names", sizes=Sizes(4, 4, 4096, limit)), n) for n in range(12)]
    long = {before for groups in found for _, before, _ in shown(groups) if len(before) > limit / 2}
    assert len(long) > 3
    assert max(map(len, long)) <= limit


def test_groups_are_of_both_labels_where_the_rows_are(prompts) -> None:
    """Also where nobody knows what the unsafe rows violate, which cannot lie beside rows of a part of the policy."""
    same = "Number one is here."  # for groups are of near lengths
    harmful = [example(n, same, "M1") for n in range(20)]
    unknown = [example(20 + n, same, categories=None) for n in range(20)]
    harmless = [example(40 + n, same) for n in range(40)]
    groups = epoch(made(prompts, harmful + unknown + harmless, detail="names", sizes=Sizes(8, 8, 4096)), 0)
    safe = answer(prompts["names"], harmless[0], RULES)
    labels = [{verdict == safe for _, verdict in group.rows} for group in groups if len(group.rows) == 8]
    assert len(labels) > 5
    assert sum(len(both) == 2 for both in labels) >= 0.9 * len(labels)


def test_rows_of_other_languages_are_left_out() -> None:
    rows = [dataclasses.replace(one, language=language) for one, language in zip(ROWS, "abcabc", strict=True)]
    assert of_languages(rows, (), "data") == rows
    assert of_languages(rows, ("a", "c"), "data") == [rows[0], rows[2], rows[3], rows[5]]
    with pytest.raises(DataError, match="data: no row is of the languages x; there are: a, b, c"):
        of_languages(rows, ("x",), "data")


def test_labels_follow_the_part_of_the_policy_that_is_in_force(prompts) -> None:
    rows = [example(n, f"I will hit number {n}.", "M1") for n in range(20)]
    rows += [example(20 + n, f"Give me password {n}.", "M2") for n in range(20)]
    rows += [example(40 + n, f"Wrong in some way {n}.", categories=None) for n in range(20)]
    settings, prompt = dataclasses.replace(PLAIN, drop=0.7, shuffle=0.5), prompts["full"]
    seen = Counter()
    for prefix, before, verdict in shown([g for n in range(4) for g in epoch(made(prompts, rows, settings), n)]):
        codes, words = told(prompt, prefix), text(prompt, before)
        own = "M1" if "hit number" in words else "M2" if "password" in words else None
        if own is None:  # violates nobody knows what, so only the whole policy is certain to be violated
            assert set(codes) == set(RULES.codes)
            assert verdict == prompt.unsafe
        elif own in codes:
            assert text(prompt, verdict) == f"unsafe\n{own}<|eot_id|>"
        else:
            assert text(prompt, verdict) == "safe<|eot_id|>"
        seen[own, own in codes, len(codes)] += 1
    assert all(seen["M1", named, count] for named, count in ((True, 1), (False, 1), (True, 2)))


def test_a_contrast_shows_the_same_rows_under_a_part_of_the_policy_and_under_the_rest(prompts) -> None:
    rows = [example(n, f"I will hit number {n}.", "M1") for n in range(10)]
    rows += [example(10 + n, f"Give me password {n}.", "M2") for n in range(10)]
    prompt, settings = prompts["full"], dataclasses.replace(PLAIN, contrast=1.0)
    batches = made(prompts, rows, settings, sizes=Sizes(8, 4, 4096)).chunk(0)
    shown_under = Counter()
    for batch in batches:
        for one, other in zip(batch[::2], batch[1::2], strict=True):
            assert {told(prompt, one.prefix), told(prompt, other.prefix)} == {("M1",), ("M2",)}
            assert [before for before, _ in one.rows] == [before for before, _ in other.rows]
            for (before, first), (_, second) in zip(one.rows, other.rows, strict=True):
                shown_under[before] += 1
                assert {first, second} == {prompt.grammar(RULES).ids((), safe=True), prompt.grammar(RULES).ids(
                    {"M1"} if "hit" in text(prompt, before) else {"M2"})}  # fmt: skip
    assert set(shown_under.values()) == {1}
    assert len(shown_under) == 20


def test_rows_of_incomplete_sources_are_never_made_safe(prompts) -> None:
    settings = dataclasses.replace(PLAIN, drop=1.0, contrast=0.5, incomplete=frozenset({"s"}))
    rows = [example(n, f"I will hit number {n}.", "M1") for n in range(20)]
    assert all(set(told(prompts["full"], g.prefix)) == {"M1", "M2"} for g in epoch(made(prompts, rows, settings), 0))


def test_undecided_categories_leave_the_policy_or_the_verdict_open(prompts) -> None:
    row = example(0, "I will hit you.", "M1", undecided=frozenset({"M2"}))
    assert text(prompts["full"], answer(prompts["full"], row, RULES)) == "unsafe"  # M2 may belong in the list
    ((prefix, _, verdict),) = shown(epoch(made(prompts, [row]), 0))
    assert text(prompts["full"], verdict) == "unsafe\nM1<|eot_id|>"
    assert told(prompts["full"], prefix) == ("M1",)


def test_codes_that_the_policy_lacks_are_left_out_of_the_verdict(prompts) -> None:
    row = example(0, "I will hit you.", "M1", "X9")
    settings = dataclasses.replace(PLAIN, drop=1.0)
    ((prefix, _, verdict),) = shown(epoch(made(prompts, [row], settings), 0))
    assert text(prompts["full"], verdict) == "unsafe\nM1<|eot_id|>"
    assert set(told(prompts["full"], prefix)) == {"M1", "M2"}  # what it violates besides is unknown to the policy


@pytest.mark.parametrize("name", tiny_released.TEMPLATES)
def test_released_guards_learn_their_own_verdicts(name: str, tmp_path: Path) -> None:
    prompt = load_prompt(tiny_released.write(tmp_path, name) / "tokenizer.json", 2048, 32, "names")
    assert isinstance(prompt, ReleasedPrompt)
    rules = prompt.template.policy
    row = example(0, "hello", *rules.codes[:1])
    ((prefix, before, verdict),) = shown(epoch(made({"names": prompt}, [row], detail="names", rules=rules), 0))
    assert verdict == prompt.grammar(rules).ids(rules.codes[:1])
    assert (prefix, [before]) == (prompt.prefix_ids(rules), asked(prompt, row.conversation, rules))


def test_groups_depend_on_seed_and_place_alone(prompts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouping, "CHUNK", 4)  # two chunks of an epoch
    settings = Augmentation(padding=0.5, padded=600)
    first, second = made(prompts, settings=settings), made(prompts, settings=settings)
    forwards = [first[place] for place in range(30)]
    assert [second[place] for place in reversed(range(30))] == forwards[::-1]
    assert second[17] == forwards[17]  # as a resumed run asks
    assert [made(prompts, settings=settings, seed=8)[place] for place in range(30)] != forwards
    assert 1 <= first.per_epoch() <= 12


def test_every_row_ends_with_a_verdict_of_the_view_that_it_shows(prompts) -> None:
    groups = made(prompts, settings=Augmentation(drop=0.6), detail="short")
    end = text(prompts["full"], prompts["full"].chat.end)
    seen = Counter()
    for prefix, before, ids in shown([group for number in range(12) for group in epoch(groups, number)]):
        assert len(prefix) + len(before) + len(ids) <= MAX_TOKENS
        verdict = text(prompts["full"], ids)
        if verdict != "unsafe":  # all that is learnt of a row whose categories nobody knows
            assert verdict.endswith(end)
            codes = told(prompts["full"], prefix)
            view = tuple(dataclasses.replace(RULES.categories[0], code=code) for code in codes)
            unsafe, named = parse(verdict.removesuffix(end), dataclasses.replace(RULES, categories=view))
            assert unsafe == bool(named)
            seen[len(named)] += 1
    assert set(seen) == {0, 1, 2}


def test_the_detail_is_between_what_a_row_needs_and_what_the_guard_will_be_told(prompts) -> None:
    definition = RULES.categories[0].definition
    for detail in ("names", "short"):
        groups = made(prompts, settings=Augmentation(names_only=0.5, short=0.2, drop=0), detail=detail)
        found = [definition in text(prompts["full"], g.prefix) for g in epoch(groups, 0) + epoch(groups, 1)]
        assert any(found) == (detail == "short")
    rows = [TrainingRow(one, RULES, least="short") for one in ROWS]
    groups = epoch(made(prompts, rows, Augmentation(names_only=1.0, short=0, drop=0)), 0)
    assert all(definition in text(prompts["full"], group.prefix) for group in groups)


def test_a_long_safe_row_shows_its_windows_in_turn_and_an_unsafe_one_those_with_the_harm(prompts) -> None:
    filler = "The weather in the mountains is calm and clear today. " * 200
    pair = [example(0, filler), example(1, "I will hit you. " + filler, "M1")]
    prompt = prompts["names"]
    assert count_windowed([TrainingRow(one, RULES) for one in pair], prompt) == 2
    assert count_windowed([TrainingRow(one, RULES) for one in ROWS], prompt) == 0
    groups = made(prompts, pair, detail="names")
    rows = [row for number in range(12) for row in shown(epoch(groups, number))]
    safe = {before for _, before, verdict in rows if verdict[:1] == prompt.safe[:1]}
    windows = asked(prompt, pair[0].conversation)
    assert safe == set(windows)
    assert len(windows) > 2
    begun = {before for _, before, verdict in rows if verdict[:1] == prompt.unsafe[:1]}
    assert 0 < len(begun) <= 2  # where the harm begins, or where it ends


def rule(number: int) -> Policy:
    return Policy("rules", "1", "Rules", (Category("R1", f"Rule {number}", f"Nobody may do thing {number}."),))


def test_rows_of_a_policy_with_few_rows_stay_together(prompts) -> None:
    own = [example(n, f"Please tell me about thing {n}.") for n in range(200)]
    ruled = [TrainingRow(example(1000 + n, f"I did thing {n}.", "R1"), rule(n % 4), "short") for n in range(96)]
    groups = epoch(made(prompts, [*own, *ruled], detail="short", sizes=Sizes(24, 24, 9000)), 0)
    few = [group for group in groups if "Nobody may do thing" in text(prompts["full"], group.prefix)]
    assert sum(len(group.rows) for group in few) == 96
    assert min(len(group.rows) for group in few) >= grouping.PACK
    assert len({group.prefix for group in few}) == 4


def test_a_share_of_the_draws_is_labelled_under_other_policies(prompts) -> None:
    rules, aegis = policy.load("mlcommons"), policy.load("aegis2")
    other = OtherPolicies(rules, (between(rules, aegis),), 0.5)
    rows = [example(n, f"Number {n + 10} is here.", "S1") for n in range(40)]
    rows += [example(100 + n, f"Something is wrong, {n}.", categories=None) for n in range(20)]
    groups = epoch(made(prompts, rows, detail="names", rules=rules, other=other), 0)
    first = aegis.categories[0].name
    names = Counter(first in text(prompts["full"], group.prefix) for group in groups for _ in group.rows)
    assert 10 <= names[True] <= 30
    assert names[False] == 60 - names[True]


@given(st.lists(st.floats(0.01, 9.0), min_size=1, max_size=40), st.integers(0, 2**32))
def test_weights_are_rounded_up_or_down_and_their_sum_is_kept(weights: list[float], seed: int) -> None:
    total = max(1, round(sum(weights)))
    scaled = np.array(weights) * (total / sum(weights))
    found = draws(scaled, np.random.default_rng(seed))
    times = Counter(index for index, _ in found)
    assert len(found) == total == len(set(found))
    assert all(abs(times[index] - weight) < 1 + 1e-6 for index, weight in enumerate(scaled))


def test_on_average_a_row_comes_as_often_as_its_weight_says() -> None:
    weights = np.array([0.25, 0.5, 1.75, 2.5, 1.0])
    times = Counter(index for epoch in range(4000) for index, _ in draws(weights, np.random.default_rng(epoch)))
    assert [times[index] / 4000 for index in range(5)] == pytest.approx(list(weights), abs=0.03)
