"""Topics: which rules are about other things."""

import re

import pytest

from guard import assets
from guard.data.row import Rule
from guard.data.sources import description, topics
from guard.data.sources.topics import Topic, Topics
from guard.errors import ConfigError, DataError


def rule(name, text="No pink."):
    return Rule("Sheds", name, text)


SHEDS = Topics(
    "sheds",
    {"noise": Topic(("Noise", "Drums"), ("music",)), "music": Topic(("Flutes",)), "looks": Topic(("Paint",))},
    ("Order", "No nothing."),
)


@pytest.mark.parametrize(
    ("one", "two", "unrelated"),
    [
        (rule("Noise"), rule("Paint"), True),
        (rule("Noise"), rule("Drums"), False),
        (rule("Noise"), rule("Flutes"), False),
        (rule("Noise"), rule("Order"), False),
        (rule("Noise"), rule("Paint", "No nothing."), False),
    ],
)
def test_unrelated_rules_are_of_topics_that_are_not_near(one, two, unrelated):
    assert SHEDS.unrelated(one, two) is SHEDS.unrelated(two, one) is unrelated


def test_a_rule_that_no_topic_lists_is_told_without_its_name():
    with pytest.raises(
        DataError, match=r"topics sheds: a rule of Sheds has a name \(6 characters\) that no topic lists"
    ):
        SHEDS.topic(rule("Canary"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{noise: {names: [Noise]}, looks: {names: [Noise]}}", "'Noise' is listed twice"),
        ("{noise: {names: [Noise], near: [music]}}", "no topic 'music'"),
    ],
)
def test_mistakes_in_a_file_are_told(tmp_path, text, message):
    path = tmp_path / "topics" / "sheds.yaml"
    path.parent.mkdir()
    path.write_text(f"name: sheds\ntopics: {text}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=re.escape(message)):
        topics.load("sheds", tmp_path)


@pytest.mark.parametrize("name", assets.names("taxonomy/topics", ".yaml"))
def test_shipped_topics_are_used_and_every_one_has_an_unrelated_one(name):
    found = topics.load(name)
    assert found.name == name
    assert name in {source.rule.topics for source in map(description.load, description.names()) if source.rule}
    rules = [rule(listed) for topic in found.topics.values() for listed in topic.names]
    assert all(any(found.unrelated(one, two) for two in rules) for one in rules)
