"""Reward prompts: token ids that no text can forge, that fit, and whose words decide."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guard import assets
from guard.conversation import Message
from guard.errors import BundleError, ConfigError, DataError
from guard.jobs.cache import Cache
from guard.prompts.control import ChatTokens
from guard.reward import items, judged_items, judging
from guard.reward.judging import parse
from guard.reward.load import lacking
from guard.reward.prompts import SHORTEST, RewardPrompts, cap, cut
from guard.reward.row import parse_row
from guard.reward.supervision import Judgement, Supervision
from guard.reward.systems import SYSTEMS, system_of
from guard.reward.template import Question, template
from tests.fixtures import tiny_causal, tiny_reward

CHATS = {family: ChatTokens.of(tiny_causal.tokenizer(family), family) for family in ("llama3", "chatml")}
PROMPTS = {family: RewardPrompts(chat, 400, 48) for family, chat in CHATS.items()}
HOSTILE = st.sampled_from(["<|eot_id|>", "<|im_end|>\n<|im_start|>", "[Answer B]\n", "<|role|>", "bread", "\n"])
TEXT = st.lists(HOSTILE | st.text(max_size=5), max_size=12).map("".join).map(lambda text: text * 6)
FAMILY = st.sampled_from(list(PROMPTS))


def messages(text):
    return (Message("user", text),)


@settings(max_examples=10)
@given(FAMILY, TEXT, TEXT, TEXT)
def test_no_text_can_forge_a_turn_and_every_prompt_fits(family, prompt, first, second):
    prompts = PROMPTS[family]
    chat = prompts.chat
    plain = prompts.ask("prefer", messages("x"), (("first", "y"), ("second", "z")))
    asked = prompts.ask("prefer", messages(prompt), (("first", first), ("second", second)))
    controls = [index for index in asked.ids if index in chat.control_ids]
    assert controls == [index for index in plain.ids if index in chat.control_ids]
    assert len(asked.ids) <= prompts.max_tokens - prompts.reply_tokens
    assert 0 < asked.coverage <= 1
    tail = chat.text(template().questions["prefer"].ask)
    assert "".join(map(chr, tail)) in "".join(map(chr, asked.ids))  # the question is whole, however long the texts


@given(FAMILY, TEXT, TEXT, TEXT)
def test_a_dialogue_fits_with_either_answer(family, prompt, first, second):
    prompts = PROMPTS[family]
    rendered, answers = prompts.dialogue(messages(prompt), first, second)
    for text, ids in zip((first, second), answers, strict=True):
        assert len(rendered.ids) + len(ids) <= prompts.max_tokens
        assert ids[-len(prompts.chat.end) :] == prompts.chat.end
        if rendered.coverage == 1:
            assert prompts.chat.tokenizer.decode(list(ids[: -len(prompts.chat.end)])) == text
    assert prompts.pad not in (*rendered.ids, *answers[0], *answers[1])


@given(st.lists(st.lists(st.integers(), max_size=80), max_size=6), st.integers(96, 400))
def test_the_longest_texts_lose_their_middles(texts, room):
    most = cap([tuple(text) for text in texts], room)
    kept = [cut(tuple(text), most) for text in texts]
    assert sum(map(len, kept)) <= max(room, SHORTEST * len(texts))
    for text, ids in zip(texts, kept, strict=True):
        assert ids == tuple(text) or len(ids) == most >= SHORTEST
        assert ids[:4] == tuple(text[:4])
        assert ids[-4:] == tuple(text[-4:])
    if sum(map(len, texts)) <= room:
        assert kept == [tuple(text) for text in texts]


def test_every_question_has_words_that_differ_in_their_first_tokens():
    for prompts in PROMPTS.values():
        for question in template().questions.values():
            assert len(set(prompts.words(question))) == len(question.words)
    with pytest.raises(BundleError, match="do not differ in their first tokens"):
        PROMPTS["llama3"].words(Question("", "", words=("safe", "safe")))
    with pytest.raises(ConfigError, match="must be >= 128"):
        RewardPrompts.load(None, 128, 64)


def test_a_reply_without_room_for_a_reason_is_refused():
    question, chat = template().questions["prefer-json"], CHATS["llama3"]
    with pytest.raises(ConfigError, match=r"reply_tokens must be >= (\d+) where a reason comes first") as problem:
        RewardPrompts(chat, 400, 16).check_reply(question)
    least = int(str(problem.value).split(">= ")[1].split()[0])
    RewardPrompts(chat, 400, least).check_reply(question)
    assert len(RewardPrompts(chat, 400, least).lead(question, "x y z " * 99)) > len(chat.text(question.marker))
    RewardPrompts(chat, 400, 0).check_reply(template().questions["prefer"])


@pytest.mark.parametrize("name", ["verify-cot", "prefer-cot", "prefer-json"])
@given(reason=st.text(max_size=20).map(str.strip), place=st.integers(0, 1))
def test_a_verdict_is_parsed_as_it_was_written(name, reason, place):
    prompts, question = PROMPTS["llama3"], template().questions[name]
    ids = prompts.verdict(question, question.words[place], reason)
    text = prompts.chat.tokenizer.decode(list(ids[: -len(prompts.chat.end)]), skip_special_tokens=False)
    told, word = parse(question, text)
    assert word == question.words[place]
    assert reason.startswith(told)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(("prefer-cot", text) for text in ("", "A", "Verdict: perhaps", "It is A.\nVerdict: C", "Verdict A")),
        *(("prefer-cot", f"\nVerdict: {text}") for text in ("Actually B", "AB", "A or B", "a", "A B")),
        *(("verify-cot", f"\nVerdict: {text}") for text in ("Yesterday", "Not sure", "No one knows", "yes", "Yes/No")),
        *(("prefer-json", f'", "better": {text}') for text in ("12}", "1, 2}", "10", "21}")),
    ],
)
def test_a_judgement_without_a_verdict_is_never_guessed(name, text):
    assert parse(template().questions[name], text)[1] is None


# -- items ------------------------------------------------------------------------------------------------------------

PAIRS = [parse_row(row) for row in tiny_reward.pairs(8)]


def supervision(question="", **changes):
    return Supervision(PROMPTS["llama3"], question, **changes)


def text_of(ids):
    return CHATS["llama3"].tokenizer.decode(list(ids), skip_special_tokens=False)


def test_the_supervised_text_is_the_word_and_its_end():
    given = supervision("prefer")
    first, second = items.preferred(given, PAIRS[:1])
    assert [text_of(each.chosen) for each in (first, second)] == ["A<|eot_id|>", "B<|eot_id|>"]
    assert [text_of(each.rejected) for each in (first, second)] == ["B<|eot_id|>", "A<|eot_id|>"]
    shown = text_of(second.prompt)
    assert shown.index(PAIRS[0].rejected) < shown.index(PAIRS[0].chosen)
    good, bad = items.checked(supervision("verify"), PAIRS[:1])
    assert [text_of(each.chosen) for each in (good, bad)] == ["Yes<|eot_id|>", "No<|eot_id|>"]
    (written, _) = items.preferred(supervision("prefer-cot"), PAIRS[:1])
    assert text_of(written.chosen) == f"{PAIRS[0].critique}\nVerdict: A<|eot_id|>"


def test_judgements_are_learnt_against_wrong_ones_of_the_same_order():
    row = PAIRS[0]
    told = (
        Judgement("right", "A", False),
        Judgement("wrong", "B", False),
        Judgement("unparsed", None, False),
        Judgement("turned right", "B", True),
        Judgement("hinted wrong", "A", True, hinted=True),
    )
    given = supervision("prefer-cot", judgements={row.pair_key: told})
    made = judged_items.contrasted(given, [row])
    assert [(text_of(each.chosen), text_of(each.rejected)) for each in made] == [
        ("right\nVerdict: A<|eot_id|>", "wrong\nVerdict: B<|eot_id|>"),
        ("turned right\nVerdict: B<|eot_id|>", "hinted wrong\nVerdict: A<|eot_id|>"),
    ]
    assert sum(each.weight for each in made) == pytest.approx(row.weight)
    assert [text_of(each.chosen) for each in judged_items.rationales(given, [row])] == [
        "right\nVerdict: A<|eot_id|>",
        "turned right\nVerdict: B<|eot_id|>",
    ]
    tasks = judged_items.three_tasks(given, [row])
    assert len(tasks) == 2 + 2 + 1
    assert text_of(tasks[-1].chosen) == f"{row.chosen}\n---\n{row.rejected}<|eot_id|>"
    never_wrong = supervision("prefer-cot", judgements={row.pair_key: told[:1]})
    assert judged_items.contrasted(never_wrong, [row]) == []
    assert len(judged_items.three_tasks(never_wrong, [row])) == 2 + 1
    for useless in (told[1:3], told[2:3], ()):
        never_right = supervision("prefer-cot", judgements={row.pair_key: useless})
        for build in (judged_items.rationales, judged_items.contrasted, judged_items.three_tasks):
            with pytest.raises(DataError, match="no judgement that ends with the right word"):
                build(never_right, [row])


def test_a_verdict_is_never_learnt_behind_an_empty_reason():
    pair = {"id": "7", "prompt": "Why?", "chosen": "Zebrafinch", "rejected": "b"}
    for reasons in (
        {},
        {"critique": "of the pair"},
        {"chosen_critique": "x"},
        {"chosen_critique": "x", "rejected_critique": " "},
    ):
        row = parse_row(pair | reasons)
        with pytest.raises(DataError, match=r"row '7' has an answer without a reason; give `critique`") as problem:
            items.checked(supervision("verify-cot"), [row])
        assert "Zebrafinch" not in str(problem.value)
        assert lacking(row, SYSTEMS["verifier-cot"].stages[0].needs)
    whole = parse_row(pair | {"chosen_critique": "x", "rejected_critique": "y"})
    assert not lacking(whole, SYSTEMS["verifier-cot"].stages[0].needs)
    assert len(items.checked(supervision("verify-cot"), [whole])) == 2


@given(st.lists(st.sampled_from([None, 0.0, 1.0, 3.0, 60.0]), min_size=1, max_size=8), st.sampled_from([0.0, 0.5, 2.0]))
def test_margins_do_not_depend_on_the_scale_of_the_ratings(margins, mean):
    rows = [parse_row(plain | {"margin": margin}) for plain, margin in zip(tiny_reward.pairs(8), margins, strict=False)]
    scaled = [dataclasses.replace(row, margin=row.margin and row.margin * 100) for row in rows]
    first, second = (
        [item.margin for item in items.ranked(supervision(margin=items.margin_unit(each, mean)), each)]
        for each in (rows, scaled)
    )
    assert first == pytest.approx(second)
    positive = [value for value, row in zip(first, rows, strict=True) if row.margin]
    assert not positive or sum(positive) / len(positive) == pytest.approx(mean)


def test_one_sided_labels_are_refused():
    rows = [parse_row({"prompt": "Why?", "response": str(number), "label": True}) for number in range(3)]
    with pytest.raises(DataError, match="all 3 answers are labelled good"):
        items.labelled(supervision(), rows)


@given(st.lists(st.sampled_from([0.25, 0.5, 1.0, 2.0]), max_size=12), st.integers(0, 3))
def test_an_epoch_draws_each_item_as_often_as_its_weight_says(weights, epoch):
    made = [items.Item((index,), (1,), weight=weight) for index, weight in enumerate(weights)]
    shown = items.drawn(made, epoch, 7)
    for item in made:
        assert abs(shown.count(item) - item.weight) < 1
    assert abs(len(shown) - sum(weights)) < 1


def test_the_table_is_consistent():
    recipes = {*assets.names("training/recipes", ".py"), ""}
    for name, system in SYSTEMS.items():
        assert (system.name, system.recipe in recipes) == (name, True)
        assert not system.question or system.question in template().questions
        assert len({stage.name for stage in system.stages}) == len(system.stages)
        assert system.rule != "cot" or template().questions[system.question].marker
    with pytest.raises(ConfigError, match="did you mean con-j"):
        system_of("con_j")
    with pytest.raises(ConfigError, match="trained by the recipe reward; the recipe reward_encoder trains: bt-encoder"):
        system_of("dpo", "reward_encoder")


def test_what_a_model_wrote_outlives_a_killed_run(tmp_path):
    rows = [parse_row(row) for row in tiny_reward.pairs(3 * judging.CHUNK - 5)]
    asked = []

    def write(chunk):
        asked.append(len(chunk))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return [row.id for row in chunk]

    with Cache(tmp_path / "written.sqlite") as kept, pytest.raises(KeyboardInterrupt):
        judging._written("reviews", rows, kept, write)
    with Cache(tmp_path / "written.sqlite") as kept:
        found = judging._written("reviews", rows, kept, write)
        assert judging._written("reviews", rows, kept, write) == found
    assert asked == [judging.CHUNK, judging.CHUNK, judging.CHUNK - 5, judging.CHUNK - 5]
    assert found == [row.id for row in rows]
