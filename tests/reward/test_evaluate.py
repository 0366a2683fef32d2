"""Evaluation of reward models: known numbers on made-up results, and the command on real files."""

import dataclasses
import json
import sqlite3
import subprocess
import sys
from contextlib import closing

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from guard import cli
from guard.conversation import Message
from guard.errors import DataError, InvalidInput
from guard.jobs.cache import Cache
from guard.metrics.intervals import wilson
from guard.reward.baselines import length_scorer
from guard.reward.cached import CachedReader, cached
from guard.reward.evaluate import rewardbench
from guard.reward.evaluate.report import against, report, spearman, track
from guard.reward.evaluate.results import GroupResults, repeat_seeds, repeat_spread, run, score_pairs, unseen
from guard.reward.fake import FakeReader, fake_scorer
from guard.reward.row import parse_row
from guard.reward.shapes import canonical

TURNS = [{"role": "user", "content": "P"}]
WORDS = ("good good", "good", "fine", "bad")


def pair(number, chosen, rejected, subset=""):
    row = {"id": str(number), "prompt": f"Why {number}?", "chosen": chosen, "rejected": rejected, "subset": subset}
    return parse_row(row)


ROWS = [
    pair(1, "good", "fine", "donotanswer"),
    pair(2, "bad", "good good", "donotanswer"),
    pair(3, "fine", "fair", "hep-go"),  # a tie
    pair(4, "good good", "bad, and it is long", "hep-go"),
]


def test_accuracy_by_subset_section_and_tie_rule():
    told = report(fake_scorer(), run(fake_scorer(), ROWS))
    assert told["accuracy_by_tie_rule"] == {"scalar": 0.5, "generative": 0.625}
    assert told["accuracy"]["value"] == 0.5  # a scalar model gets nothing for a tie
    assert told["by_subset"]["donotanswer"]["value"] == 0.5
    assert told["sections"] == {"Safety": 0.5, "Reasoning": 0.5}
    assert told["chosen"]["median"] == 0.5
    assert told["length"]["shorter_is_better"] == 0.5
    assert "longer_is_better" in told["length"]
    pairwise = fake_scorer(FakeReader(True, 0.5))
    told = report(pairwise, run(pairwise, ROWS))
    assert told["accuracy"]["value"] == 0.625
    assert told["position"]["consistent"] == 0.75
    assert told["position"]["prefers_first"] == pytest.approx(5 / 8)


def test_sections_are_weighted_by_the_rows_of_their_subsets():
    every = dict.fromkeys(rewardbench.COUNTS, 1.0) | {"math-prm": 0.0}
    assert sum(rewardbench.COUNTS[name] for name in rewardbench.SECTIONS["Reasoning"]) == 984 + 6 * 164
    assert rewardbench.sections(every) == {
        "Chat": 1.0,
        "Chat Hard": 1.0,
        "Safety": 1.0,
        "Reasoning": 0.5,
        "total": 0.875,
    }


def test_best_of_n_and_ties():
    def group(name, *scores, right=1):
        return GroupResults(name, "", scores, tuple(place < right for place in range(len(scores))))

    assert rewardbench.best_of([group("1", 3, 1, 2), group("2", 1, 3, 2), group("3", 2, 2, 0)]) == 0.5
    tied = [group("tied:1", 5.0, 4.5, 1.0, right=2), group("tied:2", 5.0, 1.0, 0.5, right=2)]
    ref = [group("ref:1", 5.0, 1.0), group("ref:2", 0.0, 1.0)]
    # Both tied prompts are right, one reference; only the first one's right answers are nearer to one another.
    assert rewardbench.ties(tied + ref) == pytest.approx(0.3 + 0.15 + 0.1 + 0.1)
    assert rewardbench.ties(ref) is None


