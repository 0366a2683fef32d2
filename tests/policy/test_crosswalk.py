"""Crosswalks: every label and every code is accounted for, mistakes are told, and what follows from one is true."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guard import policy
from guard.errors import ConfigError, DataError
from guard.policy import Category, Policy, route
from guard.policy import crosswalk as crosswalks
from guard.policy.crosswalk import Crosswalk, fold_code
from tests.fixtures import made_up_policies

# A template, and policies of guards that are asked one question a call, to which nothing is related yet.
ALONE = ("minimal", "granite-guardian", "shieldgemma", "wildguard")
POLICIES = {found.id: found for found in map(policy.load, policy.shipped())}
SHIPPED = {name: crosswalks.load(name) for name in crosswalks.names()}
BETWEEN = [name for name, found in SHIPPED.items() if found.origin is not None]
HAZARDS = POLICIES["mlcommons"]

# The labels as the data sets and models write them. Of those that a policy ships for, each is one of its codes.
NATIVE = {
    "openai-moderation": """harassment|harassment/threatening|hate|hate/threatening|illicit|illicit/violent|self-harm
        |self-harm/intent|self-harm/instructions|sexual|sexual/minors|violence|violence/graphic""",
    "llama-guard-1": "O1|O2|O3|O4|O5|O6",
    "llama-guard-2": "S1|S2|S3|S4|S5|S6|S7|S8|S9|S10|S11",
    "aegis2": """Violence|Sexual|Criminal Planning/Confessions|Guns and Illegal Weapons|Controlled/Regulated Substances
        |Suicide and Self Harm|Sexual (minor)|Hate/Identity Hate|PII/Privacy|Harassment|Threat|Profanity|Needs Caution
        |Other|Manipulation|Fraud/Deception|Malware|High Risk Gov Decision Making|Political/Misinformation/Conspiracy
        |Copyright/Trademark/Plagiarism|Unauthorized Advice|Illegal Activity|Immoral/Unethical""",
    "qwen3guard": """Violent|Non-violent Illegal Acts|Sexual Content or Sexual Acts|PII|Suicide & Self-Harm
        |Unethical Acts|Politically Sensitive Topics|Copyright Violation|Jailbreak""",
    "beavertails": """animal_abuse|child_abuse|controversial_topics,politics|discrimination,stereotype,injustice
        |drug_abuse,weapons,banned_substance|financial_crime,property_crime,theft|hate_speech,offensive_language
        |misinformation_regarding_ethics,laws_and_safety|non_violent_unethical_behavior|privacy_violation|self_harm
        |sexually_explicit,adult_content|terrorism,organized_crime|violence,aiding_and_abetting,incitement""",
    "openai_eval": "S|H|V|HR|SH|S3|H2|V2",
    "pku_saferlhf": """Endangering National Security|Insulting Behavior|Discriminatory Behavior
        |Endangering Public Health|Copyright Issues|Violence|Drugs|Privacy Violation|Economic Crime|Mental Manipulation
        |Human Trafficking|Physical Harm|Sexual Content|Cybercrime|Disrupting Public Order|Environmental Damage
        |Psychological Harm|White-Collar Crime|Animal Abuse""",
    "wildguardmix": """benign|others|causing_material_harm_by_disseminating_misinformation|copyright_violations
        |cyberattack|defamation_encouraging_unethical_or_unsafe_actions
        |disseminating_false_or_misleading_information_encouraging_disinformation_campaigns
        |fraud_assisting_illegal_activities|mental_health_over-reliance_crisis|private_information_individual
        |sensitive_information_organization_government|sexual_content|social_stereotypes_and_unfair_discrimination
        |toxic_language_hate_speech|violence_and_physical_harm""",
    "polyguardmix": "S1|S2|S3|S4|S5|S6|S7|S8|S9|S10|S11|S12|S13|S14",
    "or_bench": "deception|harassment|harmful|hate|illegal|privacy|self-harm|sexual|unethical|violence",
}


def natives(name: str) -> list[str]:
    return [label.strip() for label in NATIVE[name].split("|")]


@pytest.mark.parametrize("name", NATIVE)
def test_every_native_label_is_listed(name: str) -> None:
    labels = natives(name)
    found = SHIPPED[name]
    listed = [found.entry(label) for label in labels]
    assert None not in listed
    assert {entry.label for entry in listed if entry} == {entry.label for entry in found.entries.values()}
    if name in POLICIES:
        assert sorted(map(fold_code, labels)) == sorted(map(fold_code, POLICIES[name].codes))


def test_other_spellings_of_labels_are_known() -> None:
    aegis, qwen, openai = (SHIPPED[name] for name in ("aegis2", "qwen3guard", "openai-moderation"))
    for found, label, codes in (
        (aegis, "Guns/Illegal Weapons", ("S1", "S2", "S9")),
        (aegis, "Sexual Minor", ("S4",)),
        (aegis, "PII", ("S7",)),
        (qwen, "Personally Identifiable Information", ("S7",)),
        (openai, "self_harm_intent", ("S11",)),  # as the Python client writes it
        (SHIPPED["openai_eval"], "hate/threatening", ("S1", "S10")),
    ):
        entry = found.entry(label)
        assert entry is not None
        assert entry.codes == codes


@pytest.mark.parametrize("name", [*BETWEEN, *(name for name in NATIVE if name not in POLICIES)])
def test_both_sides_are_accounted_for(name: str) -> None:
    found = SHIPPED[name]
    assert found.name == name
    if found.origin is not None:
        assert name == found.origin if found.policy == route.HUB else f"{found.origin}_to_{found.policy}"
    crosswalks.check_total(found, POLICIES[found.origin] if found.origin else None, POLICIES[found.policy])


def test_every_shipped_policy_but_the_template_leads_to_the_hub_and_back() -> None:
    others = {name for name in POLICIES if name not in (*ALONE, route.HUB)}
    assert others == set(NATIVE) & set(POLICIES)
    assert set(BETWEEN) == others | {f"{route.HUB}_to_{name}" for name in others}
    for origin in (*others, route.HUB):
        for target in (*others, route.HUB):
            found = route.between(POLICIES[origin], POLICIES[target])
            crosswalks.check_total(found.crosswalk, POLICIES[origin], POLICIES[target])
            assert found.through == (() if route.HUB in (origin, target) or origin == target else (route.HUB,))


def touched(found: Crosswalk, label: str) -> frozenset[str]:
    entry = found.entry(label)
    assert entry is not None
    return found.possible(label) | frozenset(entry.codes)


@pytest.mark.parametrize("name", [name for name in NATIVE if name in POLICIES])
def test_the_two_directions_agree(name: str) -> None:
    """A code reaches beyond the other policy if, read as a label, not all of its content is covered there."""
    there, back = SHIPPED[name], SHIPPED[f"mlcommons_to_{name}"]
    for one, other in ((there, back), (back, there)):
        uncovered = {entry.label for entry in one.entries.values() if entry.kind in ("outside", "unmapped")}
        assert uncovered == set(other.beyond)
        for entry in one.entries.values():
            codes = touched(one, entry.label)
            if codes != set(one.codes):  # a label that may stand for anything is named nowhere
                around = {code for code in one.codes if touched(other, code) != set(other.codes)}
                assert codes & around == {code for code in around if entry.label in touched(other, code)}, entry.label


def test_codes_that_look_alike_are_told_apart() -> None:
    """S5 is advice to Llama Guard 2 and defamation to mlcommons."""
    found = route.between(POLICIES["llama-guard-2"], HAZARDS).crosswalk
    assert [found.entries[code].codes for code in ("s4", "s5", "s11")] == [("S4",), ("S6",), ("S12",)]


def test_translate_gives_the_codes_that_are_certain() -> None:
    found = SHIPPED["beavertails"]
    labels = ["self_harm", "terrorism,organized_crime", "financial_crime,property_crime,theft"]
    assert crosswalks.translate(found, labels, "beavertails", "category") == ("S11", "S2")
    assert crosswalks.translate(found, ["violence,aiding_and_abetting,incitement"], "beavertails", "category") is None
    assert crosswalks.translate(SHIPPED["aegis2"], ["Profanity"], "aegis", "labels") is None
    said = crosswalks.interpret(found, [*labels, "hate_speech,offensive_language"], "beavertails", "category")
    assert (said.unsafe, said.codes) == (True, ("S2", "S11"))
    assert set(said.undecided) == {"S1", "S3", "S5", "S6", "S8", "S9", "S10", "S14"}
    with pytest.raises(DataError, match=r"field `category` holds a native label \(8 characters\) that crosswalk beav"):
        crosswalks.translate(found, ["knitting"], "beavertails", "category")


FINE = """\
name: mine
origin: mine
policy: mlcommons
title: Mine
mapped:
  a/b: [S1]
