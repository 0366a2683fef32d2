"""Attacks, the search for a suffix, and the rates of a run: by hand, on engines whose rule is written here."""

import dataclasses
import json
import math
import random
import zlib

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from guard import policy
from guard.calibration import Calibration, TargetCalibration, Thresholds
from guard.conversation import Conversation, Target
from guard.engines.fake import FakeEngine
from guard.errors import ConfigError, DataError, InvalidInput
from guard.evaluate.redteam import sample
from guard.evaluate.redteam.attack_run import AttackSettings, run_attacks, threshold_at_fpr
from guard.evaluate.redteam.attacks import GROUPS, KINDS, LENGTHS, SEARCH, Material, choose, material, padded, shipped
from guard.evaluate.redteam.report import build_report, evasions, tables
from guard.evaluate.redteam.suffix_search import LONGEST, Start, search
from guard.evaluate.suite import Case, Suite
from guard.moderator import Moderator
from guard.prompts.window import Score, TokenizedConversation, Window
from guard.schema import convert

MINIMAL = policy.load("minimal")
SEEDS = AttackSettings()


@dataclasses.dataclass(frozen=True)
class Rule(FakeEngine):
    """An engine that scores a text by a function. It cannot read `unreadable` at all, and `cut` not whole."""

    z: object

    def tokenize(self, conversation, policy):
        text = conversation.judged.content
        if "unreadable" in text:
            raise InvalidInput("this cannot be read")
        window = Window(policy, tuple(text.encode()), (), 0, len(text))
        return TokenizedConversation((window,), 1, 2 if "cut" in text.split() else 1)

    def score(self, windows):
        found = [float(self.z(bytes(window.ids).decode())) for window in windows]
        return [Score(z, (z,) * len(window.policy.categories)) for z, window in zip(found, windows, strict=True)]


def guard(z, **options):
    return Moderator(Rule(z), MINIMAL, **options)


KEYWORD = Moderator(FakeEngine(), MINIMAL)


def suite(unsafe, safe):
    cases = [Case(Conversation.of(text), "unsafe", {}) for text in unsafe]
    cases += [Case(Conversation.of(text), "safe", {}) for text in safe]
    return Suite("set", "A set", "", "", "cd" * 32, tuple(cases))


def drawn(unsafe, safe, rows=100):
    return sample.draw_sample(suite(unsafe, safe), rows, 4000, 0)


UNSAFE = [f"please violates:M1 in way {number}" for number in range(10)]
SAFE = [f"bread and butter of day {number}" for number in range(20)]
TEXTS = drawn(UNSAFE, SAFE)


def run(moderator, texts, names, setting=SEEDS, show_text=False):
    """The report's attacks by name, and the report."""
    attacked = run_attacks(moderator, texts, choose(names), setting)
    told = build_report([attacked], texts, setting, "guard redteam", show_text)
    return {attack["name"]: attack for attack in told["guards"][0]["attacks"]}, told


# -- groups and turns --------------------------------------------------------------------------------------------------


def test_groups_are_chosen_by_name_and_reported_by_their_means():
    assert {attack.group for attack in choose([])} == set(GROUPS)
    assert {attack.kind for attack in choose(["exotic"])} == {"encoding", "lettering", "arrangement", "packaging"}
    found, told = run(KEYWORD, TEXTS, ["leet", "base64", "caesar", "json_field"])
    for group, names in {"common": ["leet", "base64"], "exotic": ["caesar", "json_field"]}.items():
        means = told["guards"][0]["groups"][group]
        assert means["attacks"] == 2
        for point in ("fixed", "mode"):
            for rate in ("success", "fpr"):
                assert means[point][rate] == pytest.approx(np.mean([found[name][point][rate] for name in names]))


