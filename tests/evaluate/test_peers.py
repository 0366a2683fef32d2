"""Published scores: where they come from, and that they stay apart from what is measured."""

import pytest

from guard import schema
from guard.conversation import Conversation
from guard.engines.fake import FakeEngine
from guard.errors import ConfigError
from guard.evaluate import peers, report
from guard.evaluate.benchmarks import BENCHMARKS
from guard.evaluate.suite import Case, Suite
from guard.moderator import Moderator
from guard.policy import load

MINIMAL = load("minimal")


def told(*names, unsafe_only=False):
    moderator = Moderator(FakeEngine(), MINIMAL)
    rows = [("violates:M1 canary", "unsafe"), ("missed", "unsafe"), ("hello", "safe")][: 2 if unsafe_only else 3]
    cases = tuple(Case(Conversation.of(text), label, {}) for text, label in rows)
    verdicts = report.moderate_cases(moderator, cases)
    results = [report.measure(Suite(name, name, "", "", "", cases), verdicts, MINIMAL) for name in names]
    return report.build_report(moderator.info, results, "guard eval")


def test_a_published_score_has_its_source():
    found = peers.published(list(BENCHMARKS))
    (score,) = [
        score
        for score in found
        if (score.benchmark, score.model, score.run_by, score.metric) == ("toxicchat", "Llama Guard 3 8B", "Qwen", "f1")
    ]
    assert score.value == 0.538
    assert score.url == "https://arxiv.org/abs/2510.14276"
    assert all(score.source and score.run_by and score.url.startswith("https://") for score in found)
    assert all(0 <= score.value <= 1 for score in found)
    assert len({(s.benchmark, s.model, s.metric, s.source) for s in found}) == len(found)


def test_only_the_sets_of_the_report_are_compared():
    made = told("saferlhf", "my.jsonl")
    assert {score["benchmark"] for score in made["peers"]} == {"saferlhf"}
    (comparison,) = peers.compare(made)
    assert comparison.benchmarks == ("saferlhf",)
    assert comparison.ours == (made["results"][0]["f1"],)
    assert ("MD-Judge 7B", "Allen Institute for AI", "WildGuard paper, tables 3 and 4", (0.647,)) in comparison.rows
    assert all("MD-Judge" not in str(result) for result in made["results"])
    assert peers.compare(told("my.jsonl")) == []


def test_a_model_without_a_score_on_a_set_has_none_there():
    comparison = peers.compare(told("toxicchat", "xstest_response"))[0]
    rows = {(model, run_by): values for model, run_by, _, values in comparison.rows}
    assert rows["MD-Judge 7B", "Allen Institute for AI"] == (None, 0.904)
    assert rows["Llama Guard 3 8B", "IBM"] == (0.542, 0.904)


def test_sets_without_safe_rows_are_compared_as_published():
    (comparison,) = peers.compare(told("simplesafetytests", unsafe_only=True))
    # A recall of 1/2 with a precision of 1 is an F1 of 2/3.
    assert comparison.ours == (pytest.approx(2 / 3, abs=1e-6),)


def test_a_report_that_was_written_before_has_no_peers():
    made = told("toxicchat")
    del made["peers"]
    assert peers.compare(made) == []


GOOD = """\
source: A paper
url: https://example.org
run_by: Its authors
evidence: primary
tables:
  - metric: f1
    benchmarks: [toxicchat, xstest_response]
    models: {A guard: [50, null]}
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[50, null]", "[50]", "has 1 values for 2 benchmarks"),
        ("[50, null]", "[50, 101]", "not a percentage"),
        ("toxicchat", "toxikchat", "no benchmark 'toxikchat'"),
        ("f1", "f2", "metric"),
        ("primary", "hearsay", "evidence"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path, old, new, message):
    path = tmp_path / "peers.yaml"
    path.write_text(GOOD, encoding="utf-8")
    assert [score.value for score in peers.scores(schema.load(path, peers.Publication, ConfigError))] == [0.5]
    path.write_text(GOOD.replace(old, new), encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        schema.load(path, peers.Publication, ConfigError)
