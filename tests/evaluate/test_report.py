"""The report: its numbers by hand, from the fake engine's verdicts."""

import dataclasses
import io
import json
from functools import cache

import pytest
from rich.console import Console

from guard.calibration import Calibration, TargetCalibration, Thresholds
from guard.conversation import Conversation
from guard.engines.fake import FakeEngine
from guard.evaluate import report
from guard.evaluate.suite import Case, Suite
from guard.moderator import Moderator
from guard.policy import load
from guard.verdict import Outcome

MINIMAL = load("minimal")
MODERATOR = Moderator(FakeEngine(), MINIMAL)
M1, M2, NONE = {"M1": True, "M2": False}, {"M1": False, "M2": True}, {"M1": False, "M2": False}


def case(text, label, truth, subset, response=None):
    return Case(Conversation.of(text, response), label, truth, subset)


CASES = (
    case("violates:M1 canary", "unsafe", M1, "[red]one"),
    case("a threat that the engine misses", "unsafe", M1, "[red]one"),
    case("violates:M2 canary", "unsafe", {}, "[red]one"),
    case("bread", "safe", NONE, "two"),
    case("butter", "safe", NONE, "two"),
    case("hello", "safe", NONE, "two", response="violates:M2 canary"),
    case("hello", "unsafe", M2, "two", response="violates:M2 here, too"),
)


def measured(cases=CASES, moderator=MODERATOR):
    suite = Suite("set", "A set", "https://example.org/set", "CC0-1.0", "ab" * 32, tuple(cases))
    return report.measure(suite, report.moderate_cases(moderator, cases), moderator.policy)


@cache
def whole():
    """CASES, measured; its bootstrap takes most of the time here."""
    return measured()


def test_the_numbers_of_a_set():
    result = whole()
    assert (result["rows"], result["unsafe"], result["incomplete"]) == (7, 4, 0)
    assert result["confusion"] == {"tp": 3, "fp": 1, "tn": 2, "fn": 1}
    assert (result["precision"], result["recall"], result["fpr"]) == (0.75, 0.75, pytest.approx(1 / 3, abs=1e-6))
    assert result["f1"] == 0.75
    low, high = result["f1_interval"]
    assert low < 0.75 < high
    assert result["f1"] <= result["best_f1"] <= 1
    assert 0 < result["ece"] < 1


def test_the_numbers_of_its_parts():
    result = whole()
    assert list(result["targets"]) == ["prompt", "response"]
    assert result["targets"]["response"]["confusion"] == {"tp": 1, "fp": 1, "tn": 0, "fn": 0}
    one = result["subsets"]["[red]one"]
    assert (one["rows"], one["recall"]) == (3, pytest.approx(2 / 3, abs=1e-6))
    assert [one[key] for key in ("f1", "f1_interval", "best_f1", "auprc", "auroc", "fpr", "tpr_at_1_fpr", "ece")] == [
        None
    ] * 8


def test_the_numbers_of_its_categories():
    found = whole()["categories"]
    assert set(found) == {"M1", "M2"}
    assert (found["M1"]["rows"], found["M1"]["known"], found["M1"]["recall"], found["M1"]["named"]) == (2, 6, 0.5, 0.5)
    # The unsafe row of unknown category takes no part; of the six others the engine's two M2 texts rank first.
    assert (found["M2"]["rows"], found["M2"]["known"], found["M2"]["named"]) == (1, 6, 1.0)
    assert (found["M2"]["auprc"], found["M2"]["auroc"]) == (0.5, 0.9)


def test_a_set_with_one_part_does_not_repeat_itself():
    result = measured([dataclasses.replace(case, subset="") for case in CASES[:5]])
    assert result["targets"] == result["subsets"] == {}


def test_a_row_is_flagged_at_the_threshold_of_its_own_target_and_mode():
    responses = TargetCalibration(thresholds=Thresholds(strict=0.5, balanced=0.5, permissive=0.999))
    moderator = Moderator(FakeEngine(), MINIMAL, Calibration(response=responses), mode="permissive")
    result = measured(moderator=moderator)
    assert result["targets"]["prompt"]["confusion"] == whole()["targets"]["prompt"]["confusion"]
    assert result["targets"]["response"]["confusion"] == {"tp": 0, "fp": 0, "tn": 1, "fn": 1}
    told = report.build_report(moderator.info, [result], "guard eval")
    assert told["mode"] == "permissive"
    assert told["thresholds"]["prompt"] == {"unsafe": 0.5, "categories": {"M1": 0.5, "M2": 0.5}}
    assert told["thresholds"]["response"]["unsafe"] == 0.999


def test_rows_that_could_not_be_read_whole_are_counted():
    verdicts = report.moderate_cases(MODERATOR, CASES)
    verdicts[3] = dataclasses.replace(verdicts[3], outcome=Outcome.INCOMPLETE)
    assert report.measure(Suite("set", "", "", "", "", CASES), verdicts, MINIMAL)["incomplete"] == 1