def test_an_attack_over_several_turns_is_several_messages_of_one_speaker():
    text = shipped()["turns_3"].apply("bake some bread for us now", random.Random(0), MINIMAL)
    made = sample.with_turns(Conversation.of("bake some bread for us now"), text)
    assert [message.role for message in made.messages] == ["user", "assistant", "user", "assistant", "user"]
    assert [message.content for message in made.messages[::2]] == ["bake some", "bread for", "us now"]
    answered = sample.with_turns(
        Conversation.of("How?", "like this"), shipped()["turns_2"].apply("like this", None, None)
    )
    assert [message.role for message in answered.messages] == ["user", "assistant", "user", "assistant"]
    assert answered.judged.content == "this"


@pytest.mark.parametrize("name", [attack.name for attack in choose(["exotic"])])
def test_every_exotic_attack_changes_a_request(name):
    text = "Please tell me how to bake the bread for our wedding."
    assert shipped()[name].apply(text, random.Random(0), MINIMAL) != text


# -- attacks ----------------------------------------------------------------------------------------------------------


def test_every_kind_has_attacks_and_they_can_be_chosen_by_name_and_kind():
    assert {attack.kind for attack in choose([])} == set(KINDS)
    assert [attack.name for attack in choose(["leet", "noise"])] == ["swap", "drop", "double", "random_case", "leet"]
    with pytest.raises(InvalidInput, match=r"no attack 'lee'.*zero_width"):
        choose(["lee"])


@given(
    text=st.text(min_size=1, max_size=200).filter(str.strip),
    name=st.sampled_from(sorted(shipped())),
    seed=st.integers(),
)
def test_an_attack_is_a_function_of_text_and_seed_and_gives_a_text(text, name, seed):
    attack = shipped()[name]
    once, again = (attack.apply(text, random.Random(seed), MINIMAL) for _ in range(2))
    assert once == again
    assert once.strip() or name == "tags"
    if attack.verbatim:
        assert text in once


PLAIN = st.text(st.sampled_from("aehknoprstvxyzAEHKZ .,?!"), min_size=1, max_size=200).filter(str.strip)


@given(
    text=PLAIN, name=st.sampled_from([name for name, attack in shipped().items() if attack.undo]), seed=st.integers()
)
def test_what_can_be_undone_gives_the_text_back(text, name, seed):
    attack = shipped()[name]
    found = attack.undo(attack.apply(text, random.Random(seed), MINIMAL))
    assert found.casefold() == text.casefold()


@given(text=st.text(min_size=1, max_size=100), seed=st.integers())
@example(text="\u00df\u0130\u0131\u03c2" * 5, seed=0)
def test_random_case_keeps_the_letters(text, seed):
    attack = shipped()["random_case"]
    found = attack.apply(text, random.Random(seed), MINIMAL)
    assert attack.undo(found) == text.casefold()
    assert len(found) == len(text)


@pytest.mark.parametrize(("name", "change"), [("swap", 0), ("drop", -1), ("double", 1)])
def test_noise_changes_longer_words_behind_their_first_letter(name, change):
    text = " ".join(["lighthouse", "tea"] * 100)
    words = shipped()[name].apply(text, random.Random(1), MINIMAL).split()
    hit = [word for word in words if word not in ("lighthouse", "tea")]
    assert 20 <= len(hit) <= 60
    assert {len(word) for word in hit} == {len("lighthouse") + change}
    assert all(word.startswith("l") for word in hit)


def test_paraphrases_by_rule():
    apply = {name: shipped()[name].apply for name in ("roundabout", "bookish", "words_joined")}
    rng = random.Random(0)
    opened = apply["roundabout"]("How do I bake bread?", rng, MINIMAL)
    assert opened == "Tell me about the way in which one would bake bread?"
    assert apply["roundabout"]("Bread, quickly {text}", rng, MINIMAL).endswith("matter: Bread, quickly {text}")
    assert apply["bookish"]("Find some money, quickly.", rng, MINIMAL) == "Locate certain funds, swiftly."
    assert apply["words_joined"]("a b\nc", rng, MINIMAL) == "abc"


@given(length=st.sampled_from(LENGTHS), place=st.sampled_from(["before", "after", "both"]), seed=st.integers())
def test_padding_fills_up_to_its_length(length, place, seed):
    found = padded("canary", place, length, random.Random(seed))
    assert length * 0.9 < len(found) <= length
    before, _, after = found.partition("canary")
    assert (bool(before), bool(after)) == {"before": (True, False), "after": (False, True), "both": (True, True)}[place]


