"""The confound report over made-up columns, the surface of texts, and `guard data confounds` as a user runs it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from guard.cli.confounds import confounds as command
from guard.data.build.columns import Columns, encode
from guard.data.build.mix import Mixing, Reweigh, weights
from guard.data.dataset.confounds import measure, outline
from guard.data.dataset.confounds import report as confound_report
from guard.data.dataset.confounds.measure import SURFACE, VISIBLE, Report, Sample, draw_sample
from guard.data.dataset.confounds.probe import probe
from guard.data.dataset.confounds.surface import FEATURES, surface, surface_matrix
from guard.errors import DataError, InvalidInput

ROWS = 2000
RANDOM = np.random.default_rng(5)
CANARY = "canary-in-the-coal-mine"


def made(unsafe, clusters=None, texts=None, **of) -> tuple[Columns, Sample]:
    unsafe = np.asarray(unsafe, bool)
    rows = np.arange(len(unsafe))
    columns = Columns(
        unsafe.astype(np.int8),
        np.ones(len(unsafe), bool),
        np.ones(len(unsafe)),
        {name: encode(values) for name, values in of.items()},
    )
    groups = rows if clusters is None else np.asarray(clusters)
    return columns, Sample(rows, groups, None if texts is None else surface_matrix(texts))


def report(columns: Columns, chosen: Sample, made_weights=None) -> Report:
    return measure.measure(columns, columns.base if made_weights is None else made_weights, chosen)


def of(told: Report, name: str) -> measure.Confound:
    return next(one for one in told.confounds if one.name == name)


def coin(share=0.5, rows=ROWS) -> np.ndarray:
    return RANDOM.random(rows) < share


def choose(flags, yes, no) -> list[str]:
    return [yes if flag else no for flag in flags]


def test_a_value_that_is_the_label_is_found_and_warned_of():
    unsafe = coin()
    told = report(*made(unsafe, language=choose(unsafe, "vi", "en"), kind=choose(coin(), "text", "prompt")))
    language, kind = of(told, "language"), of(told, "kind")
    assert language.probe.auroc > 0.99
    assert language.probe.balanced_accuracy > 0.99
    assert language.probe.balanced_accuracy > 0.99
    assert language.information == pytest.approx(1)
    assert 0.4 < kind.probe.auroc < 0.6
    assert kind.information < 0.01
    assert [one.name for one in told.warned] == ["language", "language × kind", VISIBLE]
    first = confound_report.warnings(told)[0]
    assert first.startswith("language predicts the label: AUROC 1.00")
    assert f"vi (0 safe, {unsafe.sum():,} unsafe)" in first
    assert "100.0% of the weight" in first
    assert "reweigh by language" in first


def test_what_is_independent_of_the_label_is_not_warned_of():
    told = report(
        *made(
            coin(0.2),
            language=choose(coin(0.7), "en", "zh"),
            kind=choose(coin(), "text", "prompt"),
            source=[f"s{number}" for number in RANDOM.integers(0, 9, ROWS)],
            texts=choose(coin(), "A line.", "two words"),
        )
    )
    assert {one.name for one in told.confounds} == {"language", "kind", "source", "language × kind", VISIBLE, SURFACE}
    assert all(0.4 < one.probe.auroc < 0.6 for one in told.confounds)
    assert told.warned == ()
    assert confound_report.warnings(told) == []


def test_a_rare_language_of_one_label_is_warned_of_although_the_probe_hardly_notices():
    unsafe = coin()
    language = choose(unsafe & (np.arange(ROWS) < 200), "vi", "en")
    told = report(*made(unsafe, language=language))
    assert of(told, "language").probe.auroc < 0.65
    assert confound_report.warnings(told)[0].startswith("language has values of one label")


def test_reweighing_takes_the_shortcut_away():
    unsafe = coin()
    # Eight in ten unsafe rows are Vietnamese, and two in ten of the safe ones.
    columns, chosen = made(unsafe, language=choose(coin(0.8) == unsafe, "vi", "en"))
    before = report(columns, chosen)
    after = report(columns, chosen, weights(columns, Mixing(reweigh=(Reweigh(by=("language",)),))))
    assert 0.75 < of(before, "language").probe.auroc < 0.85
    assert of(after, "language").probe.auroc < 0.55
    assert of(after, "language").bits == pytest.approx(0, abs=1e-12)
    compared = confound_report.compare(before, after)
    assert [row["name"] for row in compared] == ["language", VISIBLE]
    assert compared[0]["before"]["auroc"] > compared[0]["after"]["auroc"]
    assert after.effective_rows < before.effective_rows == pytest.approx(ROWS)


def test_information_is_exact_on_a_table_that_can_be_worked_out():
    # Of "a" 3 of 4 are unsafe, of "b" 1 of 4: 1 bit less the entropy of (1/4, 3/4).
    columns, chosen = made([1, 1, 1, 0, 0, 0, 0, 1] * 5, kind=list("aaaabbbb") * 5)
    entropy = -(0.25 * np.log2(0.25) + 0.75 * np.log2(0.75))
    kind = of(report(columns, chosen), "kind")
    assert kind.bits == pytest.approx(1 - entropy)
    assert kind.information == pytest.approx(1 - entropy)
    assert [(one.value, one.safe_rows, one.unsafe_rows) for one in kind.table] == [("a", 5, 15), ("b", 15, 5)]


def test_tables_and_shares_count_weight():
    columns, chosen = made([1, 0, 0, 1], language=["vi", "en", "en", "en"], kind=list("tptp"))
    told = report(columns, chosen, np.array([6.0, 1.0, 1.0, 0.0]))
    assert (told.rows, told.unsafe_rows, told.unsafe_share) == (3, 1, 0.75)
    assert told.effective_rows == pytest.approx(64 / 38)
    language = of(told, "language")
    assert [(one.value, one.safe, one.unsafe) for one in language.table] == [("en", 2, 0), ("vi", 0, 6)]
    assert (language.one_sided_values, language.one_sided_share) == (2, 1.0)


def test_many_values_are_shown_as_others_and_lose_no_row():
    source = [f"s{number:02}" for number in range(30)] * 4
    told = report(*made(coin(rows=120), source=source))
    table = of(told, "source").table
    assert of(told, "source").values == 30
    assert len(table) == 20
    assert table[-1].value == measure.OTHER
    assert sum(one.safe_rows + one.unsafe_rows for one in table) == 120


def test_the_probe_is_judged_on_clusters_that_it_has_not_seen():
    # One language for each cluster of ten rows of one label: no skill is left on clusters of other languages.
    clusters = np.repeat(np.arange(100), 10)
    unsafe = np.repeat(coin(rows=100), 10)
    language = [f"l{number}" for number in clusters]
    assert of(report(*made(unsafe, clusters, language=language)), "language").probe.auroc < 0.6
    assert of(report(*made(unsafe, language=language)), "language").probe.auroc > 0.95  # rows torn from their clusters


def test_the_probe_is_the_plain_cross_validation_that_it_shortens():
    linear, metrics = pytest.importorskip("sklearn.linear_model"), pytest.importorskip("sklearn.metrics")
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    values, fold = RANDOM.integers(0, 4, (300, 3)), RANDOM.integers(0, 3, 300)
    unsafe, heavy = RANDOM.random(300) < 0.2 + 0.15 * values[:, 0], RANDOM.random(300) + 0.1
    inputs = preprocessing.OneHotEncoder().fit_transform(values)
    aurocs, accuracies, sizes = [], [], []
    for held in (fold == place for place in range(3)):
        evened = heavy / np.where(unsafe, heavy[unsafe & ~held].sum(), heavy[~unsafe & ~held].sum())
        evened *= heavy[~held].sum() / 2
        model = linear.LogisticRegression(max_iter=1000)
        model.fit(inputs[~held], unsafe[~held], sample_weight=evened[~held])
        scores = model.decision_function(inputs[held])
        aurocs.append(metrics.roc_auc_score(unsafe[held], scores, sample_weight=heavy[held]))
        guesses = {"y_pred": scores >= 0, "sample_weight": heavy[held]}
        accuracies.append(metrics.balanced_accuracy_score(unsafe[held], **guesses))
        sizes.append(heavy[held].sum())
    found = probe(values, unsafe, heavy, fold)
    assert found.auroc == pytest.approx(np.average(aurocs, weights=sizes), abs=2e-3)
    assert found.balanced_accuracy == pytest.approx(np.average(accuracies, weights=sizes), abs=0.02)


def test_data_of_one_label_has_counts_but_no_probe():
    told = report(*made([1] * 20, language=["en"] * 20))
    language = of(told, "language")
    assert language.probe is None
    assert language.information is None
    assert language.one_sided_share == 1.0
    assert told.warned == ()
    json.dumps(confound_report.to_json(told, told))


def test_one_cluster_cannot_be_judged():
    assert of(report(*made(coin(rows=20), [7] * 20, language=["en"] * 20)), "language").probe is None


def test_without_rows_there_is_nothing_to_report_on():
    with pytest.raises(DataError, match="none of 0 rows"):
        report(*made([], language=[]))
    columns, chosen = made([1, 0], language=["en", "en"])
    with pytest.raises(DataError, match="none of 2 rows"):
        report(columns, chosen, np.zeros(2))


def test_a_sample_is_bounded_sorted_and_the_same_each_time():
    counted = coin(0.5)
    first = draw_sample(counted, 3, 100)
    assert len(first) == 100
    assert (np.diff(first) > 0).all()
    assert counted[first].all()
    assert (draw_sample(counted, 3, 100) == first).all()
    assert (draw_sample(counted, 4, 100) != first).any()
    assert len(draw_sample(counted, 3)) == counted.sum()


def test_the_same_columns_give_the_same_report():
    unsafe = coin(rows=300)
    first, second = (
        report(*made(unsafe, language=choose(unsafe, "vi", "en"), texts=choose(unsafe, "Why?", "so it is")))
        for _ in range(2)
    )
    assert first == second
    assert of(first, SURFACE).parts[0][1] > 0.9


def trait(text: str, name: str) -> int:
    return surface(text)[FEATURES.index(name)]


@pytest.mark.parametrize(
    ("name", "alike", "other"),
    [
        ("end", ["Is it?", "什么？", "هل؟ "], "It is."),
        ("end", ["Stop!", "走！"], "Stop"),
        ("capitals", ["all small", "又小"], "Not All"),
        ("capitals", ["SHOUT", "VERY LOUD"], "quiet Voice here"),
        ("digits", ["none", "at all"], "1 or 2"),
        ("punctuation", ["plain words", "naïve"], "a, b; c!"),
        ("beginning", ["Upper", "Élan"], "lower"),
        ("beginning", ["中文", "ไทย"], "4 you"),
        ("lines", ["one", "line"], "two\nlines"),
        ("length", ["abcd", "abcdefg"], "abcdefgh"),
        ("script", ["plain", "Größe ✨"], "плохо"),
        ("script", ["中文 ok", "漢字漢字"], "ひらがな"),
        ("script", ["123", "?!", ""], "a"),
    ],
)
def test_surfaces_tell_texts_apart_by_their_looks(name, alike, other):
    assert len({trait(text, name) for text in alike}) == 1
    assert trait(other, name) != trait(alike[0], name)


@settings(deadline=None)
@given(st.text())
def test_any_text_has_a_surface_of_small_numbers(text):
    found = surface(text)
    assert len(found) == len(FEATURES)
    assert all(0 <= number < 16 for number in found)
    assert surface("") == surface("")


def write(folder, rows):
    """A train split as a build stores it; columns that a row does not name are null."""
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    from guard.data.build.write import features

    schema = features().arrow_schema
    folder.mkdir(exist_ok=True)
    parquet.write_table(arrow.Table.from_pylist(rows, schema=schema), folder / "train.parquet", row_group_size=64)


def row(number: int, unsafe: bool, weight: float, **more) -> dict:
    turns = [{"role": "user", "content": f"{CANARY} {number}"}, {"role": "assistant", "content": "No." * (number % 7)}]
    return {
        "id": f"{number:016x}",
        "messages": turns[: 1 + number % 2],
        "label": "unsafe" if unsafe else "safe",
        "categories": [],
        "source": "books",
        "licence": "MIT",
        "role": "train",
        "language": "en",
        "kind": "response" if number % 2 else "prompt",
        "cluster": f"c{number % 50}",
        "weight": weight,
        **more,
    }


def run(*arguments):
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def built(tmp_path):
    """Vietnamese rows are unsafe, and all but two of them weigh nothing; English ones are as it comes."""
    rows = [row(number, number % 3 == 0, 1.0) for number in range(200)]
    rows += [row(200 + number, True, float(number < 2), language="vi") for number in range(100)]
    write(tmp_path / "data", rows)
    return tmp_path / "data"


def test_the_outline_measures_the_last_message_and_keeps_the_stored_weights(tmp_path):
    turns = [{"role": "user", "content": "x" * 40}, {"role": "assistant", "content": "Why?"}]
    rows = [row(0, True, 2.0, messages=turns), row(1, False, 0.5, messages=[]), row(2, True, 1.0, messages=turns[:1])]
    write(tmp_path / "data", [*rows, row(3, False, 1.0, messages=turns, label="unlabelled")])
    stored = outline.read_outline(tmp_path / "data" / "train.parquet")
    length = stored.columns.of["length"]
    assert [length.values[code] for code in length.codes] == ["4-7", "0-1", "32-63", "4-7"]
    assert stored.weights.tolist() == [2.0, 0.5, 1.0, 1.0]
    assert stored.columns.counted.tolist() == [True, True, True, False]
    assert stored.columns.unsafe.tolist() == [True, False, True, False]
    chosen = outline.read_sample(tmp_path / "data" / "train.parquet", np.array([0, 2]))
    assert chosen.surface.tolist() == [list(surface("Why?")), list(surface("x" * 40))]
    assert len(set(chosen.clusters)) == 2


def test_the_command_shows_counts_measures_and_warnings(built):
    done = run(built)
    assert done.exit_code == 0, done.output
    vietnamese = next(line.split() for line in done.stdout.splitlines() if line.startswith(" vi "))
    assert vietnamese == ["vi", "0", "100", "100.0", "100.0", "33.3", "1.0"]
    assert "300 rows, 55.7% unsafe; after mixing 202 rows of positive weight" in done.stdout
    assert "settled by mixing: language" in done.stdout
    assert CANARY not in done.output


def test_the_command_writes_json(built, tmp_path):
    done = run(built, "--json", "--out", tmp_path / "report.json", "--kind", "prompt")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told == json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert (told["before"]["rows"], told["after"]["rows"]) == (150, 101)
    assert {row["name"] for row in told["compared"]} >= {"language", "length", "source", SURFACE}
    assert any(line.startswith("language predicts") for line in told["before"]["warnings"])
    assert CANARY not in done.output


@pytest.mark.parametrize(
    ("arguments", "error", "told"),
    [
        (["--split", "tain"], InvalidInput, "unknown split 'tain'"),
        (["--split", "dev"], DataError, "no data at"),
        (["--kind", "poem"], InvalidInput, "no rows of kind 'poem'; available: prompt, response"),
        (["--out", "nowhere/report.json"], InvalidInput, "there is no folder"),
    ],
)
def test_the_command_says_what_is_wrong(built, arguments, error, told):
    done = run(built, *arguments)
    assert isinstance(done.exception, error)
    assert told in str(done.exception)


def describe(folder, sources) -> None:
    """A manifest that says how the sources were weighed."""
    told = {
        "data_digest": "0" * 64,
        "config_digest": "0" * 64,
        "policy": {"id": "p", "version": "1", "digest": "0" * 64},
        "splits": {"train": {"rows": 300}},
        "files": {"train.parquet": "0" * 64},
        "sources": [],
        "config": {"sources": sources},
    }
    (folder / "manifest.json").write_text(json.dumps(told), encoding="utf-8")


def test_a_mixing_section_can_be_tried_without_a_build(built, tmp_path):
    describe(built, [{"source": "books", "weight": 2.0}])
    (tmp_path / "mixing.yaml").write_text("category_caps: {S1: 5}\nreweigh: [{by: [language], one_sided: 0.0}]\n")
    done = run(built, "--mixing", tmp_path / "mixing.yaml", "--json")
    assert done.exit_code == 0, done.output
    assert "only a build can show" in done.stderr
    told = json.loads(done.stdout)
    assert (told["before"]["rows"], told["after"]["rows"]) == (300, 200)  # Vietnamese rows weigh nothing
    (tmp_path / "mixing.yaml").write_text("temprature: 2\n")
    assert "did you mean `temperature`" in str(run(built, "--mixing", tmp_path / "mixing.yaml").exception)
    describe(built, [{"source": "books"}])
    (tmp_path / "mixing.yaml").write_text("temperature: 2\n")
    assert "the manifest has no source weights" in str(run(built, "--mixing", tmp_path / "mixing.yaml").exception)
    (built / "train.parquet").rename(built / "dev.parquet")
    assert "got --split dev" in str(run(built, "--mixing", tmp_path / "mixing.yaml", "--split", "dev").exception)


def test_a_file_that_is_no_split_is_an_error(built):
    (built / "train.parquet").write_text(CANARY, encoding="utf-8")
    done = run(built)
    assert isinstance(done.exception, DataError)
    assert CANARY not in str(done.exception)