def test_two_scorers_are_compared_pair_by_pair():
    good, long = score_pairs(fake_scorer(), ROWS), score_pairs(length_scorer(), ROWS)
    told = against(good, long)
    assert told["difference"] == pytest.approx(0.625 - 0.25)
    assert told["interval"][0] <= told["difference"] <= told["interval"][1]
    assert against(good, good) == {"difference": 0.0, "interval": [0.0, 0.0], "agreement": 1.0}


def test_checkpoints_that_got_worse_are_marked():
    right = [pair(number, "good", "bad") for number in range(60)]
    wrong = [pair(number, "bad", "good") for number in range(60)]
    runs = {
        "step-1": score_pairs(fake_scorer(), [*right[:40], *wrong[40:]]),
        "step-2": score_pairs(fake_scorer(), right),
        "step-3": score_pairs(fake_scorer(), [*right[:59], *wrong[59:]]),
        "step-4": score_pairs(fake_scorer(), [*wrong[:30], *right[30:]]),
    }
    assert [row["mark"] for row in track(runs)] == ["", "best", "", "DEGRADED"]


@given(st.integers(0, 50), st.integers(0, 50))
def test_wilson_holds_the_share(right, wrong):
    low, high = wilson(right, right + wrong)
    assert 0 <= low <= high <= 1
    if right + wrong:
        assert low - 1e-12 <= right / (right + wrong) <= high + 1e-12


def test_spearman_gives_ties_their_mean_rank():
    assert spearman(np.array([1.0, 2, 3]), np.array([1.0, 4, 9])) == pytest.approx(1)
    assert spearman(np.array([1.0, 1, 2]), np.array([1.0, 2, 3])) == pytest.approx(3**0.5 / 2)
    assert spearman(np.array([1.0, 1]), np.array([1.0, 2])) is None


def test_scores_are_cached_by_fingerprint_and_shared(tmp_path):
    class Counting(FakeReader):
        asked = 0

        def singles(self, asked):
            Counting.asked += len(asked)
            return super().singles(asked)

    file = Cache(tmp_path / "scores.sqlite")
    scorer = cached(fake_scorer(Counting()), file)
    first = score_pairs(scorer, ROWS)
    again = score_pairs(cached(fake_scorer(Counting()), Cache(tmp_path / "scores.sqlite")), ROWS)
    assert Counting.asked == 8
    assert (first.difference == again.difference).all()
    assert cached(fake_scorer(), None).reader == FakeReader()


PROMPT, OTHER = (Message("user", "Why?"),), (Message("user", "How?"),)


def test_the_key_of_a_reading_holds_everything_that_changes_it(tmp_path):
    file = Cache(tmp_path / "scores.sqlite")
    readers = [
        CachedReader(reader, file, print)
        for reader, print in (
            (FakeReader(), "one"),
            (FakeReader(), "two"),
            (FakeReader().seeded(5), "one/seed 5"),
            (FakeReader(True), "one"),
        )
    ]
    assert readers[0].seeded(5)._key((PROMPT, "a")) == readers[2]._key((PROMPT, "a"))
    asked = [
        *((PROMPT, "a"), (PROMPT, "b"), (OTHER, "a"), (PROMPT, "a", "b"), (PROMPT, "b", "a"), (PROMPT, "a", "c")),
        ((Message("system", "Why?"),), "a"),
        ((*PROMPT, Message("assistant", "b"), *OTHER), "a"),
    ]
    keys = [reader._key(each) for reader in readers for each in asked]
    assert len({*keys}) == len(keys)


WRITER = """
import sys
from pathlib import Path
from guard.jobs.cache import Cache
from guard.reward.cached import cached
from guard.reward.fake import fake_scorer
scorer = cached(fake_scorer(), Cache(Path(sys.argv[1])))
for number in range(20):
    scorer.score_many([(f"{number}?", "good"), (f"{sys.argv[2]} {number}?", "bad")])
"""