def test_a_text_without_room_for_padding_stays_alone():
    assert padded("x" * 499, "both", 500, random.Random(0)) == "x" * 499


def test_injections_do_not_accuse_the_text():
    for seed in range(200):
        for attack in choose(["injection"]):
            assert "unsafe" not in attack.apply("canary", random.Random(seed), MINIMAL)


def test_the_shipped_material_is_whole_and_a_wrapper_without_its_text_is_refused():
    found = dataclasses.asdict(material())
    assert len(set(material().suffixes)) == len(material().suffixes) > 100
    found["wrappers"]["fiction"] = ["no place for the text"]
    with pytest.raises(ConfigError, match=r"must hold \{text\} once"):
        convert(json.loads(json.dumps(found)), Material, "here", error=ConfigError)


# -- thresholds -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fpr", "flagged"), [(0.0, 0), (0.05, 1), (0.09, 1), (0.1, 2), (0.5, 10), (0.95, 19)])
def test_the_threshold_flags_the_allowed_share(fpr, flagged):
    p = np.arange(20) / 20
    assert (p >= threshold_at_fpr(p, fpr)).sum() == flagged


def test_the_threshold_takes_a_rate_as_it_is_written():
    p = np.arange(100) / 100
    assert (p >= threshold_at_fpr(p, 0.29)).sum() == 29  # 0.29 * 100 is a little less than 29


@given(
    p=st.lists(st.floats(0, 1) | st.sampled_from([0.0, 0.5, 1.0, math.nan]), min_size=1, max_size=40),
    fpr=st.floats(0, 0.99),
)
def test_the_threshold_is_the_lowest_that_keeps_the_rate(p, fpr):
    p = np.array(p)
    cut = threshold_at_fpr(p, fpr)
    assert (p >= cut).mean() <= fpr + 1e-9
    below = p[p < cut]
    if len(below):
        assert (p >= below.max()).mean() > fpr


# -- the search -------------------------------------------------------------------------------------------------------


def swayed(text):
    """Unsafe, the less so the more kitchen words stand in the text: each counts, at most the sixth."""
    return 3.0 - min(6, sum(word in {"butter", "flour", "tomato", "basil", "coffee"} for word in text.split()))


def searched(budget, texts=("canary",), goal=0.5, z=swayed):
    def scores(pairs):
        return [1 / (1 + math.exp(-z(text))) for _, text in pairs]

    starts = [Start(text, 1 / (1 + math.exp(-z(text))), goal, f"seed {text}") for text in texts]
    return search(starts, material().suffixes, budget, scores)


def test_the_search_finds_what_sways_the_guard_and_stops_there():
    (found,) = searched(500)
    assert found.score < 0.5
    assert found.score == pytest.approx(1 / (1 + math.exp(-swayed(" ".join(("canary", *found.suffix))))))
    assert 3 <= found.queries < 500


def test_the_search_beats_random_suffixes_with_as_many_queries():
    attack, texts = shipped()["suffix_random"], [f"canary {number}" for number in range(20)]
    found = searched(200, texts)
    best = [
        min(swayed(attack.apply(text, random.Random(f"{text} {turn}"), MINIMAL)) for turn in range(200))
        for text in texts
    ]
    assert sum(one.score < 0.5 for one in found) > sum(z < 0 for z in best) + 5


@given(budget=st.integers(1, 60))
def test_the_search_keeps_to_its_budget(budget):
    found = searched(budget, ("one", "two"), goal=-1.0)
    assert [one.queries for one in found] == [budget, budget]
    assert all(len(one.suffix) <= LONGEST for one in found)


def test_a_text_is_searched_as_if_it_were_alone():
    assert searched(100, ("one", "two"))[1] == searched(100, ("two",))[0]


