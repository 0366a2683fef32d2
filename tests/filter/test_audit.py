"""guard.filter.audit: samples, forms and estimates, against data whose labels are known."""

from __future__ import annotations

import csv
import json
import random
import stat
from collections import Counter
from pathlib import Path

import pytest

from guard.cli import main
from guard.errors import DataError
from guard.filter.audit import folder as audit_folder
from guard.filter.audit import sample
from guard.filter.audit.estimate import estimate
from guard.filter.audit.labels import COLUMNS, Label, read_labels, write_form
from guard.filter.audit.page import page
from guard.filter.audit.sample import Sampled, Stratum
from guard.filter.audit.training_rows import training_rows
from guard.filter.columns import parse_columns
from guard.filter.inputs import Source
from guard.filter.job import Job
from guard.filter.run import filter_rows
from guard.moderator import open_moderator


def row(id: int, outcome: str, p: float, text: str = "", flagged: tuple[str, ...] = ()) -> Sampled:
    return Sampled(id, "a.jsonl", id, outcome, min(int(p * 10), 9), p, flagged, [["user", text or f"text {id}"]])


@pytest.fixture
def scored(tmp_path) -> Source:
    rows = [{"prompt": f"violates:M1 {n}" if n % 20 == 0 else f"=text {n} <b>"} for n in range(400)]
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"prompt": ""}]))
    out = tmp_path / "scored.jsonl"
    filter_rows(Job([path], out, tmp_path / "q", annotate=True), open_moderator("fake", "minimal"))
    return Source(out, Path(out.name))


def test_each_stratum_has_its_share_and_all_rows_are_counted(scored):
    drawn, strata = sample.draw([scored], parse_columns(""), 30)
    assert [(each.outcome, each.rows) for each in strata] == [("SAFE", 380), ("UNSAFE", 20)]
    assert Counter(each.outcome for each in drawn) == {"SAFE": 15, "UNSAFE": 15}
    assert [each.id for each in drawn] == list(range(1, 31))
    assert drawn == sample.draw([scored], parse_columns(""), 30)[0]
    assert drawn != sample.draw([scored], parse_columns(""), 30, seed=1)[0]
    everything, _ = sample.draw([scored], parse_columns(""), 1000)
    assert len({each.line for each in everything}) == 400
    assert {each.messages[0][1] for each in drawn if each.outcome == "UNSAFE"} <= {
        f"violates:M1 {n}" for n in range(0, 400, 20)
    }


def test_rows_that_were_not_scored_are_an_error(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text('{"prompt": "x"}\n')
    with pytest.raises(DataError, match="write them with `guard filter --annotate`"):
        sample.draw([Source(path, Path("in.jsonl"))], parse_columns(""), 5)


def test_estimates_hold_for_known_labels_as_often_as_they_claim():
    """Of data with known precision and recall, 200 samples of 120 rows: the intervals cover at least 90 %."""
    random.seed(5)
    population = []
    for _ in range(20_000):
        p = random.betavariate(0.3, 2)
        population.append(("UNSAFE" if p >= 0.5 else "SAFE", p, random.random() < p))
    true = {
        "precision": [label for outcome, _, label in population if outcome == "UNSAFE"],
        "recall": [outcome == "UNSAFE" for outcome, _, label in population if label],
        "unsafe_share": [label for _, _, label in population],
    }
    sizes = Counter((outcome, min(int(p * 10), 9)) for outcome, p, _ in population)
    strata = [Stratum(*name, rows) for name, rows in sizes.items()]
    members: dict[tuple[str, int], list[tuple[float, bool]]] = {}
    for outcome, p, label in population:
        members.setdefault((outcome, min(int(p * 10), 9)), []).append((p, label))
    covered: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    rounds = 200
    for seed in range(rounds):
        drawn, labels = [], {}
        for (outcome, _), rows in members.items():
            for p, label in random.sample(rows, 12):
                drawn.append(row(len(drawn) + 1, outcome, p))
                labels[len(drawn)] = Label("unsafe" if label else "safe", None)
        made = estimate(drawn, strata, labels, seed)
        for name, values in true.items():
            expected = sum(values) / len(values)
            covered[name] += made[name].low <= expected <= made[name].high
            errors[name] += made[name].value - expected
    for name in true:
        assert covered[name] >= 0.9 * rounds, name
        assert abs(errors[name] / rounds) < 0.02, name


def test_estimates_of_few_labels():
    strata = [Stratum("SAFE", 0, 90), Stratum("SAFE", 3, 5), Stratum("UNSAFE", 9, 5)]
    drawn = [row(1, "SAFE", 0.01), row(2, "UNSAFE", 0.95), row(3, "SAFE", 0.02)]
    with pytest.raises(DataError, match="no row of the outcome SAFE has a label, though 90 rows"):
        estimate(drawn, strata, {2: Label("unsafe", None)})
    made = estimate(drawn, strata, {1: Label("safe", None), 2: Label("unsafe", None)})
    assert (made["precision"].value, made["recall"].value) == (1, 1)
    assert made["recall"].low < 0.5 < made["recall"].high
    none = estimate(drawn, strata, {1: Label("safe", None), 2: Label("safe", None)})
    assert none["recall"].value is None


def test_the_form_comes_back_as_it_was_filled_in(tmp_path):
    drawn = [row(n, "SAFE", 0.1, text='=1+1,"two"\nlines') for n in (1, 2, 3)]
    path = tmp_path / "labels.csv"
    write_form(path, drawn)
    with path.open(encoding="utf-8-sig", newline="") as file:
        form = list(csv.DictReader(file))
    assert form[0]["text"].startswith("[user] =1+1")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    form[0] |= {"label": " Unsafe", "categories": "S1; S2"}
    form[2] |= {"label": "safe"}
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(form)
    assert read_labels(path, [1, 2, 3]) == {1: Label("unsafe", ("S1", "S2")), 3: Label("safe", None)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n", "has no columns id and label"),
        ("id,label\n1,maybe\n", "line 2: a label must be safe, unsafe, or empty"),
        ("id,label\n9,safe\n", "line 2: no row of the sample has this id"),
        ("id,label\n1,safe\n1,safe\n", "line 3: the row has a label already"),
        (b"\xff\xfe\x00", "not a CSV file in UTF-8"),
        (None, "cannot be read: No such file"),
    ],
)
def test_forms_that_cannot_be_read_say_why(content, message, tmp_path):
    path = tmp_path / "labels.csv"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message):
        read_labels(path, [1])


