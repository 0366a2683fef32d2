"""The mini engine: on a small graph written as text, and (slow) on what a torch model is exported to."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.parser
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from guard import policy
from guard.bundle import open_bundle
from guard.conversation import Conversation
from guard.engines import mini
from guard.engines.mini import MiniEngine, any_category
from guard.engines.registry import open_engine
from guard.errors import BundleError, EngineError
from guard.moderator import Moderator, open_moderator
from guard.policy import Category, Policy
from guard.prompts.window import Score, Window
from guard.verdict import Outcome, sigmoid
from guard.views.tokenize import tokenize
from tests.fixtures import tiny_encoder, warm

MINIMAL, LARGE = policy.load("minimal"), policy.load("mlcommons")
EXPORTED = ["exported", "int8", "int4"]
CHATS = [Conversation.of(*text) for text in tiny_encoder.TEXTS]


def write_exported(folder: Path, form: str = "exported") -> None:
    """In a process of its own: importing torch warns at will."""
    done = warm.python(tiny_encoder.__file__, form, folder)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module", params=["by hand", *(pytest.param(form, marks=pytest.mark.slow) for form in EXPORTED)])
def root(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mini") / "bundle"
    if request.param == "by hand":
        tiny_encoder.write_by_hand(folder)
    else:
        write_exported(folder, request.param)
    return folder


@pytest.fixture(scope="module")
def engine(root: Path) -> MiniEngine:
    made = open_engine(open_bundle(root), threads=1)
    assert isinstance(made, MiniEngine)
    return made


def windows(engine: MiniEngine, *policies: Policy) -> list[Window]:
    return [window for rules in policies for chat in CHATS for window in engine.tokenize(chat, rules).windows]


def flat(score: Score) -> list[float]:
    return [score.unsafe, *score.categories]


def probabilities(scores: Sequence[Score]) -> list[float]:
    return [sigmoid(z) for score in scores for z in flat(score)]


def largest(one: Sequence[Score], other: Sequence[Score]) -> float:
    """The largest difference in probability."""
    assert [len(flat(score)) for score in one] == [len(flat(score)) for score in other]
    return float(np.abs(np.array(probabilities(one)) - np.array(probabilities(other))).max())


def test_scores_differ_from_text_to_text(engine: MiniEngine) -> None:
    found = engine.score(windows(engine, MINIMAL))
    assert np.ptp([sigmoid(score.unsafe) for score in found]) > 0.1, "else all that is compared below is a constant"


def test_the_verdict_is_an_or_over_the_categories(engine: MiniEngine) -> None:
    for score in engine.score(windows(engine, MINIMAL)):
        assert score.unsafe == pytest.approx(np.log(np.exp(score.categories).sum()))
        assert score.unsafe >= max(score.categories)


def test_more_categories_than_it_was_trained_with_add_no_noise(engine: MiniEngine) -> None:
    for score in engine.score(windows(engine, LARGE)):
        either = np.log(np.exp(score.categories).sum()) - np.log(len(LARGE.codes) / len(MINIMAL.codes))
        assert score.unsafe == pytest.approx(max(either, *score.categories))


LOGITS = st.lists(st.floats(-30, 30), min_size=1, max_size=20)


@given(LOGITS, st.integers(1, 20))
def test_as_many_equal_categories_again_change_nothing(row: list[float], trained: int) -> None:
    def verdict(logits: list[float]) -> float:
        return float(any_category(np.array([logits]), trained)[0])

    assert verdict(row) >= max(row)
    if len(row) >= trained:
        assert verdict(row * 4) == pytest.approx(verdict(row))
    if len(row) > 1 and len(row) <= trained:
        assert verdict(row[1:]) <= verdict(row), "a smaller policy is not stricter"
    assert verdict([row[0]] * 2000) <= max(row[0] + np.log(trained), row[0]) + 1e-9


@pytest.mark.parametrize("times", [2, 4])
def test_repeated_categories_change_nothing(engine: MiniEngine, times: int) -> None:
    def copy(category: Category, number: int) -> Category:
        return dataclasses.replace(category, code=f"{category.code}x{number}") if number else category

    repeated = tuple(copy(category, number) for number in range(times) for category in LARGE.categories)
    rules = dataclasses.replace(LARGE, categories=repeated)
    for one, other in zip(engine.score(windows(engine, LARGE)), engine.score(windows(engine, rules)), strict=True):
        assert other.unsafe == pytest.approx(one.unsafe, abs=1e-5)
        assert other.categories == pytest.approx(one.categories * times, abs=1e-5)


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(data=st.data())
def test_a_score_does_not_depend_on_its_batch(engine: MiniEngine, data: st.DataObject) -> None:
    everything = windows(engine, MINIMAL, LARGE)
    batch = data.draw(st.lists(st.sampled_from(everything), min_size=1, max_size=24))
    together = engine.score(batch)
    assert len(together) == len(batch)
    assert largest(together, [engine.score([window])[0] for window in batch]) <= 1e-3


def test_many_windows_are_cut_into_batches_and_keep_their_order(engine: MiniEngine) -> None:
    batch = windows(engine, MINIMAL, LARGE) * 6
    assert sum(len(window.ids) for window in batch) > 2 * mini.MAX_BATCH_TOKENS
    alone = {id(window): engine.score([window])[0] for window in batch[: len(batch) // 6]}
    assert largest(engine.score(batch), [alone[id(window)] for window in batch]) <= 1e-3


def test_policies_may_be_mixed_in_one_call(engine: MiniEngine) -> None:
    small, large = windows(engine, MINIMAL), windows(engine, LARGE)
    mixed = [window for pair in zip(small, large, strict=True) for window in pair]
    found = engine.score(mixed)
    assert [len(score.categories) for score in found] == [2, len(LARGE.codes)] * len(small)
    assert largest(found[::2], engine.score(small)) <= 1e-3
    assert largest(found[1::2], engine.score(large)) <= 1e-3


def test_a_dropped_category_leaves_the_others_as_they_were(engine: MiniEngine) -> None:
    part = LARGE.without(["S1", "S7"])
    whole, rest = engine.score(windows(engine, LARGE)), engine.score(windows(engine, part))
    for one, other in zip(whole, rest, strict=True):
        kept = [z for code, z in zip(LARGE.codes, one.categories, strict=True) if code in part.codes]
        assert other.categories == pytest.approx(kept, abs=1e-4)
    small, smaller = (engine.score(windows(engine, rules)) for rules in (MINIMAL, MINIMAL.without(["M1"])))
    assert all(other.unsafe < one.unsafe for one, other in zip(small, smaller, strict=True))


def test_unseen_words_alone_get_the_log_odds_for_them(engine: MiniEngine, root: Path) -> None:
    bundle = open_bundle(root)
    own, other = bundle.policy, policy.load("openai")
    calibration = dataclasses.replace(bundle.calibration, unseen=1.5)
    bold = MiniEngine(dataclasses.replace(bundle, calibration=calibration), threads=1)
    mixed = Policy("mixed", "1", "Mixed", (own.categories[0], Category("X", "Plants", "Talk about plants.")))
    for rules, added in ((own, [0.0] * len(own.codes)), (mixed, [0.0, 1.5]), (other, [1.5] * len(other.codes))):
        plain, raised = (each.score(windows(each, rules)) for each in (engine, bold))
        for one, two in zip(plain, raised, strict=True):
            assert np.subtract(two.categories, one.categories) == pytest.approx(added, abs=1e-5)
    # A shipped policy that the guard was trained under is none of those.
    manifest = dataclasses.replace(bundle.manifest, policies=("openai",))
    trained = MiniEngine(dataclasses.replace(bundle, calibration=calibration, manifest=manifest), threads=1)
    for one, two in zip(engine.score(windows(engine, other)), trained.score(windows(trained, other)), strict=True):
        assert two.categories == pytest.approx(one.categories, abs=1e-5)


def test_the_words_of_a_category_matter_and_its_code_does_not(engine: MiniEngine) -> None:
    def scores(code: str, name: str) -> list[Score]:
        return engine.score(windows(engine, Policy("own", "1", "Own", (Category(code, name, "words"),))))

    assert largest(scores("A", "plants"), scores("B", "plants")) <= 1e-6
    assert largest(scores("A", "plants"), scores("A", "forbidden things")) > 1e-3


def test_the_order_of_a_policy_is_the_order_of_the_scores(engine: MiniEngine) -> None:
    turned = dataclasses.replace(LARGE, categories=LARGE.categories[::-1])
    for one, other in zip(engine.score(windows(engine, LARGE)), engine.score(windows(engine, turned)), strict=True):
        assert other.categories[::-1] == pytest.approx(one.categories, abs=1e-4)


def test_threads_get_the_scores_of_a_single_one(root: Path) -> None:
    engine = open_engine(open_bundle(root), threads=1)
    assert isinstance(engine, MiniEngine)
    work = [windows(engine, LARGE.without([code]))[:6] for code in LARGE.codes] * 2
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(engine.score, work))
    for batch, scores in zip(work, found, strict=True):
        assert largest(scores, engine.score(batch)) <= 1e-3


def test_a_part_of_a_policy_costs_no_run_of_the_model(root: Path) -> None:
    engine = open_engine(open_bundle(root), threads=1)
    assert isinstance(engine, MiniEngine)
    whole = engine.category_vectors(LARGE)
    kept = (len(engine._vectors), engine._vectors.bytes)
    part = engine.category_vectors(LARGE.without(["S1", "S7"]))
    assert (len(engine._vectors), engine._vectors.bytes) == kept == (14, kept[1])
    assert part.tolist() == [
        row for code, row in zip(LARGE.codes, whole.tolist(), strict=True) if code not in ("S1", "S7")
    ]


def test_a_prepared_policy_gives_the_same_scores(root: Path) -> None:
    prepared, other = (open_engine(open_bundle(root), threads=1) for _ in range(2))
    prepared.prepare(LARGE)
    prepared.warm()
    assert largest(prepared.score(windows(other, LARGE)), other.score(windows(other, LARGE))) == 0


def test_a_closed_engine_scores_nothing(root: Path) -> None:
    engine = open_engine(open_bundle(root), threads=1)
    engine.close()
    with pytest.raises(EngineError, match="is closed"):
        engine.score(windows(engine, MINIMAL))


def test_what_it_is(engine: MiniEngine) -> None:
    assert (engine.info.kind, engine.info.languages, engine.info.device) == ("mini", ("en",), "cpu")
    assert all(engine.cost(window) == len(window.ids) for window in windows(engine, MINIMAL))


def test_nothing_in_nothing_out(engine: MiniEngine) -> None:
    assert engine.score([]) == []


def test_the_moderator_answers(root: Path) -> None:
    moderator = open_moderator(root, threads=1)
    assert moderator.policy == MINIMAL
    verdicts = moderator.moderate(CHATS)
    assert [verdict.coverage.windows > 1 for verdict in verdicts] == [False, False, True, True, True, False]
    for verdict in verdicts:
        assert verdict.outcome in (Outcome.SAFE, Outcome.UNSAFE)
        assert verdict.model == open_bundle(root).manifest.model
        assert verdict.p_unsafe >= max(verdict.categories.values())
    assert tuple(open_moderator(root, "mlcommons").moderate(CHATS)[0].categories) == LARGE.codes


def test_a_long_text_is_as_unsafe_as_its_worst_part(root: Path) -> None:
    moderator = open_moderator(root, threads=1)
    text = tiny_encoder.TEXTS[2][0]
    verdict = moderator.check(text)
    windows = tokenize(moderator.engine, Conversation.of(text), moderator.policy).windows
    scores = moderator.engine.score(windows)
    worst = max(range(len(scores)), key=lambda index: scores[index].unsafe)
    assert verdict.p_unsafe == pytest.approx(sigmoid(scores[worst].unsafe), abs=1e-3)
    assert (verdict.coverage.worst_start, verdict.coverage.worst_end) == (
        windows[worst].start,
        windows[worst].end,
    )


@pytest.mark.parametrize("unreadable", ["\x00", "\u200b"])
def test_what_cannot_be_read_at_all_is_incomplete(engine: MiniEngine, unreadable: str) -> None:
    # A threshold out of reach, since random weights say anything about an empty window.
    rules = dataclasses.replace(MINIMAL, threshold=1 - 1e-9)
    moderator = Moderator(engine, rules)
    assert moderator.check(unreadable).outcome is Outcome.INCOMPLETE
    assert moderator.check("a readable prompt", unreadable).outcome is Outcome.INCOMPLETE


def copied(root: Path, folder: Path, **files: bytes) -> Path:
    """A bundle with some files replaced, sealed anew."""
    folder.mkdir()
    for path in root.iterdir():
        (folder / path.name).write_bytes(files.get(path.stem if path.suffix == ".onnx" else "", path.read_bytes()))
    tiny_encoder.seal(folder)
    return folder


@pytest.mark.parametrize("cut", [0, 1, 0.5, -1], ids=["empty", "one byte", "half", "all but one byte"])
def test_a_damaged_graph_is_told_in_one_line(root: Path, tmp_path: Path, cut: float) -> None:
    whole = (root / "model.onnx").read_bytes()
    folder = copied(root, tmp_path / "damaged", model=whole[: int(cut * len(whole)) if cut == 0.5 else int(cut)])
    with pytest.raises(BundleError) as told:
        open_moderator(folder)
    assert "model.onnx" in str(told.value)
    assert "export" in str(told.value)
    assert "\n" not in str(told.value)


def graph(inputs: str, body: str) -> bytes:
    text = f'<ir_version: 10, opset_import: ["" : 20]>\nother ({inputs}) => (float[n, m] logits) {{ {body} }}'
    return bytes(onnx.parser.parse_model(text).SerializeToString())


NAMES = "int64[b, t] input_ids, int64[b, t] attention_mask, int64[b, t] token_type_ids"


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (
            graph("float[n, m] x", "logits = Identity(x)"),
            "takes x, not attention_mask, categories, input_ids, token_type_ids",
        ),
        (graph(f"{NAMES}, float[n, m] categories", "logits = Identity(categories)"), "no fixed width"),
    ],
    ids=["inputs", "width"],
)
def test_a_graph_of_something_else_is_told(root: Path, tmp_path: Path, other: bytes, told: str) -> None:
    folder = copied(root, tmp_path / "other", model=other)
    with pytest.raises(BundleError, match=told):
        open_moderator(folder)


@pytest.mark.parametrize("root", EXPORTED, indirect=True)
@pytest.mark.slow
def test_torch_and_onnx_agree(root: Path, engine: MiniEngine) -> None:
    told: dict[str, Any] = json.loads((root.parent / "torch.json").read_text(encoding="utf-8"))
    for name, texts in told.items():
        rules = policy.load(name)
        rows = [row for text in texts for row in text]
        verdicts = any_category(np.array(rows), len(MINIMAL.codes))
        expected = [Score(float(either), tuple(row)) for either, row in zip(verdicts, rows, strict=True)]
        found = engine.score(windows(engine, rules))
        assert largest(found, expected) <= 2e-3  # in integers, a sum that lies between two levels may fall to either
        logits: npt.NDArray[np.float64] = np.array([score.categories for score in found])
        np.testing.assert_allclose(logits, [score.categories for score in expected], atol=5e-3)


@pytest.mark.parametrize("root", EXPORTED, indirect=True)
@pytest.mark.slow
def test_the_export_holds_no_weights_and_no_traces_of_this_machine(root: Path) -> None:
    data = (root / "model.onnx").read_bytes()
    assert len(data) < 60_000, "the weights stay in model.safetensors, in half precision"
    assert b".py" not in data
    assert str(Path.home()).encode() not in data