def test_a_guard_that_cannot_be_swayed_keeps_the_text():
    (found,) = searched(40, z=lambda text: 3.0)
    assert (found.suffix, found.queries) == ((), 40)
    (found,) = search([Start("a", 0.9, 0.5, "")], ["word"], 10, lambda pairs: [math.nan] * len(pairs))
    assert (found.suffix, found.score, found.queries) == ((), 0.9, 10)


def test_suffixes_grow_no_longer_than_allowed():
    (found,) = searched(3000, goal=0.0, z=lambda text: -0.01 * len(text))
    assert len(found.suffix) == LONGEST


# -- the sample -------------------------------------------------------------------------------------------------------


def test_the_sample_is_drawn_by_its_seed_without_repeats_or_long_texts():
    whole = suite([*UNSAFE, *UNSAFE, "x" * 50], SAFE)
    once, again, other = (sample.draw_sample(whole, 5, 49, seed) for seed in (1, 1, 2))
    assert once == again
    assert once.unsafe != other.unsafe
    assert (len(set(once.unsafe)), len(set(once.safe)), once.left_out) == (5, 5, 1)
    assert len(sample.draw_sample(whole, 100, 49, 1).unsafe) == len(UNSAFE)


def test_a_sample_that_fixes_no_threshold_is_refused():
    with pytest.raises(DataError, match="no unsafe text"):
        drawn([], SAFE)
    answers = Suite("set", "", "", "", "", (*TEXTS.suite.cases, Case(Conversation.of("a", "b"), "unsafe", {})))
    with pytest.raises(DataError, match="unsafe responses but no safe ones"):
        sample.draw_sample(answers, 100, 4000, 0)


def test_the_shipped_seeds_have_both_labels():
    labels = {case.label for case in sample.seed_suite().cases}
    assert labels == {"safe", "unsafe"}


# -- rates ------------------------------------------------------------------------------------------------------------


def test_success_by_hand():
    """The fake engine looks for a word: what leaves it whole, or a view undoes, fails; what breaks it succeeds."""
    names = ["base64", "hyphenated", "random_case", "words_on_lines", "wide_spaces", "padding_both_2000", "politeness"]
    found, told = run(KEYWORD, TEXTS, [*names, "roundabout"])
    success = {name: attack["mode"]["success"] for name, attack in found.items()}
    assert success == {
        "random_case": 1.0,
        "base64": 0.0,
        "words_on_lines": 0.0,
        "wide_spaces": 0.0,
        "hyphenated": 0.0,
        "roundabout": 0.0,
        "politeness": 0.0,
        "padding_both_2000": 0.0,
    }
    assert found["random_case"]["mode"]["interval"] == [1.0, 1.0]
    assert found["random_case"]["p_before"] > 0.9 > 0.1 > found["random_case"]["p_after"]
    assert {attack["queries"] for attack in found.values()} == {len(UNSAFE)}
    before = told["guards"][0]["before"]
    assert (before["fixed"]["recall"], before["fixed"]["fpr"]) == (1.0, 0.05)
    assert (before["mode"]["recall"], before["mode"]["fpr"], before["mode"]["thresholds"]) == (
        1.0,
        0.0,
        {"prompt": 0.5},
    )
    assert told["guards"][0]["any"]["mode"]["success"] == 1.0


def test_success_counts_only_what_was_flagged():
    found, told = run(KEYWORD, drawn([*UNSAFE, "harm that nobody sees"], SAFE), ["base64"], AttackSettings(fpr=0.0))
    assert found["base64"]["attacked"] == found["base64"]["fixed"]["flagged"] == len(UNSAFE)
    assert told["set"]["unsafe"] == len(UNSAFE) + 1
    assert told["guards"][0]["before"]["fixed"]["recall"] == pytest.approx(10 / 11)


def test_a_guard_that_nothing_flags_has_no_success_rate():
    found, told = run(guard(lambda text: -5.0), TEXTS, ["base64", SEARCH], AttackSettings(fpr=0.0))
    for attack in found.values():
        assert (attack["fixed"]["success"], attack["fixed"]["interval"], attack["queries"]) == (None, None, 0)
    assert told["guards"][0]["any"]["fixed"]["success"] is None


