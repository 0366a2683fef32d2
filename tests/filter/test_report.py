"""guard.filter.report: the page of a run, with its examples folded away."""

from __future__ import annotations

import json
import stat

import pytest

from guard.filter.job import Job
from guard.filter.report import page
from guard.filter.run import filter_rows
from guard.moderator import open_moderator


def test_the_page_shows_rates_by_a_column_and_hides_examples(tmp_path):
    pytest.importorskip("matplotlib")
    source = tmp_path / "a.jsonl"
    rows = [{"prompt": f"violates:M1 {n} <b>" if n % 4 == 0 else f"text {n}", "src": f"s{n % 2}"} for n in range(40)]
    source.write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"src": "s0"}]))
    job = Job([source], tmp_path / "k.jsonl", tmp_path / "q", by="src")
    filter_rows(job, open_moderator("fake", "minimal"), page=lambda *made: page(*made, {"M1": "First"}))
    made = job.page.read_text()
    report = json.loads(job.report.read_text())
    assert (report["groups"], report["groups_flagged"]) == ({"s0": 20, "s1": 20}, {"s0": 10})
    assert sum(report["scores"].values()) == sum(report["lengths"].values()) == 40
    for told in ("41 rows read", "M1 First", "10 of 20", "the row has no value for"):
        assert told in made
    hidden = made.split("<details><summary>Show 3 texts, which may disturb</summary>")[1].split("</details>")[0]
    assert hidden.count("violates:M1") == made.count("violates:M1") == 3
    assert "&lt;b&gt;" in hidden
    assert stat.S_IMODE(job.page.stat().st_mode) == 0o600


def test_a_run_of_no_rows_has_a_page(tmp_path):
    (tmp_path / "a.jsonl").write_text("")
    job = Job([tmp_path / "a.jsonl"], tmp_path / "k.jsonl", tmp_path / "q")
    filter_rows(job, open_moderator("fake", "minimal"), page=lambda *made: page(*made, {}))
    assert "0 rows read" in job.page.read_text()


def test_languages_are_counted_where_the_text_is_long_enough(tmp_path):
    pytest.importorskip("py3langid")
    texts = ["Guten Tag, ich möchte morgen gern mit dem Zug nach Hamburg fahren und dort bleiben.", "hi"]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
    tally = filter_rows(Job([tmp_path / "a.jsonl"], tmp_path / "k.jsonl", tmp_path / "q"), open_moderator("fake"))
    assert tally.languages == {"de": 1, "unsure": 1}
