"""Named readers, each on a small made-up record."""

import dataclasses
from pathlib import Path

import pytest

from guard import policy
from guard.assets import asset
from guard.data.ingest import source_rows
from guard.data.sources import description
from guard.data.sources.formats import Record
from guard.data.sources.hub_readers import HUB_READERS
from guard.data.sources.readers import READERS, refuses
from guard.data.sources.topics import load as load_topics
from guard.errors import DataError


def run(name, *fields):
    return [record.fields for record in READERS[name](Record(dict(f), "made-up", n) for n, f in enumerate(fields, 1))]


def test_nested_lists():
    value = {"Tools": {"Rake:": ["a", "b"]}, "Plants": ["c"]}
    assert run("nested_lists", {"value": value, "language": "en"}) == [
        {"language": "en", "text": "a", "topic": "Tools / Rake", "position": "Tools / Rake / 0"},
        {"language": "en", "text": "b", "topic": "Tools / Rake", "position": "Tools / Rake / 1"},
        {"language": "en", "text": "c", "topic": "Plants", "position": "Plants / 0"},
    ]


def test_answers_by_prompt():
    found = run("answers_by_prompt", {"value": {"Rake?": "Like this.", "Hoe?": "I'm sorry, no."}})
    assert [fields["answer"] for fields in found] == ["given", "refused"]


def test_human_assistant():
    long = "Rake the leaves from the hedge towards the path, then carry them to the heap. " * 2
    frame = "Human: Rake? Assistant:"
    found = run(
        "human_assistant", *({"prompts": frame, "results": text} for text in (long, "Yes.", "I cannot. " + long))
    )
    assert [(fields["prompt"].strip(), fields["answer"]) for fields in found] == [
        ("Rake?", "given"),
        ("Rake?", "short"),
        ("Rake?", "refused"),
    ]


def test_rater_share():
    rated = [{"comment_id": "1", "not toxic": vote} for vote in ("True", "0", "1", "False")]
    comments = [{"comment_id": "1", "comment_text": "hm"}, {"comment_id": "2", "comment_text": "unrated"}]
    found = run("rater_share", *rated, *comments)
    assert [(fields["comment_text"], fields["share"]) for fields in found] == [("hm", 0.5)]


def test_annotator_votes():
    first = {"A1_is_abuse.1": "1", "A1_is_abuse.-2": "0", "A2_is_abuse.-1": "1", "A2_sexist": "0", "A2_sexist#2": "1"}
    unrated = {"A1_is_abuse.1": "", "A1_sexist": "1"}
    mild = {"A1_is_abuse.0": "1", "A1_intellectual": "1"}
    found = run("annotator_votes", first, unrated, mild)
    assert [(fields["share"], fields["hate"]) for fields in found] == [(0.5, "yes"), (0.0, "no")]


def test_language_columns():
    found = run("language_columns", {"id": "7", "source": "x", "tags": "['a', 'b']", "en": "fence", "fr": "clôture"})
    assert [(fields["language"], fields["text"], fields["tags"]) for fields in found] == [
        ("en", "fence", ["a", "b"]),
        ("fr", "clôture", ["a", "b"]),
    ]
    for broken in ("['a'", "7"):
        with pytest.raises(DataError, match="made-up row 1: `tags` must be a list"):
            run("language_columns", {"tags": broken, "en": "fence"})


def test_embedded_targets_unsafe_wins():
    rows = [
        {"context": "Write about bees.", "response": "Bees hum. ", "safety": "safe"},
        {"context": "Write about bees.", "response": "Bees hum.", "safety": "unsafe"},
        {"context": "Write about bees.", "response": "蜜蜂", "safety": "safe"},
    ]
    found = run("embedded_targets", {"value": {"bees": rows}})
    assert [(f["safety"], f["language"], f["template"]) for f in found] == [
        ("unsafe", "en", "Write about _."),
        ("unsafe", "en", "Write about _."),
        ("safe", "zh", "Write about _."),
    ]


def test_violating_and_safe():
    found = run("violating_and_safe", {"问题": "q", "违规回答": "bad", "安全有用回答": "good"})
    assert [(fields["response"], fields["answer"]) for fields in found] == [("bad", "violating"), ("good", "safe")]


def test_questions_by_index():
    question, answer = {"index": "4", "text": "Rake?"}, {"question": "4", "Response": "Yes."}
    assert run("questions_by_index", question, answer) == [{**answer, "prompt": "Rake?"}]
    with pytest.raises(DataError, match="made-up row 1: its question index is not in the question list"):
        run("questions_by_index", answer)


def test_dashed_lines():
    assert run("dashed_lines", {"text": "- a fence"}, {"text": "a - b"}) == [{"text": "a fence"}, {"text": "a - b"}]


def test_tweet_and_classes():
    (found,) = run("tweet_and_classes", {"text": 'A hedge.|LBR|It\'s "tall".\tOTHER\tOTHER'})
    assert (found["tweet"], found["fine"]) == ('A hedge.\nIt\'s "tall".', "OTHER")
    with pytest.raises(DataError, match="made-up row 1: has 2 cells, not 3"):
        run("tweet_and_classes", {"text": "A hedge.\tOTHER"})


def test_comment_and_bias():
    header, row = {"text": "comments\tany\tbias\thate"}, {"text": 'Say "hedge"\tFalse\tnone\toffensive'}
    (found,) = run("comment_and_bias", header, row)
    assert (found["comment"], found["hate and bias"]) == ('Say "hedge"', "offensive none")