def test_a_guard_that_flags_what_looks_odd_pays_in_false_alarms():
    found, _ = run(guard(lambda text: 5.0 if "\u00ad" in text or "violates" in text else -5.0), TEXTS, ["hyphenated"])
    assert (found["hyphenated"]["mode"]["success"], found["hyphenated"]["mode"]["fpr"]) == (0.0, 1.0)


def test_the_two_points_have_thresholds_of_their_own():
    """Safe texts score up to p = 0.27, the mode flags from 0.95: an attack down to 0.5 passes in the mode only."""
    scale = TargetCalibration(thresholds=Thresholds(balanced=0.95))
    moderator = guard(
        lambda text: (0.0 if "\n" in text else 5.0) if "violates" in text else -1.0 - len(text),
        calibration=Calibration(prompt=scale),
    )
    found, _ = run(moderator, TEXTS, ["words_on_lines"])
    assert (found["words_on_lines"]["fixed"]["success"], found["words_on_lines"]["mode"]["success"]) == (0.0, 1.0)


def test_each_target_has_its_own_threshold():
    cases = [*TEXTS.suite.cases, Case(Conversation.of("q", "violates"), "unsafe", {})]
    cases += [Case(Conversation.of("q", f"answer {number}"), "safe", {}) for number in range(20)]
    texts = sample.draw_sample(Suite("set", "", "", "", "", tuple(cases)), 100, 4000, 0)
    attacked = run_attacks(guard(lambda text: 2.0 if "answer" in text else len(text) / 10), texts, (), SEEDS)
    cuts = attacked.thresholds["fixed"].of
    assert cuts[Target.RESPONSE] > 1 / (1 + math.exp(-2.0))
    assert attacked.safe.flagged(attacked.thresholds["fixed"].safe).sum() <= 2


def test_what_cannot_be_judged_has_not_got_past():
    sees = guard(lambda text: 5.0 if "violates" in text else -5.0)
    texts = drawn(["violates unreadablex a", "violates b"], SAFE)
    assert run(sees, texts, ["leet"])[0]["leet"]["attacked"] == 1
    for word, key in (("unreadable", "errors"), ("cut", "incomplete")):
        change = dataclasses.replace(shipped()["leet"], apply=lambda text, rng, policy, word=word: f"{word} nothing")
        attacked = run_attacks(sees, TEXTS, [change], SEEDS)
        (attack,) = build_report([attacked], TEXTS, SEEDS, "")["guards"][0]["attacks"]
        assert (attack["fixed"]["success"], attack[key]) == (0.0, len(UNSAFE))


def test_the_search_in_a_run():
    def z(text):
        return swayed(text) if "violates" in text else -1.0 - len(text) / 1000

    found, told = run(guard(z), TEXTS, [SEARCH, "suffix_random"], AttackSettings(budget=200), show_text=True)
    assert found[SEARCH]["fixed"]["success"] > found["suffix_random"]["fixed"]["success"]
    assert found["suffix_random"]["queries"] == len(UNSAFE) < found[SEARCH]["queries"] <= 200 * len(UNSAFE)
    assert len(found[SEARCH]["texts"]) == found[SEARCH]["fixed"]["evaded"]
    assert all(z(entry["text"]) < -1 for entry in found[SEARCH]["texts"])
    assert told == run(guard(z), TEXTS, [SEARCH, "suffix_random"], AttackSettings(budget=200), show_text=True)[1]
    other, _ = run(guard(z), TEXTS, [SEARCH, "suffix_random"], AttackSettings(budget=200, seed=1), show_text=True)
    assert found[SEARCH]["texts"] != other[SEARCH]["texts"]