def test_writers_at_once_lose_nothing(tmp_path):
    path = tmp_path / "scores.sqlite"
    processes = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(worker)]) for worker in range(2)]
    assert [process.wait() for process in processes] == [0, 0]

    class Silent(FakeReader):
        def singles(self, asked):
            raise AssertionError(f"{len(asked)} readings are lost")

    scorer = cached(fake_scorer(Silent()), Cache(path))
    for worker in range(2):
        found = scorer.score_many([(f"{worker} {number}?", "bad") for number in range(20)])
        assert {each.raw for each in found} == {-1.0}


def test_a_killed_evaluation_keeps_what_it_scored(tmp_path):
    class Dying(FakeReader):
        left = 100

        def singles(self, asked):
            Dying.left -= len(asked)
            if Dying.left < 0:
                raise KeyboardInterrupt
            return super().singles(asked)

    many = [(f"{number}?", "good") for number in range(300)]
    with pytest.raises(KeyboardInterrupt):
        cached(fake_scorer(Dying()), Cache(tmp_path / "scores.sqlite")).score_many(many)
    with closing(sqlite3.connect(tmp_path / "scores.sqlite")) as connection:
        assert connection.execute("SELECT count(*) FROM entries").fetchone()[0] == 64


def test_every_repetition_has_a_seed_of_its_own():
    rows = [pair(number, "good", "fine") for number in range(20)]
    seeds = repeat_seeds(3)
    assert len({*seeds}) == 3
    assert repeat_spread(fake_scorer(), rows, seeds) == (pytest.approx(0), 0)
    spread, flips = repeat_spread(fake_scorer(FakeReader(True, noise=3.0)), rows, seeds)
    assert spread > 0.05
    assert flips > 0
    assert fake_scorer().seeded(1).info.fingerprint != fake_scorer().seeded(2).info.fingerprint


def test_rows_that_a_model_learnt_from_are_never_measured(tmp_path):
    learnt = dataclasses.replace(fake_scorer(), learnt=frozenset(row.prompt_key for row in ROWS[:3]))
    assert unseen(ROWS, learnt) == ROWS[3:]
    assert unseen(ROWS, fake_scorer(), learnt) == ROWS[3:]
    assert unseen(ROWS, fake_scorer()) == ROWS
    with pytest.raises(DataError, match="the prompts of all 3 rows are among those that the model learnt from"):
        unseen(ROWS[:3], learnt)


@pytest.mark.parametrize("pairwise", [False, True])
def test_rankings_are_scored_together(pairwise):
    class Counting(FakeReader):
        calls = 0

        def singles(self, asked):
            Counting.calls += 1
            return super().singles(asked)

        def pairs(self, asked):
            Counting.calls += 1
            return super().pairs(asked)

    rows = [
        parse_row({"prompt": f"{n}?", "responses": ["bad", "good good", "good"], "rank": [3, 1, 2]}) for n in range(5)
    ]
    run(fake_scorer(Counting(pairwise)), rows[:1])
    calls, Counting.calls = Counting.calls, 0
    found = run(fake_scorer(Counting(pairwise)), rows).groups
    assert Counting.calls == calls  # the same for five as for one
    assert [group.scores.index(max(group.scores)) for group in found] == [1] * 5
    assert rewardbench.best_of(found) == 1.0


def test_a_folder_never_takes_the_place_of_a_built_in_scorer(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "length").mkdir()
    (tmp_path / "rows.jsonl").write_text('{"prompt": "P", "response": "abcd"}\n')
    assert json.loads(invoke("score", "length", "rows.jsonl"))["raw"] == 0.004


