"""The moderator: windows become a verdict, under the policy, the calibration and the mode of the call."""

import dataclasses
import math
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.calibration import MODES, Calibration, TargetCalibration, Thresholds
from guard.conversation import Conversation, Message, Target
from guard.engines.fake import FakeEngine
from guard.errors import BundleError, ConfigError, EngineError, InvalidInput, PolicyError
from guard.moderator import Moderator, open_moderator, thresholds
from guard.moderator.evidence import evidence
from guard.moderator.steps import Finished, Scored, advance, run, run_async
from guard.policy import Category, Policy, load
from guard.prompts.window import Score, TokenizedConversation, Window
from guard.verdict import Outcome, Timings, sigmoid

RULES = load("mlcommons")
OWN = Policy("own", "1", "Own", (Category("X9", "Nine", "nine"), Category("X10", "Ten", "ten")))
FAKE = Moderator(FakeEngine(), RULES)
TEXTS = st.text(min_size=1, max_size=40).filter(str.strip) | st.sampled_from(
    ["violates:S1", "a violates:S10 b violates:S2", "violates:X9", "word " * 300 + "violates:S3"]
)


class Counting(FakeEngine):
    """Notes how many windows it was given at each call, and how many conversations under how many policies."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.tokenized = 0
        self.policies: set[int] = set()

    def tokenize(self, conversation, policy):
        self.tokenized += 1
        self.policies.add(id(policy))
        return super().tokenize(conversation, policy)

    def score(self, windows):
        self.calls.append(len(windows))
        return super().score(windows)


class Partial(FakeEngine):
    """Leaves the last token of every text unread."""

    def tokenize(self, conversation, policy):
        made = super().tokenize(conversation, policy)
        return dataclasses.replace(made, tokens_seen=made.tokens_total - 1)


class Scripted(FakeEngine):
    """Answers with the scores that it was made with, one after the other."""

    def __init__(self, *scores: Score) -> None:
        self.scores = scores

    def tokenize(self, conversation, policy):
        made = tuple(Window(policy, (n,), (), 10 * n, 10 * n + 10) for n in range(len(self.scores)))
        return TokenizedConversation(made, len(made), len(made))

    def score(self, windows):
        return [self.scores[window.ids[0]] for window in windows]


def scripted(*scores: Score, calibration: Calibration | None = None, response: str | None = None):
    return Moderator(Scripted(*scores), OWN, calibration or Calibration()).check("text", response)


def test_a_verdict_tells_what_it_rests_on():
    verdict = FAKE.check("please violates:S10 and violates:S2")
    assert verdict.outcome is Outcome.UNSAFE
    assert verdict.flagged == ("S2", "S10")
    assert verdict.p_unsafe == pytest.approx(sigmoid(4.0))
    assert tuple(verdict.categories) == RULES.codes
    assert (verdict.policy, verdict.model) == (RULES.digest, FakeEngine.info.digest)
    assert verdict.coverage.tokens_seen == verdict.coverage.tokens_total == math.ceil(35 / 4)
    assert (verdict.coverage.windows, verdict.coverage.worst_start, verdict.coverage.worst_end) == (1, 0, 35)
    assert verdict.timings.tokenize_ms > 0
    assert verdict.timings.infer_ms > 0


def test_the_target_is_the_last_message():
    assert FAKE.check("hello").target is Target.PROMPT
    assert FAKE.check("violates:S1", "hello").outcome is Outcome.SAFE, "the fake engine reads the judged message"
    assert FAKE.check("hello", "violates:S1").target is Target.RESPONSE


@pytest.mark.parametrize("before", [0, 100, 3_000, 20_011])
def test_the_worst_window_decides_and_says_where_it_lies(before):
    text = "\u00e9" * before + " violates:S1 " + "tail " * 2_000
    verdict = FAKE.check(text)
    assert verdict.outcome is Outcome.UNSAFE
    assert verdict.flagged == ("S1",)
    assert verdict.coverage.windows > 30
    coverage = verdict.coverage
    assert coverage.worst_start <= before
    assert "violates:S1" in text[coverage.worst_start : coverage.worst_end]
    assert coverage.worst_end - coverage.worst_start <= 256


@given(st.integers(0, 700))
def test_a_word_at_the_edge_of_a_window_stays_whole(before):
    assert FAKE.check("x" * before + " violates:S10").flagged == ("S10",)
    assert FAKE.check("x" * before + "violates:S10 ").outcome is (Outcome.SAFE if before else Outcome.UNSAFE)


def test_the_worst_window_is_not_the_first_and_categories_come_from_all():
    verdict = scripted(Score(-3.0, (-3.0, 1.0)), Score(2.0, (-1.0, -2.0)), Score(-1.0, (-2.0, -5.0)))
    assert verdict.p_unsafe == pytest.approx(sigmoid(2.0))
    assert verdict.categories == {"X9": pytest.approx(sigmoid(-1.0)), "X10": pytest.approx(sigmoid(1.0))}
    assert verdict.flagged == ("X10",)
    assert (verdict.coverage.worst_start, verdict.coverage.worst_end, verdict.coverage.windows) == (10, 20, 3)


@given(TEXTS)
def test_p_unsafe_is_at_least_that_of_every_category(text):
    verdict = FAKE.check(text)
    assert verdict.p_unsafe >= max(verdict.categories.values())


def test_an_excluded_category_cannot_make_anything_unsafe():
    bad = Conversation.of("violates:S1")
    (kept,) = FAKE.moderate([bad], exclude=["S2"])
    (dropped,) = FAKE.moderate([bad], exclude=["S1"])
    assert kept.outcome is Outcome.UNSAFE
    assert dropped.outcome is Outcome.SAFE
    assert dropped.flagged == ()
    assert "S1" not in dropped.categories
    assert dropped.policy == RULES.without(["S1"]).digest != RULES.digest


@pytest.mark.parametrize("exclude", [["S99"], list(RULES.codes)])
def test_an_exclusion_that_cannot_be_is_refused(exclude):
    with pytest.raises(PolicyError):
        FAKE.moderate([Conversation.of("hello")], exclude=exclude)


def test_a_call_may_bring_its_policy():
    chat = [Conversation.of("violates:X9 violates:X10 violates:S1")]
    (own,) = FAKE.moderate(chat, OWN)
    assert own.flagged == ("X9", "X10")
    assert tuple(own.categories) == OWN.codes
    assert own.policy == OWN.digest
    assert FAKE.moderate(chat)[0].flagged == ("S1",), "the next call has the moderator's own again"
    assert FAKE.moderate(chat, OWN, ["X9"])[0].flagged == ("X10",)


@given(st.lists(TEXTS, max_size=12))
def test_order_is_kept_and_company_makes_no_difference(texts):
    chats = [Conversation.of(text) for text in texts]
    together = FAKE.moderate(chats)
    assert len(together) == len(texts)
    for text, verdict in zip(texts, together, strict=True):
        assert dataclasses.replace(verdict, timings=Timings()) == dataclasses.replace(
            FAKE.check(text), timings=Timings()
        )


def test_what_occurs_twice_is_scored_once():
    engine = Counting()
    chats = [Conversation.of(text) for text in ("one", "two", "one", "one", "three", "two")]
    verdicts = Moderator(engine, RULES).moderate(chats)
    assert engine.calls == [3]
    assert [verdict.p_unsafe for verdict in verdicts] == [FAKE.moderate([chat])[0].p_unsafe for chat in chats]
    assert len({verdict.p_unsafe for verdict in verdicts}) == 3


def test_windows_that_occur_twice_are_scored_once():
    engine = Counting()
    (verdict,) = Moderator(engine, RULES).moderate([Conversation.of("    " * 10_000 + "a")])
    assert verdict.coverage.windows > 100
    assert engine.calls == [2]


def test_equal_texts_under_two_policies_are_two_things():
    chat, engine = Conversation.of("text"), FAKE.engine
    (one,), (other,), (again,) = (engine.tokenize(chat, rules).windows for rules in (RULES, OWN, load("mlcommons")))
    assert one.ids == other.ids
    assert one.key != other.key
    assert one.key == again.key


def test_nothing_in_nothing_out():
    assert FAKE.moderate([]) == []
    assert FAKE.moderate_each([]) == []


@pytest.mark.parametrize("lost", [1, 2])
def test_an_engine_that_answers_too_few_or_too_many_is_an_error(lost):
    class Short(FakeEngine):
        def score(self, windows):
            return super().score([*windows, *windows])[: len(windows) + (lost if lost == 2 else -lost)]

    with pytest.raises(EngineError, match="scores for 2 windows; this is a bug of the engine"):
        Moderator(Short(), RULES).moderate([Conversation.of("one"), Conversation.of("two")])


def test_steps_need_all_their_scores():
    def asked():
        steps = FAKE.judge(Conversation.of("long " * 100))
        return steps, [Scored(score) for score in FAKE.engine.score(advance(steps))]

    steps, scores = asked()
    assert advance(steps, scores).result.outcome is Outcome.SAFE
    for change in (scores[:-1], [*scores, scores[0]], []):
        with pytest.raises(EngineError, match=f"{len(change)} scores for {len(scores)} windows"):
            advance(asked()[0], change)


@pytest.mark.parametrize(
    "score",
    [
        Score(math.nan, (0.0, 0.0)),
        Score(math.inf, (0.0, 0.0)),
        Score(0.0, (0.0, math.nan)),
        Score(0.0, (0.0,)),
        Score(0.0, (0.0, 0.0, 0.0)),
    ],
)
def test_a_score_that_is_no_number_is_an_error_even_beside_a_bad_window(score):
    for scores in ([Score(-5.0, (-5.0, -5.0)), score], [score, Score(9.0, (9.0, 9.0))]):
        with pytest.raises(EngineError, match="without a finite number"):
            scripted(*scores)


def test_what_was_not_read_is_incomplete_and_never_safe():
    moderator = Moderator(Partial(), RULES)
    verdict = moderator.check("nothing bad so far")
    assert verdict.outcome is Outcome.INCOMPLETE
    assert verdict.flagged == ()
    assert 0 < verdict.p_unsafe < verdict.threshold
    assert moderator.check("violates:S1").outcome is Outcome.UNSAFE


CALIBRATION = Calibration(
    prompt=TargetCalibration(1.0, 0.0, Thresholds(0.2, 0.5, 0.8)),
    response=TargetCalibration(2.0, 1.0, Thresholds(0.05, 0.06, 0.07), {"X9": Thresholds(0.4, 0.4, 0.4)}),
)


@pytest.mark.parametrize(
    ("z", "outcomes"),
    [
        (-3.0, (Outcome.SAFE, Outcome.SAFE, Outcome.SAFE)),
        (-1.0, (Outcome.UNSAFE, Outcome.SAFE, Outcome.SAFE)),
        (0.5, (Outcome.UNSAFE, Outcome.UNSAFE, Outcome.SAFE)),
        (2.0, (Outcome.UNSAFE, Outcome.UNSAFE, Outcome.UNSAFE)),
    ],
)
def test_the_mode_moves_the_threshold(z, outcomes):
    moderator = Moderator(Scripted(Score(z, (z, z - 1))), OWN, CALIBRATION)
    verdicts = [dataclasses.replace(moderator, mode=mode).check("text") for mode in MODES]
    assert tuple(verdict.outcome for verdict in verdicts) == outcomes
    assert [verdict.threshold for verdict in verdicts] == [0.2, 0.5, 0.8]
    assert len({verdict.p_unsafe for verdict in verdicts}) == 1
    chat = [Conversation.of("text")]
    assert tuple(moderator.moderate(chat, mode=mode)[0].outcome for mode in MODES) == outcomes
    assert tuple(moderator.check("text", mode=mode).outcome for mode in MODES) == outcomes


def test_prompts_and_responses_have_their_own_scale():
    moderator = Moderator(Scripted(Score(-1.0, (-1.0, -1.5))), OWN, CALIBRATION)
    prompt, response = moderator.check("text"), moderator.check("text", "answer")
    assert (prompt.p_unsafe, prompt.threshold) == (pytest.approx(sigmoid(-1.0)), 0.5)
    assert (response.p_unsafe, response.threshold) == (pytest.approx(sigmoid(-1.0)), 0.06)  # 2 · -1 + 1
    assert response.categories == {"X9": pytest.approx(sigmoid(-1.0)), "X10": pytest.approx(sigmoid(-2.0))}
    assert response.flagged == ("X10",), "X9 stays under its own threshold, X10 reaches that of the verdict"


def test_the_refusal_is_that_of_the_first_window():
    scores = Score(0.0, (0.0, 0.0), refusal=3.0), Score(1.0, (0.0, 0.0), refusal=-3.0)
    assert scripted(*scores, response="answer").p_refusal == pytest.approx(sigmoid(3.0))
    assert scripted(Score(0.0, (0.0, 0.0)), response="answer").p_refusal is None
    assert scripted(*scores).p_refusal is None, "a prompt refuses nothing"


class Choosy(Counting):
    """Cannot tokenize `unreadable`, and cannot score `unscorable`."""

    def tokenize(self, conversation, policy):
        made = super().tokenize(conversation, policy)
        if "unreadable" in conversation.judged.content:
            raise InvalidInput("cannot be read")
        return made

    def score(self, windows):
        scores = super().score(windows)
        bad = [b"unscorable" in bytes(window.ids) for window in windows]
        return [EngineError("cannot be scored") if each else score for each, score in zip(bad, scores, strict=True)]


def test_one_that_cannot_be_judged_spares_the_others():
    moderator = Moderator(Choosy(), RULES)
    chats = [Conversation.of(text) for text in ("one", "unreadable", "violates:S1", "unscorable")]
    with pytest.raises(InvalidInput):
        moderator.moderate(chats)
    one, unreadable, bad, unscorable = moderator.moderate_each(chats)
    assert isinstance(unreadable, InvalidInput)
    assert isinstance(unscorable, EngineError)
    assert (one.outcome, bad.outcome) == (Outcome.SAFE, Outcome.UNSAFE)
    with pytest.raises(PolicyError):  # not the fault of a text: nobody is spared
        moderator.moderate_each(chats, exclude=["S99"])
    with pytest.raises(ConfigError):
        moderator.moderate_each(chats, mode="lenient")


@pytest.mark.parametrize("bad", ["unreadable", "unscorable"])
def test_a_bad_row_of_many_costs_nothing_more(bad):
    engine = Choosy()
    chats = [Conversation.of(f"text {n}") for n in range(255)] + [Conversation.of(bad)]
    answers = Moderator(engine, RULES).moderate_each(chats)
    assert engine.tokenized == 256
    assert engine.calls == [255 if bad == "unreadable" else 256]
    assert [isinstance(answer, Exception) for answer in answers] == [False] * 255 + [True]


def test_an_engine_that_cannot_score_at_all_fails_every_conversation():
    class Dead(FakeEngine):
        def score(self, windows):
            raise EngineError("the session is lost")

    answers = Moderator(Dead(), RULES).moderate_each([Conversation.of("one"), Conversation.of("two")])
    assert [str(answer) for answer in answers] == ["the session is lost"] * 2


def test_a_bug_is_not_an_answer():
    class Buggy(FakeEngine):
        def tokenize(self, conversation, policy):
            raise RuntimeError("bug")

    with pytest.raises(RuntimeError, match="bug"):
        Moderator(Buggy(), RULES).moderate_each([Conversation.of("one")])


def test_an_exclusion_makes_one_policy_for_all():
    engine = Counting()
    chats = [Conversation.of(f"text {n}") for n in range(20)]
    Moderator(engine, RULES).moderate(chats, exclude=["S1"])
    assert len(engine.policies) == 1


def test_steps_of_one_and_of_many_give_the_same_verdicts():
    chats = [Conversation.of(text) for text in ("one", "violates:S1", "one")]
    alone = [run(FAKE.judge(chat), FAKE.engine) for chat in chats]
    together = run(FAKE.judge_each(chats), FAKE.engine)
    found = run(evidence(FAKE.engine, chats[1], RULES), FAKE.engine)
    for verdicts in (alone, together):
        assert [verdict.p_unsafe for verdict in verdicts] == [verdict.p_unsafe for verdict in FAKE.moderate(chats)]
    assert FAKE.conclude(found).p_unsafe == alone[1].p_unsafe


async def test_steps_can_be_driven_by_what_awaits_scores():
    waited = []

    async def ask(windows):
        waited.append(len(windows))
        return [Scored(score, 3.0, 5.0) for score in FAKE.engine.score(windows)]

    chats = [Conversation.of(text) for text in ("one", "violates:S1", "one")]
    steps = FAKE.judge_each(chats)
    verdicts = await run_async(steps, advance(steps), ask)
    assert waited == [2]
    assert [verdict.p_unsafe for verdict in verdicts] == [verdict.p_unsafe for verdict in FAKE.moderate(chats)]
    assert {(verdict.timings.queue_ms, verdict.timings.infer_ms) for verdict in verdicts} == {(3.0, 5.0)}
    nothing = FAKE.judge_each([])
    assert advance(nothing) == Finished([])


def test_a_moderator_tells_what_it_is_and_closes_its_engine():
    class Closing(FakeEngine):
        closed = 0

        def close(self):
            self.closed += 1

    with Moderator(Closing(), RULES, mode="strict") as moderator:
        info = moderator.info
        assert (info.model, info.kind, info.policy) == (FakeEngine.info.digest, "fake", RULES)
        assert info.mode == "strict"
        for target in Target:
            assert info.thresholds[target] == thresholds(Calibration(), RULES, target, "strict")
    assert moderator.engine.closed == 1


def test_threads_see_their_own_answers():
    chats = [Conversation.of(f"text {n}" + " violates:S1" * (n % 3 == 0)) for n in range(200)]
    with ThreadPoolExecutor(8) as pool:
        verdicts = list(pool.map(lambda chat: FAKE.moderate([chat])[0], chats))
    assert [verdict.outcome is Outcome.UNSAFE for verdict in verdicts] == [n % 3 == 0 for n in range(200)]


def test_no_repr_shows_what_was_read():
    chat = Conversation((Message("user", "kumquat-4711"), Message("assistant", "kumquat-4711")))
    made = FAKE.engine.tokenize(chat, RULES)
    assert "kumquat" not in repr(made)
    assert repr(made.windows[0].ids)[1:-1] not in repr(made)
    assert "kumquat" not in repr(FAKE.moderate([chat]))


def test_open_moderator_without_a_model():
    assert open_moderator("fake").policy == RULES
    moderator = open_moderator("fake", "minimal", "strict")
    assert (moderator.policy, moderator.mode) == (load("minimal"), "strict")
    assert moderator.check("violates:M1").flagged == ("M1",)


def test_open_moderator_says_what_is_wrong(tmp_path):
    with pytest.raises(BundleError, match="give a bundle folder made by `guard export RUN OUT`"):
        open_moderator(tmp_path)
    with pytest.raises(PolicyError, match="no shipped policy 'minimall'; did you mean 'minimal'"):
        open_moderator("fake", "minimall")
    with pytest.raises(ConfigError, match="unknown mode 'lenient'; allowed: strict, balanced, permissive"):
        open_moderator("fake", mode="lenient")