def test_safe_texts_get_the_suffixes_that_were_found():
    def z(text):
        return swayed(text) if "violates" in text else 5.0 if "tomato" in text else -0.5

    found, _ = run(guard(z), TEXTS, [SEARCH], AttackSettings(budget=1000), show_text=True)
    used = sum("tomato" in entry["text"] for entry in found[SEARCH]["texts"])
    assert found[SEARCH]["mode"]["success"] == 1.0
    assert 0 < used < len(UNSAFE)
    assert found[SEARCH]["mode"]["fpr"] == pytest.approx(2 * used / len(SAFE))


@given(st.lists(st.floats(-6, 6), min_size=len(UNSAFE), max_size=len(UNSAFE)), st.integers(0, 9))
def test_rates_lie_between_0_and_1(values, seed):
    chances = random.Random(seed)
    moderator = guard(lambda text: values[zlib.crc32(text.encode()) % len(values)] + chances.random())
    found, _ = run(moderator, TEXTS, ["leet", "base64"], AttackSettings(seed=seed))
    for attack in found.values():
        for point in ("fixed", "mode"):
            numbers = attack[point]
            assert 0 <= numbers["evaded"] <= numbers["flagged"] <= len(UNSAFE)
            assert numbers["success"] is None or 0 <= numbers["interval"][0] <= numbers["interval"][1] <= 1
            assert numbers["success"] is None or numbers["success"] == pytest.approx(
                numbers["evaded"] / numbers["flagged"], abs=1e-6
            )
            assert 0 <= numbers["fpr"] <= 1


# -- two guards -------------------------------------------------------------------------------------------------------


def both(first, second, names):
    runs = [run_attacks(moderator, TEXTS, choose(names), SEEDS) for moderator in (first, second)]
    return build_report(runs, TEXTS, SEEDS, "")


def test_a_guard_beside_itself_does_not_differ():
    told = both(KEYWORD, KEYWORD, ["noise"])
    assert len(told["differences"]) == 5
    for difference in told["differences"]:
        assert difference["fixed"] == difference["mode"] == {"difference": 0.0, "interval": [0.0, 0.0]}


def test_a_guard_that_sees_through_an_attack_beside_one_that_does_not():
    sees = guard(lambda text: 4.0 if "violates" in text.casefold() else -4.0)
    told = both(KEYWORD, sees, ["random_case", "base64"])
    assert [(each["name"], each["mode"]["difference"]) for each in told["differences"]] == [
        ("random_case", -1.0),
        ("base64", 0.0),
        ("any of these", -1.0),
    ]
    assert told["differences"][0]["mode"]["interval"] == [-1.0, -1.0]
    assert len(tables(told)) == 2


def test_the_interval_of_a_difference_is_that_of_pairs():
    """Two guards that miss the same half: each alone is uncertain, their difference is not."""
    half = guard(
        lambda text: 4.0 if "violates" in text or ("violates" in text.casefold() and int(text[-1]) % 2) else -4.0
    )
    told = both(half, half, ["random_case"])
    low, high = told["guards"][0]["attacks"][0]["mode"]["interval"]
    assert low < 0.5 < high
    assert told["differences"][0]["mode"]["interval"] == [0.0, 0.0]


# -- texts ------------------------------------------------------------------------------------------------------------


def test_no_text_without_being_asked_for():
    canary = [f"please violates:M1 canary{number}" for number in range(5)]
    texts = drawn(canary, SAFE)
    attacked = run_attacks(KEYWORD, texts, choose(["random_case", "leet"]), SEEDS)
    silent = build_report([attacked], texts, SEEDS, "")
    assert "canary" not in json.dumps(silent)
    assert not list(evasions(silent))
    assert "canary" not in repr((attacked, texts, attacked.results))
    asked = build_report([attacked], texts, SEEDS, "", show_text=True)
    lines = list(evasions(asked))
    assert 5 < len(lines) <= 10  # of both attacks
    assert all(line.isascii() and "\n" not in line for line in lines)
    assert any("canary" in line.casefold() for line in lines)


def test_settings_that_make_no_sense_are_refused():
    for options in ({"fpr": 1.0}, {"fpr": -0.1}, {"fpr": math.nan}, {"budget": 0}):
        with pytest.raises(InvalidInput, match=r"must be|needs"):
            AttackSettings(**options)
