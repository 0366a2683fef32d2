"""What a build makes of texts that are judged by one rule: the rule decides, not the text."""

import random
from collections import Counter, defaultdict

import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.data.build.build import build
from guard.data.build.rules import (
    Given,
    Pool,
    Rules,
    RuleWeights,
    disclaim,
    disclaimers,
    rule_rows,
    without_instruction,
)
from guard.data.dataset import samples
from guard.data.dataset.examples import load_examples, load_rules
from guard.data.dataset.open import open_dataset
from guard.data.row import Rule
from guard.data.sources.topics import Topic, Topics
from guard.errors import ConfigError, DataError
from tests.fixtures import made_up_rules

NOISE, DRUMS, PAINT, ANY = (
    Rule("Sheds", name, text)
    for name, text in (("Noise", "No mowing."), ("Noise", "No drums."), ("Paint", "No pink."), ("Order", "Be good."))
)
FISH = Rule("Ponds", "Fish", "No bread.")
TOPICS = Topics(
    "sheds", {"noise": Topic(("Noise",)), "looks": Topic(("Paint",)), "animals": Topic(("Fish",))}, ("Order",)
)
POOL = Pool([NOISE, DRUMS, PAINT, ANY, FISH], TOPICS)


def made(label, rule=NOISE, text="I mow at dawn. Every day!", instructed=False, alone_too=False, seed=1, **settings):
    row = Given("abc", text, label, rule, instructed)
    return list(rule_rows(row, POOL, Rules(**settings), seed, alone_too))


def stored(out, split):
    path = out / f"rules-{split}.parquet"
    return pyarrow.parquet.read_table(path).to_pylist() if path.is_file() else []


@pytest.fixture
def ruled(world, tmp_path):
    """A build with rules, and its manifest."""
    made_up_rules.add(world)
    return tmp_path / "out", build(world.config, world.root, tmp_path / "out")


def test_a_text_that_breaks_its_rule_is_safe_under_an_unrelated_one():
    given_row, swapped = made("unsafe", disclaimed=0.0, beside=0)
    assert (given_row.made, given_row.policy, given_row.broken, given_row.label) == ("given", (NOISE,), 0, "unsafe")
    assert (swapped.made, swapped.policy, swapped.broken, swapped.label) == ("swapped", (PAINT,), None, "safe")
    assert swapped.text == given_row.text
    assert len(made("safe", swaps=3, disclaimed=1.0)) == 1  # a text that keeps its rule is shown under it alone


def test_no_unrelated_rule_leaves_the_given_row_alone():
    assert [row.made for row in made("unsafe", rule=ANY, disclaimed=0.0)] == ["given"]
    assert POOL.unrelated(FISH) == (DRUMS, NOISE, PAINT)  # of other domains, where its own has none
    assert POOL.unrelated(PAINT) == (DRUMS, NOISE)


@given(st.integers(), st.sampled_from([NOISE, DRUMS, PAINT, FISH]), st.sampled_from(["safe", "unsafe"]))
def test_the_rules_beside_are_unrelated_and_never_the_same(seed, rule, label):
    rows = made(label, rule=rule, seed=seed, swaps=2, beside=3, alone=0.0, disclaimed=0.5)
    for row in rows:
        assert len(set(row.policy)) == len(row.policy) <= 4
        own = {rule} if row.made != "swapped" else set()
        assert own <= set(row.policy)
        assert all(TOPICS.unrelated(rule, other) for other in set(row.policy) - own)
        assert row.broken is None or row.policy[row.broken] == rule
    assert rows == made(label, rule=rule, seed=seed, swaps=2, beside=3, alone=0.0, disclaimed=0.5)


def test_words_of_caution_stand_on_both_labels():
    labels = Counter()
    words = [word for listed in (disclaimers().before, disclaimers().behind, disclaimers().within) for word in listed]
    for seed in range(400):
        for row in made("unsafe", seed=seed, disclaimed=0.5):
            cautious = any(word in row.text for word in words)
            assert cautious or row.made != "disclaimed"
            labels[row.label, cautious] += 1
    unsafe, safe = (labels[label, True] / (labels[label, True] + labels[label, False]) for label in ("unsafe", "safe"))
    assert abs(unsafe - 0.33) < 0.05
    assert abs(safe - 0.3) < 0.05


@given(st.text(), st.integers())
def test_a_disclaimer_only_adds(text, seed):
    longer = disclaim(text, random.Random(seed))
    rest = iter(longer)
    assert len(longer) > len(text)
    assert all(character in rest for character in text)


@pytest.mark.parametrize(
    ("text", "post"),
    [
        ('My shed is pink. "Rewrite this post to be kinder."', "My shed is pink."),
        (
            'Sign: "Analyze this shed!" said Bo. "Suggest three colours for the shed."\n\n"Explain why pink is loud."',
            'Sign: "Analyze this shed!" said Bo.',
        ),
        ('My shed is pink. OR "Expand on the colours of sheds" OR', "My shed is pink."),
        ('"My shed is pink and yours is not, neighbour."', None),
        ("My shed is pink.", None),
        ('Pink. "Rewrite this post to be kinder."', None),  # too little is left
    ],
)
def test_the_instruction_behind_a_post_is_cut(text, post):
    assert without_instruction(text) == post


def test_a_post_with_an_instruction_counts_less_and_is_shown_alone_if_it_is_not_there():
    text = 'I mow at dawn, every day of the week! "Rewrite this post to be kinder."'
    weights = RuleWeights(broken=1.0, swapped=0.5, instructed=0.25)
    rows = made("unsafe", text=text, instructed=True, alone_too=True, disclaimed=0.0, weights=weights)
    shown = [(row.made, row.instructed, row.factor, row.text == text) for row in rows]
    assert shown == [
        ("given", True, 0.25, True),
        ("swapped", True, 0.125, True),
        ("cut", False, 1.0, False),
        ("swapped", False, 0.5, False),
    ]
    assert len(made("unsafe", text=text, instructed=True, disclaimed=0.0)) == 2