def test_rater_counts():
    none = dict.fromkeys(("homophobia", "obscene", "insult", "racism", "misogyny", "xenophobia"), "0.0")
    texts = [
        {"text": "a", **none},
        {"text": "b", **none, "insult": "3.0"},
        {"text": "c", **none, "racism": "3.0"},
        {"text": "d", **none, "racism": "2.0"},
        {"text": "\u4e0d", **none},
    ]
    assert [fields["agreed"] for fields in run("rater_counts", *texts)] == ["nothing", "other", "group", "other"]


def test_squad_questions():
    paragraph = {"context": "Hedges are green.", "qas": [{"id": "1", "question": "What are hedges?", "answers": []}]}
    found = run("squad_questions", {"paragraphs": [paragraph, paragraph], "language": "en"})
    assert [(fields["question"], fields["id"], fields["language"]) for fields in found] == [
        ("What are hedges?", "1", "en")
    ] * 2


def seeds(name, folder="seed_twins"):
    """The rows of a shipped description, read from the tiny seeds beside this file instead of the shipped ones."""
    source = dataclasses.replace(description.load(name), within="root", files=(description.File("*.yaml"),))
    root = Path(__file__).parent / folder
    return list(source_rows.rows(source, root, description.load_crosswalk(source), policy.load("mlcommons")))


def test_seed_twins_prompts():
    found = seeds("seed_twins_prompts")
    assert [(row.label, row.categories, row.language) for row in found] == [
        ("unsafe", ("S2",), "de"),
        ("safe", (), "de"),
        ("unsafe", ("S11",), "de"),
        ("safe", (), "de"),
        ("safe", (), "de"),
    ]
    assert found[1].prompt == "Wie knacke ich Walnüsse ohne Nussknacker?"
    assert [row.place for row in found] == [f"de.yaml row {number}" for number in range(1, 6)]


def test_seed_twins_responses():
    found = seeds("seed_twins_responses")
    assert [(row.kind, row.label, row.categories, row.language) for row in found] == [
        ("response", "unsafe", ("S2",), "de"),
        ("response", "safe", (), "de"),
    ]
    assert found[0].response == "Brich das Schloss mit einer Stange auf."


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"language": "de", "twins": [["S2", "a"]]}, "entry 1 of `twins` must be three texts"),
        ({"twins": [["S2", "a", "b"]]}, "`language` must be an ISO 639 code"),
        ({"language": "German", "safe": ["a"]}, "`language` must be an ISO 639 code"),
    ],
)
def test_mistakes_in_seeds_of_other_languages_are_told(value, message):
    with pytest.raises(DataError, match=f"made-up row 1: {message}"):
        run("seed_twins_prompts", {"value": value})


def test_seed_policies():
    found = seeds("seed_policies", "seed_policies")
    assert [(row.label, row.rule.name, row.rule.domain) for row in found] == [
        ("unsafe", "Weather", "choir"),
        ("safe", "Weather", "choir"),
        ("safe", "Weather", "choir"),
        ("unsafe", "Rakes", "garden shop"),
        ("safe", "Rakes", "garden shop"),
    ]
    assert found[3].rule.definition == "No talk about rakes."
    assert found[3].prompt == "Which rake is best?"
    assert [row.place for row in found] == [f"club.yaml row {number}" for number in range(1, 6)]


def test_shipped_seeds_of_policies_have_topics():
    topics, source = load_topics("policies"), description.load("seed_policies")
    found = source_rows.rows(source, asset("taxonomy"), description.load_crosswalk(source), policy.load("mlcommons"))
    rules = {row.rule for row in found}
    assert len(rules) == 100
    assert all(topics.topic(rule) is not None or rule.name in topics.anything for rule in rules)


def test_request_splits():
    value = {"train": [["left out", "x"]], "val": [["rake", "tools"]], "oos_test": [["why", "oos"]]}
    found = run("request_splits", {"value": value})
    assert found == [{"text": "rake", "intent": "tools"}, {"text": "why", "intent": "oos"}]


def test_hidden_instructions():
    rows = ({"context": text, "part": "a"} for text in ("One.", "Two."))
    attacks = {"value": {"kind": ["Rake!", "Mow!"], "other": ["Dig!"]}, "part": "a"}
    found = run("hidden_instructions", *rows, attacks, {"context": "Three.", "part": "b"})
    assert [(fields["text"], fields["injected"]) for fields in found] == [
        ("One.", "no"),
        ("Two.", "no"),
        ("One.\nRake!", "yes"),
        ("Mow!\nTwo.", "yes"),
        ("One.\nDig!", "yes"),
        ("Three.", "no"),
    ]


def test_answers_over_refusals():
    answer, refusal = "Rake it gently.", "I cannot help with hedges."
    pairs = [(answer, refusal), (refusal, answer), (answer, answer), (refusal, refusal)]
    found = run("answers_over_refusals", *({"chosen": one, "rejected": other} for one, other in pairs))
    assert found == [{"chosen": answer, "rejected": refusal}]


@pytest.mark.parametrize("name", sorted(set(READERS) - set(HUB_READERS) - {"annotator_votes"}))
def test_a_record_without_the_fields_of_its_reader_is_a_data_error(name):
    with pytest.raises(DataError, match="made-up row 1"):
        run(name, {"unrelated": "x"})


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("I'm sorry, but no.", True),
        ("As an AI I have no garden.", True),
        ("That is illegal and unkind.", True),
        ("It is never advisable to do so.", True),
        ("Certainly: rake it.", False),
        ("x" * 300 + "I cannot", False),
    ],
)
def test_refusals_show_at_the_start(text, refused):
    assert refuses(text) is refused