def test_every_case_gets_its_verdict_over_many_chunks():
    cases = [case(f"text {n}" + " violates:M1" * (n % 3 == 0), "safe", NONE, "") for n in range(1200)]
    steps = []
    verdicts = report.moderate_cases(MODERATOR, cases, steps.append)
    assert sum(steps) == 1200
    assert len(steps) == 3
    assert [n for n, verdict in enumerate(verdicts) if verdict.outcome is Outcome.UNSAFE] == list(range(0, 1200, 3))


def test_the_report_names_what_was_measured_and_holds_no_text():
    told = report.build_report(MODERATOR.info, [whole()], "guard eval set")
    assert told["model"] == FakeEngine.info.digest
    assert told["policy"] == {"id": "minimal", "version": "1", "digest": MINIMAL.digest}
    assert told["command"] == "guard eval set"
    assert "canary" not in json.dumps(told)
    assert json.loads(json.dumps(told)) == told


def test_tables_show_every_part_and_no_markup():
    told = report.build_report(MODERATOR.info, [whole()], "guard eval set")
    console = Console(file=io.StringIO(), width=160)
    for table in report.tables(told):
        console.print(table)
    lines = [line.split() for line in console.file.getvalue().splitlines() if line.strip()]
    assert ["set", "7", "4", "0.750"] in [line[:4] for line in lines]
    assert ["[red]one", "3", "3", "–"] in [line[:4] for line in lines]
    assert ["M2", "1", "1.000", "1.000", "6", "0.500", "0.900"] in lines


def test_intervals_hold_their_values():
    result = whole()
    assert result["intervals"]["f1"] == result["f1_interval"]
    for key in ("f1", "fpr", "recall", "auprc", "auroc"):
        low, high = result["intervals"][key]
        assert low <= result[key] <= high
    one = result["subsets"]["[red]one"]["intervals"]
    assert one["f1"] is one["fpr"] is one["auprc"] is None
    assert one["recall"][0] < 2 / 3 < one["recall"][1]


def test_what_rows_of_a_category_are_taken_for():
    # Of the two M1 rows one is missed; the safe response is taken for M2; the row of unknown category is not counted.
    assert whole()["named"] == {"M1": {"M1": 1, "safe": 1}, "M2": {"M2": 1}, "safe": {"M2": 1, "safe": 2}}


def test_recall_by_length():
    ranges = measured([case("violates:M1", "unsafe", M1, ""), case("x" * 100, "unsafe", M1, ""), CASES[3]])["lengths"]
    assert [(part["low"], part["high"], part["recall"], part["fpr"]) for part in ranges] == [
        (0, 32, 1.0, 0.0),
        (64, 128, 0.0, None),
    ]
    assert ranges[0]["confusion"] == {"tp": 1, "fp": 0, "tn": 1, "fn": 0}


def test_reliability_counts_every_row():
    bins = whole()["reliability"]
    assert sum(part["rows"] for part in bins) == len(CASES)
    assert sum(part["rows"] * part["unsafe"] for part in bins) == pytest.approx(4)


def test_refusals_are_scored_only_where_the_guard_gives_them():
    assert whole()["refusal"] is None
    cases = [dataclasses.replace(case, refusal=place % 2 == 0) for place, case in enumerate(CASES)]
    suite = Suite("set", "A set", "", "", "", tuple(cases))
    verdicts = report.moderate_cases(MODERATOR, cases)
    none = report.measure(suite, verdicts, MINIMAL)["refusal"]
    assert (none["rows"], none["refusals"], none["scored"], none["f1"], none["auroc"]) == (7, 4, 0, None, None)
    sure = [dataclasses.replace(v, p_refusal=0.9 if c.refusal else 0.1) for v, c in zip(verdicts, cases, strict=True)]
    scored = report.measure(suite, sure, MINIMAL)["refusal"]
    assert (scored["scored"], scored["f1"], scored["auprc"]) == (7, 1.0, 1.0)


def test_many_published_sets_are_told_in_several_tables():
    names = ("toxicchat", "openai_moderation", "aegis1", "aegis2_prompt", "wildguardtest_prompt", "xstest_response")
    result = whole()
    told = report.build_report(MODERATOR.info, [result | {"name": name} for name in names], "guard eval")
    console = Console(file=io.StringIO(), width=160)
    for table in report.tables(told):
        console.print(table)
    text = console.file.getvalue()
    assert "…" not in text
    assert text.count("this guard, measured here") > text.count("published F1 of refusals") + 4
    assert ["GPT-4", "0.913", "Allen", "Institute", "for", "AI"] in [line.split() for line in text.splitlines()]
