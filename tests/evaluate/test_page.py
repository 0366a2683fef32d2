"""The page of an evaluation: well-formed, whole without a network, true to the numbers, and silent about texts."""

import dataclasses
import json
import re
from functools import cache
from html.parser import HTMLParser

import pytest

from guard.cli import main
from guard.conversation import Conversation
from guard.engines.fake import FakeEngine
from guard.errors import DocumentError
from guard.evaluate import mistakes, report
from guard.evaluate.page import evaluation_page
from guard.evaluate.redteam import results
from guard.evaluate.suite import Case, Suite
from guard.moderator import Moderator
from guard.policy import load

MINIMAL = load("minimal")
VOID = {"meta", "br", "hr", "img", "link", "input"}
M1, M2, NONE = {"M1": True, "M2": False}, {"M1": False, "M2": True}, {"M1": False, "M2": False}


class Page(HTMLParser):
    """The elements of a page, which must close what it opens, and its tables by caption."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.ids, self.links, self.tables = [], [], [], [], {}
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        told = dict(attrs)
        assert len(told) == len(attrs), f"{tag} has an attribute twice"
        self.elements.append((tag, told))
        self.ids += [told["id"]] if "id" in told else []
        self.links += [told[key] for key in ("href", "src") if key in told]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.rows, self.caption = [], ""
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag == "table":
            self.tables[self.caption] = self.rows

    def handle_data(self, data):
        if "caption" in self.open:
            self.caption += data
        elif "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data


CASES = (
    Case(Conversation.of("violates:M1 canary"), "unsafe", M1, "<b>one", "row 1"),
    Case(Conversation.of("a canary that the engine misses " + "x" * 80), "unsafe", M1, "<b>one", "row 2"),
    Case(Conversation.of("bread canary"), "safe", NONE, "two", "row 3"),
    Case(Conversation.of("canary", "violates:M2 canary <script>"), "safe", NONE, "two", "row 4"),
    Case(Conversation.of("canary", "violates:M2"), "unsafe", M2, "two", "row 5", refusal=False),
)


@cache
def made(*names):
    return made_of(CASES, *names)


def made_of(cases, *names):
    moderator = Moderator(FakeEngine(), MINIMAL)
    judged, results = [], []
    for name in names:
        suite = Suite(name, f"A set {name}", "https://example.org/set", "CC0-1.0", "ab" * 32, cases, "Mind <this>.", 3)
        judged.append(report.EvaluatedSuite(suite, tuple(report.moderate_cases(moderator, cases))))
        results.append(report.measure(suite, judged[-1].verdicts, MINIMAL))
    return report.build_report(moderator.info, results, "guard eval <set>"), judged


@pytest.fixture(scope="module")
def text():
    return evaluation_page(*made("toxicchat", "_own"), results.AttackTable(("rows", "recall"), (("spaced", (9, 0.5)),)))


def test_the_page_is_well_formed_and_loads_nothing(text):
    page = Page(text)
    assert text.startswith("<!DOCTYPE html>")
    assert len(set(page.ids)) == len(page.ids)
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert not re.search(r"<script|<link|<iframe|@import|url\((?!#)|\ssrc=", text)
    for svg in (told for tag, told in page.elements if tag == "svg"):
        assert (svg["role"], bool(svg["aria-label"])) == ("img", True)
    assert [told for tag, told in page.elements if tag == "html"] == [{"lang": "en"}]
    for name in ("results", "published", "curves", "calibration", "categories", "lengths", "refusals", "evasion"):
        assert name in page.ids
    assert {"mistakes", "sets"} <= set(page.ids)


def test_it_shows_the_numbers_that_were_measured(text):
    page, (told, _) = Page(text), made("toxicchat", "_own")
    result = told["results"][0]
    overview = {row[0]: row[1:] for row in page.tables["All sets and their parts"]}
    assert overview["toxicchat"][:3] == ["5", "3", f"{result['f1']:.3f}"]
    assert overview["toxicchat: <b>one"][:3] == ["2", "2", ""]
    low, high = result["intervals"]["auroc"]
    assert page.tables["95 % bootstrap intervals"][1][5] == f"{low:.3f}–{high:.3f}"
    published = page.tables["Published F1"]
    assert published[1] == ["this guard, measured here", "", f"{result['f1']:.3f}"]
    assert ["Llama Guard 3 8B", "Qwen: Qwen3Guard technical report, tables 2 and 3", "0.538"] in published
    confusion = page.tables["Confusion by category of toxicchat"]
    assert confusion == [
        ["true", "M1", "M2", "safe"],
        ["M1", "1", "0", "1"],
        ["M2", "0", "1", "0"],
        ["safe", "0", "1", "1"],
    ]
    assert ["toxicchat", "64–127", "1", "0.000", "–"] in page.tables["Recall and false alarms by length"]
    assert page.tables["Attacks on the guard"] == [["attack", "rows", "recall"], ["spaced", "9", "0.500"]]
    assert ["toxicchat", "1", "0", "not scored", "–", "–", "–"] in page.tables[
        "Whether an answer refuses; a guard without p_refusal is not scored"
    ]
    assert page.tables["Sets"][1][:5] == ["toxicchat", "A set toxicchat (CC0-1.0)", "5", "3", "0"]
    assert "Mind &lt;this&gt;." in text


def test_the_worst_mistakes_have_their_rows_but_not_their_texts(text):
    page = Page(text)
    (miss,) = page.tables["Misses of toxicchat, the most confident first"][1:]
    assert (miss[0], miss[4], miss[5]) == ("row 2", "prompt", "112")
    (alarm,) = page.tables["False alarms of toxicchat, the most confident first"][1:]
    assert (alarm[0], alarm[3], alarm[4]) == ("row 4", "M2", "response")
    assert "canary" not in text
    assert "Show the text" not in text


@pytest.fixture(scope="module")
def shown():
    """Two sets of one name, with texts."""
    return evaluation_page(*made("own", "own"), show_text=True)


def test_texts_are_folded_away_and_escaped_where_they_are_wanted(shown):
    text = shown
    Page(text)
    assert "violates:M2 canary &lt;script&gt;" in text
    assert "<script" not in text
    assert "bread canary" not in text  # no mistake
    for place in (found.start() for found in re.finditer("canary", text)):
        assert text.rfind("<details>", 0, place) > text.rfind("</details>", 0, place)


def test_equal_inputs_give_equal_bytes(text):
    attacks = results.AttackTable(("rows", "recall"), (("spaced", (9, 0.5)),))
    assert evaluation_page(*made("toxicchat", "_own"), attacks) == text


def test_two_sets_of_one_name_are_told_apart(shown):
    page = Page(shown)
    assert {"own", "own (2)"} <= {row[0] for row in page.tables["All sets and their parts"]}


@pytest.mark.parametrize("label", ["safe", "unsafe"])
def test_a_set_of_one_class_has_no_curves(label):
    cases = tuple(dataclasses.replace(case, label=label, truth={}) for case in CASES)
    page = Page(evaluation_page(*made_of(cases, "own")))
    assert not {"curves", "calibration", "categories", "published", "evasion"} & set(page.ids)
    assert {"results", "lengths", "mistakes"} <= set(page.ids)


def test_the_worst_mistakes_come_first_and_are_bounded():
    moderator = Moderator(FakeEngine(), MINIMAL)
    cases = [Case(Conversation.of(f"violates:M1 {n}"), "safe", NONE) for n in range(9)]
    verdicts = report.moderate_cases(moderator, cases)
    verdicts = [dataclasses.replace(v, p_unsafe=0.5 + n / 20, threshold=0.6) for n, v in enumerate(verdicts)]
    found = mistakes.worst_mistakes(cases, verdicts, "safe", at_most=3)
    assert [(one.id, one.p) for one in found] == [("case 9", 0.9), ("case 8", 0.85), ("case 7", 0.8)]
    assert mistakes.worst_mistakes(cases, verdicts, "unsafe") == []
    assert len(mistakes.worst_mistakes(cases, verdicts, "safe")) == 7  # from the threshold on
    assert "violates" not in repr(found)


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    lines = [
        {"prompt": "violates:M1 canary", "label": "safe"},
        {"prompt": "canary missed", "label": "unsafe", "categories": ["M1"]},
        {"prompt": "bread", "label": "safe"},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(["eval", *map(str, arguments), "--model", "fake", "--policy", "minimal"])
    return int(ended.value.code or 0), capsys.readouterr()


def test_the_command_writes_the_page(capsys, rows, tmp_path):
    attacks = tmp_path / "attacks.json"
    attacks.write_text(json.dumps({"attacks": [{"name": "spaced", "rows": 3, "text": "canary"}]}), encoding="utf-8")
    page = tmp_path / "page.html"
    code, told = run(capsys, rows, "--html", page, "--evasion", attacks)
    assert (code, told.err) == (0, "")
    text = page.read_text(encoding="utf-8")
    assert Page(text).tables["Attacks on the guard"][1] == ["spaced", "3"]
    assert "labelled row 2" in text
    assert "canary" not in text + told.out
    code, _ = run(capsys, rows, "--html", page, "--show-text")
    assert code == 0
    assert "canary missed" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--show-text"], "add --html"),
        (["--html", "no/folder/page.html"], "there is no folder"),
        (["--html", "."], "is a folder; give the name of a file"),
        (["--html", "page.html", "--evasion", "nothing.json"], "nothing.json: cannot be read"),
    ],
)
def test_a_page_that_cannot_be_ends_with_2(capsys, rows, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    code, told = run(capsys, rows, *options)
    assert code == 2
    assert message in told.err


@pytest.mark.parametrize(
    "data",
    [
        "canary",
        "[]",
        '{"attacks": []}',
        '{"attacks": ["canary"]}',
        '{"attacks": [{"rows": 1}]}',
        '{"attacks": [{"name": ""}]}',
    ],
)
def test_results_of_attacks_in_another_form_are_refused(tmp_path, data):
    path = tmp_path / "attacks.json"
    path.write_text(data, encoding="utf-8")
    with pytest.raises(DocumentError, match=r"attacks\.json") as caught:
        results.load(path, "m")
    assert "canary" not in str(caught.value)


def test_results_of_attacks_may_lack_numbers(tmp_path):
    path = tmp_path / "attacks.json"
    rows = [{"name": "one", "rows": 3, "done": True}, {"name": "two", "recall": 0.5}]
    path.write_text(json.dumps({"attacks": rows}), encoding="utf-8")
    assert results.load(path, "m") == results.AttackTable(
        ("rows", "recall"), (("one", (3, None)), ("two", (None, 0.5)))
    )


def test_results_of_a_redteam_report_are_those_of_the_guard(tmp_path):
    def guard(model, success):
        texts = [{"row": 1, "text": "canary"}]
        return {"model": model, "attacks": [{"name": "one", "fixed": {"success": success}, "texts": texts}]}

    path = tmp_path / "attacks.json"
    path.write_text(json.dumps({"guards": [guard("a" * 64, 0.1), guard("b" * 64, 0.2)]}), encoding="utf-8")
    assert results.load(path, "b" * 64) == results.AttackTable(("fixed success",), (("one", (0.2,)),))
    with pytest.raises(DocumentError, match="is about other guards than cccc"):
        results.load(path, "c" * 64)


def test_a_set_has_one_colour_in_every_plot():
    told, judged = made_of(CASES, "first", "second")
    only_unsafe = tuple(dataclasses.replace(case, label="unsafe") for case in CASES)
    (other,) = made_of(only_unsafe, "first")[1]
    told["results"][0] = report.measure(other.suite, other.verdicts, MINIMAL)
    text = evaluation_page(told, [other, judged[1]])
    blue, orange = "#3d85c6", "#d9662b"
    plots = {
        name: re.search(rf'<section id="{name}">.*?</section>', text, re.DOTALL)[0] for name in ("curves", "lengths")
    }
    assert orange in plots["curves"]
    assert blue not in plots["curves"]  # the first set has no curves
    assert {colour for colour in (blue, orange) if colour in plots["lengths"]} == {blue, orange}