either:
  c: [S1, S2]
outside:
  d: rude only
unmapped:
  e: can be anything
within:
  S3: [c, e]
beyond:
  S4: has no label
spellings:
  bee: a/b
"""


def written(folder: Path, text: str) -> Path:
    (folder / "crosswalks").mkdir(exist_ok=True)
    (folder / "crosswalks" / "mine.yaml").write_text(text, encoding="utf-8")
    return folder


def test_a_crosswalk_is_read(tmp_path: Path) -> None:
    found = crosswalks.load("mine", written(tmp_path, FINE))
    assert found.codes == ("S1", "S2", "S3", "S4")
    assert [found.entry(label) for label in ("A b", "bee", "x")] == [*[found.entries["a_b"]] * 2, None]
    assert {label: found.possible(label) for label in ("a/b", "c", "d", "e")} == {
        "a/b": set(),
        "c": {"S1", "S2", "S3"},
        "d": set(),
        "e": {"S3"},
    }

    named = dataclasses.replace(found, within={"S1": ("a/b",), "S2": ("a/b",)})
    assert named.possible("a/b") == {"S2"}, "S1 is not only possible"
    assert named.possible("e") == {"S1", "S2", "S4"}, "named nowhere: it may be anything"


@pytest.mark.parametrize(
    ("old", "new", "line", "told"),
    [
        ("mapped:", "maped:", 5, "unknown key `maped`; did you mean `mapped`?"),
        ("[S1]", "S1", 6, "mapped.a/b: must be a list (given: 'S1')"),
        ("[S1]", "[]", 6, "mapped.a/b: list 1 or more different ones"),
        ("[S1, S2]", "[S1]", 8, "either.c: list 2 or more different ones"),
        ("[S1, S2]", "[S1, S1]", 8, "either.c: list 2 or more different ones"),
        ("  d: rude only", "  A-b: rude only", 10, "outside.A-b: native label 'a-b' is listed twice"),
        ("rude only", '" "', 10, "outside.d: give the reason"),
        ("rude only", "null", 10, "outside.d: must be"),
        ("can be anything", "[S1]", 12, "unmapped.e: must be"),
        ("  e: can", "  a/b: can", 12, "unmapped.a/b: native label 'a/b' is listed twice"),
        ("[c, e]", "[c, x]", 14, "within.S3.1: is not a label that this crosswalk lists"),
        ("[c, e]", "[d]", 14, "within.S3.0: is outside the policy"),
        ("[c, e]", "[]", 14, "within.S3: list 1 or more different ones"),
        ("has no label", '""', 16, "beyond.S4: give the reason"),
        ("bee: a/b", "bee: z", 18, "spellings.bee: stands for a label that this crosswalk does not list"),
        ("bee: a/b", "C: a/b", 18, "spellings.C: native label 'c' is listed twice"),
        ("title: Mine", "title: Mine\nmatch: contains", 5, "match: the codes of a policy are matched exactly"),
        ("title: Mine", "title: 7", 4, "title: must be text; put the value in quotes (given: 7)"),
        ("origin: mine", "origin: &a mine", 2, ""),
        ("  c: [S1, S2]", "  c: *a", 8, "aliases (*name) are not supported"),
        ("  d: rude only", "  d: rude only\n  d: twice", 11, "key `d` was already given on line 10"),
        ("  d: rude only", "  ? [d]\n  : rude only", 10, "a key must be plain text"),
    ],
)
def test_mistakes_are_told_with_their_line(tmp_path: Path, old: str, new: str, line: int, told: str) -> None:
    assert old in FINE
    folder = written(tmp_path, FINE.replace(old, new, 1))
    if not told:  # an anchor alone is harmless
        assert crosswalks.load("mine", folder).origin == "mine"
        return
    with pytest.raises(ConfigError) as caught:
        crosswalks.load("mine", folder)
    assert f"mine.yaml:{line}: " in str(caught.value)
    assert told in str(caught.value)


def test_what_is_missing_is_told_at_once(tmp_path: Path) -> None:
    mine = Policy("mine", "1", "Mine", tuple(Category(code, code, code) for code in ("a/b", "c", "d", "f")))
    folder = written(tmp_path, FINE)
    with pytest.raises(ConfigError) as caught:
        route.between(mine, HAZARDS, folder)
    assert str(caught.value).splitlines() == [
        "crosswalk mine: does not list f of mine; add each to mapped, either, outside or unmapped",
        "crosswalk mine: lists e, unknown to mine; allowed: a/b, c, d, f",
        "crosswalk mine: does not cover S5, S6, S7, S8, S9, S10, S11, S12, S13, S14 of mlcommons; map "
        "labels to it, or add within or beyond",
    ]
    for old, new in (("[S1]", "[S77]"), ("[S1, S2]", "[S1, S77]"), ("S3: [c, e]", "S77: [c]"), ("S4: has", "S77: has")):
        with pytest.raises(ConfigError, match="policy 'mlcommons' has no category S77; did you mean"):
            route.between(mine, HAZARDS, written(tmp_path, FINE.replace(old, new, 1)))
    with pytest.raises(ConfigError, match="its `origin` must be mine and its `policy` mlcommons"):
        route.between(mine, HAZARDS, written(tmp_path, FINE.replace("origin: mine", "origin: other")))


def test_ways_that_do_not_exist_are_told() -> None:
    with pytest.raises(
        ConfigError, match=r"^no crosswalk minimal_to_openai-moderation, and none to mlcommons; write cr"
    ):
        route.between(POLICIES["minimal"], POLICIES["openai-moderation"])
    with pytest.raises(ConfigError, match="none from mlcommons to minimal"):
        route.between(HAZARDS, POLICIES["minimal"])
    with pytest.raises(ConfigError, match="none to mlcommons and none from mlcommons to mine"):
        route.between(POLICIES["minimal"], dataclasses.replace(HAZARDS, id="mine"))


def test_versions_of_a_policy_map_by_code() -> None:
    less = HAZARDS.without(["S2", "S14"])
    found = route.between(HAZARDS, less).crosswalk
    assert [entry.label for entry in found.entries.values() if entry.kind == "outside"] == ["S2", "S14"]
    assert not found.beyond
    assert set(route.between(less, HAZARDS).crosswalk.beyond) == {"S2", "S14"}


def test_a_data_sets_labels_lead_to_another_policy_through_the_hub() -> None:
    found = route.between(SHIPPED["pku_saferlhf"], POLICIES["openai-moderation"])
    assert found.through == ("mlcommons",)
    kinds = {
        label: (found.crosswalk.entries[label].kind, found.crosswalk.entries[label].codes)
        for label in ("drugs", "violence", "copyright issues")
    }
    assert kinds == {
        "drugs": ("mapped", ("illicit",)),
        "violence": ("either", ("illicit/violent", "violence")),
        "copyright issues": ("unmapped", ()),
    }
    direct = route.between(SHIPPED["multijail"], HAZARDS).crosswalk
    assert direct.mapped == SHIPPED["multijail"].mapped
    assert set(direct.beyond) == set(HAZARDS.codes) - set(SHIPPED["multijail"].codes)


def test_scores_are_projected_on_the_other_policy() -> None:
    found = SHIPPED["mlcommons_to_openai-moderation"]
    scores = {"S1": 0.7, "S2": 0.2, "S3": 0.4, "S9": 0.6, "S5": 0.99, "S6": 0.98, "S10": 0.1}
    projected = crosswalks.project(scores, found)
    assert set(projected) == set(POLICIES["openai-moderation"].codes)
    assert {code: p for code, p in projected.items() if p is not None} == {
        "illicit/violent": 0.7,  # the highest of S1, S3 and S9
        "violence": 0.7,
        "illicit": 0.4,
        "hate": 0.1,
    }
    assert set(crosswalks.project({}, found).values()) == {None}
    with pytest.raises(DataError, match="does not list 'S77'; it lists: S2"):
        crosswalks.project({"S77": 0.5}, found)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(HAZARDS.codes), st.floats(0, 1)))
def test_a_projected_score_is_one_of_those_given(scores: dict[str, float]) -> None:
    for name in POLICIES:
        if name in (*ALONE, route.HUB):
            continue
        found = SHIPPED[f"mlcommons_to_{name}"]
        projected = crosswalks.project(scores, found)
        for code, p in projected.items():
            sources = [scores[s] for s in scores if code in found.entries[fold_code(s)].codes]
            assert p == (max(sources) if sources else None)


def assert_true(found: Crosswalk, world: made_up_policies.World, origin: str, target: str) -> None:
    for number, content in enumerate(world):
        for label in content[origin]:
            entry = found.entry(label)
            assert entry is not None
            actual = content[target]
            if entry.kind == "mapped":
                assert actual >= set(entry.codes), (number, label)
            elif entry.kind == "either":
                assert actual & set(entry.codes), (number, label)
            elif entry.kind == "outside":
                assert not actual, (number, label)
            assert actual <= touched(found, label) | set(found.beyond), (number, label)
        if not content[origin]:
            assert content[target] <= set(found.beyond), number


@settings(deadline=None)
@given(made_up_policies.worlds)
def test_what_follows_from_two_true_crosswalks_is_true(world: made_up_policies.World) -> None:
    first, second = (
        made_up_policies.true_crosswalk(world, "x", "hub"),
        made_up_policies.true_crosswalk(world, "hub", "y"),
    )
    assert_true(first, world, "x", "hub")
    assert_true(second, world, "hub", "y")
    both = route.compose(first, second)
    assert_true(both, world, "x", "y")
    crosswalks.check_total(both, made_up_policies.POLICIES["x"], made_up_policies.POLICIES["y"])


def test_steps_are_joined_without_saying_too_much() -> None:
    first = Crosswalk(
        "first",
        "hub",
        "first",
        origin="x",
        mapped={"all": ("M", "P"), "certain": ("M", "O"), "void": ("N",)},
        either={"same": ("O", "O2"), "some": ("M", "O"), "lost": ("M", "N"), "open": ("M", "U")},
        outside={"out": "no hazard"},
        unmapped={"odd": "who knows"},
        within={"N": ("odd",)},
    )
    second = Crosswalk(
        "second",
        "y",
        "second",
        origin="hub",
        mapped={"O": ("R",), "O2": ("R", "Q")},
        either={"M": ("Q", "R"), "P": ("Q", "R", "T")},
        outside={"N": "nothing there"},
        unmapped={"U": "unclear"},
    )
    entries = route.compose(first, second).entries
    assert {label: (entry.kind, entry.codes or entry.reason) for label, entry in entries.items()} == {
        "all": ("either", ("Q", "R")),  # at least one of Q, R, T says less
        "certain": ("mapped", ("R",)),
        "same": ("mapped", ("R",)),
        "some": ("either", ("Q", "R")),
        "void": ("outside", "N: nothing there"),
        "out": ("outside", "no hazard"),
        "odd": ("outside", "who knows"),  # nothing of y lies beyond the hub
        "lost": ("unmapped", "M: either; N: nothing there"),
        "open": ("unmapped", "M: either; U: unclear"),
    }


def test_a_composed_crosswalk_still_says_something() -> None:
    """The property above would hold of one that says nothing."""
    found = route.between(POLICIES["beavertails"], POLICIES["openai-moderation"]).crosswalk
    assert found.entries["self_harm"].codes == ("self-harm",)
    assert found.entries["privacy_violation"].kind == "unmapped"
    assert found.entries["terrorism_organized_crime"].kind == "either"
    assert route.between(POLICIES["aegis2"], POLICIES["llama-guard-1"]).crosswalk.entries["profanity"].kind == "outside"
    # What mlcommons does not cover may be harassment to OpenAI.
    assert route.between(POLICIES["aegis2"], POLICIES["openai-moderation"]).crosswalk.entries["profanity"].kind == (
        "unmapped"
    )