@pytest.mark.parametrize(
    ("plain", "expected"),
    [
        (
            {"prompt": "P", "chosen": ["a", "b"], "rejected": ["c"], "subset": "Ties"},
            {"prompt": "P", "responses": ["a", "b", "c"], "rank": [1, 1, 2], "subset": "Ties"},
        ),
        (
            {"prompt": "P", "response": "a", "helpfulness": 4, "correctness": 3, "verbosity": 1},
            {"prompt": "P", "response": "a", "attributes": {"helpfulness": 4, "correctness": 3, "verbosity": 1}},
        ),
        (
            {"prompt": "P", "response_1": "a", "response_2": "b", "preference_strength": 2},
            {"prompt": "P", "chosen": "b", "rejected": "a", "margin": 2},
        ),
        (
            {
                "context": [{"role": "user", "content": "P"}],
                "response1": "a",
                "response2": "b",
                "overall_preference": -3,
            },
            {"prompt": [{"role": "user", "content": "P"}], "chosen": "a", "rejected": "b", "margin": 3},
        ),
        (
            {"context": "P", "response1": "a", "response2": "b", "overall_preference": 0},
            {"prompt": "P", "responses": ["a", "b"], "rank": [1, 1]},
        ),
        (
            {"instruction": "P", "completions": [{"response": "a", "overall_score": 3}, {"response": "b"}]},
            {"prompt": "P", "responses": ["a"], "rank": [-3]},
        ),
        (
            {"prompt": "P", "response_0": "a", "response_1": "b", "safer_response_id": 1},
            {"prompt": "P", "chosen": "b", "rejected": "a", "safer_response_id": 1},
        ),
    ],
)
def test_public_shapes_become_canonical_rows(plain, expected):
    assert canonical(plain) == expected
    parse_row(canonical(plain))


def test_pairs_of_whole_conversations_end_with_the_answers():
    turns = [{"role": "user", "content": "P"}]
    sides = {side: [*turns, {"role": "assistant", "content": side}] for side in ("chosen", "rejected")}
    row = parse_row(canonical({"prompt": "P", **sides, "score_chosen": 8.0, "score_rejected": 5.5}))
    assert (row.prompt[0].content, row.chosen, row.rejected, row.margin) == ("P", "chosen", "rejected", 2.5)
    with pytest.raises(InvalidInput, match="differ before their last messages"):
        canonical({**sides, "rejected": [{"role": "user", "content": "Q"}, sides["rejected"][-1]]})


def test_rows_without_pairs_are_refused():
    with pytest.raises(DataError, match="convert rows with --to pairs"):
        run(fake_scorer(), [parse_row({"prompt": "P", "response": "a"})])


def invoke(*arguments):
    done = CliRunner().invoke(cli.app, ["reward", *map(str, arguments)])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


def test_the_command_evaluates_compares_and_tracks(tmp_path):
    file = tmp_path / "rows.jsonl"
    lines = [{"prompt": f"{n}?", "chosen": "good", "rejected": "bad at length", "subset": "x"} for n in range(8)]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    shown = invoke("eval", "fake", file, "--against", "length", "--repeats", "2", "--out", tmp_path / "report.json")
    assert "1.000" in shown
    told = json.loads((tmp_path / "report.json").read_text())
    assert (told["accuracy"]["value"], told["against"]["accuracy"]["value"]) == (1.0, 0.0)
    assert told["against"]["difference"] == 1.0
    assert told["repeats"] == {"times": 2, "seeds": repeat_seeds(2), "sd": pytest.approx(0), "flips": 0.0}
    assert (told["rows"], told["left_out"]) == (8, 0)
    tracked = json.loads(invoke("eval", "fake", file, "--track", "length", "--json"))["track"]
    assert [row["mark"] for row in tracked] == ["best", "DEGRADED"]
    invoke("eval", "fake", file, "--track", "length", "--out", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "DEGRADED" in page
    assert "good" not in page.partition("<main")[2].replace("good at", "")


def test_the_command_scores_rows_in_order(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps({"id": word, "prompt": "P", "response": word}) + "\n" for word in WORDS))
    scored = [json.loads(line) for line in invoke("score", "fake", file).splitlines()]
    assert [(row["id"], row["reward"]) for row in scored] == [("good good", 2), ("good", 1), ("fine", 0), ("bad", -1)]