def test_no_text_becomes_markup_of_the_page():
    made = page([row(1, "SAFE", 0.123456, text="</script><script>alert(1)</script>")], {"S1": "<i>"})
    assert made.count("<script") == 3
    assert "<i>" not in made
    assert "0.123" not in made
    data = made.split('type="application/json">')[1].split("</script>")[0]
    assert json.loads(data)[0]["messages"][0][1] == "</script><script>alert(1)</script>"


def test_training_rows_are_the_least_sure_and_unlike():
    drawn = [
        row(1, "SAFE", 0.01, "one two three four"),
        row(2, "SAFE", 0.45, "five six seven eight"),
        row(3, "SAFE", 0.44, "five six seven eight"),
        row(4, "SAFE", 0.02, "nine ten eleven twelve"),
        row(5, "UNSAFE", 0.9, "not labelled at all"),
    ]
    labels = {n: Label("safe", None) for n in (1, 2, 3)} | {4: Label("unsafe", ("S1",))}
    made = list(training_rows(drawn, labels))
    assert [each["messages"][0]["content"].split()[0] for each in made] == ["nine", "five", "one"]
    assert made[0]["label"] == "unsafe"
    assert made[0]["categories"] == ["S1"]
    assert len(list(training_rows(drawn, labels, 1))) == 1


def test_the_commands_from_scores_to_training_data(scored, tmp_path, capsys):
    folder = tmp_path / "audit"

    def run(*arguments: object) -> int:
        with pytest.raises(SystemExit) as end:
            main(list(map(str, arguments)))
        return end.value.code

    assert run("audit", "draw", scored.path, folder, "--rows", 20, "--policy", "minimal") == 0
    assert run("audit", "draw", scored.path, folder) == 2
    assert sorted(path.name for path in folder.iterdir()) == ["labels.csv", "page.html", "sample.json"]
    drawn, _ = audit_folder.read(folder)
    (folder / "labels.csv").write_text(
        "id,label,categories\n" + "".join(f"{each.id},{each.outcome.lower()},\n" for each in drawn)
    )
    capsys.readouterr()
    assert run("audit", "estimate", folder, "--json") == 0
    made = json.loads(capsys.readouterr().out)
    assert (made["labelled"], made["rows"], made["precision"]["value"], made["recall"]["value"]) == (20, 400, 1, 1)
    assert made["unsafe_share"]["value"] == pytest.approx(0.05)
    assert run("audit", "estimate", folder) == 0
    assert run("data", "from-filter", folder, tmp_path / "rows.jsonl", "--rows", 5) == 0
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert len(rows) == 5
    assert set(rows[0]) == {"messages", "label"}