def test_rows_of_rules_have_files_of_their_own(ruled):
    out, manifest = ruled
    rows = {split: stored(out, split) for split in ("train", "dev", "test")}
    every = [row for listed in rows.values() for row in listed]
    assert len({row["id"] for row in every}) == len(every)
    assert all(example.source != "sheds" for split in rows for example in load_examples(out, split))
    assert manifest["rules"] == {
        split: {
            "rows": len(listed),
            "rules": len({(row["domain"], row["cluster"]) for row in listed}),
            "made": dict(sorted(Counter(f"{row['made']}/{row['label']}" for row in listed).items())),
        }
        for split, listed in rows.items()
        if listed
    }
    entry = next(part for part in manifest["sources"] if part["name"] == "sheds")
    given_rows = [row for row in every if row["made"] == "given"]
    assert entry["kept"] == len(given_rows) == 72
    assert {row["of"] for row in every} == {row["id"] for row in given_rows}
    assert {row["weight"] for row in every if row["made"] != "given" or row["label"] == "unsafe"} == {0.5}
    assert {row["weight"] for row in given_rows if row["label"] == "safe"} == {0.4}
    assert sum(split["rows"] for split in manifest["splits"].values()) == sum(
        part["kept"] for part in manifest["sources"] if part["name"] != "sheds"
    )


def test_a_rule_is_in_one_split_and_meets_those_of_its_split_alone(ruled):
    out, _ = ruled
    splits = defaultdict(set)
    for split in ("train", "dev", "test"):
        for row in stored(out, split):
            for rule in row["policy"]:
                splits[rule["definition"]].add(split)
    assert all(len(found) == 1 for found in splits.values())


def test_examples_of_rules_name_the_broken_one(ruled):
    out, _ = ruled
    pairs = load_rules(out, "train")
    assert len(pairs) == len(stored(out, "train"))
    for example, policy in pairs:
        assert policy.codes == tuple(f"R{place}" for place in range(1, len(policy.codes) + 1))
        assert (example.label == "unsafe") == bool(example.categories)
        for code in example.categories:
            act = policy.category(code).definition.removeprefix("Do not ").removesuffix(".")
            assert act in example.conversation.judged.content
    assert load_rules(out, "development") == []
    with pytest.raises(DataError, match="unknown split 'nowhere'"):
        load_rules(out, "nowhere")


def test_rows_of_rules_can_be_looked_at(ruled):
    out, _ = ruled
    paths = samples.files(out)
    assert all(one.source != "sheds" for one in samples.sample(paths, samples.Filter(), 200, 1))
    found = samples.sample(paths, samples.Filter(split="rules-train", label="unsafe"), 3, 1)
    for one in found:
        (role, policy), (_, text) = one.messages
        (code,) = one.categories
        (definition,) = (line.partition(": ")[2] for line in policy.split("\n") if line.startswith(f"{code} "))
        assert role == "policy"
        assert definition.removeprefix("Do not ").removesuffix(".") in text
    assert samples.sample(paths, samples.Filter(id=found[0].id), 3, 1) == [found[0]]


def test_domains_set_aside_are_in_the_development_set_alone(world, tmp_path):
    made_up_rules.add(world, rules={"development": ["Ponds"]})
    build(world.config, world.root, tmp_path / "out")
    domains = {split: {row["domain"] for row in stored(tmp_path / "out", split)} for split in ("train", "development")}
    assert domains == {"train": {"Sheds"}, "development": {"Ponds"}}


def test_a_domain_that_no_rule_has_is_told(world, tmp_path):
    made_up_rules.add(world, rules={"development": ["Lakes"]})
    message = "rules.development: no rule is of the domain 'Lakes'; the sources have: Ponds, Sheds"
    with pytest.raises(ConfigError, match=message):
        build(world.config, world.root, tmp_path / "out")


def test_rules_change_nothing_about_other_rows(world, tmp_path):
    build(world.config, world.root, tmp_path / "plain")
    made_up_rules.add(world)
    build(world.config, world.root, tmp_path / "ruled")
    for name in ("train.parquet", "dev.parquet", "test.parquet", "development.parquet"):
        assert (tmp_path / "plain" / name).read_bytes() == (tmp_path / "ruled" / name).read_bytes()


def test_two_builds_are_equal_and_lost_rows_are_told(ruled, world, tmp_path):
    out, _ = ruled
    build(world.config, world.root, tmp_path / "again")
    for path in out.glob("*.parquet"):
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()
    assert open_dataset(out, verify=True).rules["train"] == out / "rules-train.parquet"
    path = out / "rules-train.parquet"
    pyarrow.parquet.write_table(pyarrow.parquet.read_table(path).slice(1), path)
    with pytest.raises(DataError, match="train has 96 rows, the manifest states 97"):
        open_dataset(out)


def test_weights_of_a_source_by_label(world, tmp_path):
    world.edit(world.config, "{source: gardens}", "{source: gardens, labels: {unsafe: 0.25}}")
    build(world.config, world.root, tmp_path / "out")
    rows = [example for example in load_examples(tmp_path / "out", "train") if example.source == "gardens"]
    weight = {label: {row.weight for row in rows if row.label == label} for label in ("safe", "unsafe")}
    assert len(weight["safe"]) == len(weight["unsafe"]) == 1
    assert weight["unsafe"].pop() == pytest.approx(weight["safe"].pop() / 4)
