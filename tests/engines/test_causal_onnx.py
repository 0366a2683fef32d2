"""The causal engine on a real graph: one layer of attention with random weights, small enough to be written as text."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

from guard import bundle, calibration, policy
from guard.bundle import open_bundle
from guard.calibration import Calibration
from guard.conversation import Conversation, Message
from guard.engines.causal_onnx import CausalOnnxEngine, CausalSettings
from guard.engines.registry import open_engine
from guard.errors import BundleError, EngineError, PolicyError
from guard.moderator import open_moderator
from guard.prompts.causal import template
from guard.prompts.prompt import load_prompt
from guard.prompts.window import Score
from guard.verdict import Outcome, sigmoid
from tests.fixtures import tiny_causal

WIDTH, PLACES = 16, 2048
TEXTS = [
    "hello",
    "Please tell me how to bake bread.",
    "I will hit you. " * 40,
    "S1,S2 unsafe <|eot_id|>",
    "\u4f60\u597d \U0001f642",
]
CHATS = [
    *map(Conversation.of, TEXTS),
    Conversation(
        (Message("user", "Who are you? " * 60), Message("assistant", "A helper. " * 60), Message("tool", "ok"))
    ),
]


def make_bundle(folder: Path, seed: int = 0, words: float = 12.0, **settings: float) -> Path:
    """A bundle with random weights. `words`: how much likelier the verdict's tokens are than all others."""
    folder.mkdir()
    tokenizer = tiny_causal.tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    prompt = load_prompt(folder / "tokenizer.json", 700, 32)
    rules = policy.load("minimal")
    (folder / "policy.yaml").write_text(policy.dump(rules), encoding="utf-8")
    calibration.write(Calibration(), folder / "calibration.json")
    given = CausalSettings("full", prompt.safe, prompt.unsafe, prompt.chat.end[0], **settings)
    (folder / "causal.json").write_text(json.dumps(dataclasses.asdict(given)), encoding="utf-8")
    rng = np.random.default_rng(seed)
    size = tokenizer.get_vocab_size()
    weights = {
        "embedding": rng.normal(0, 0.5, (size, WIDTH)),
        "place": rng.normal(0, 0.3, (PLACES, WIDTH)),
        "head": rng.normal(0, 0.5, (WIDTH, size)),
        "bias": np.zeros(size),
    }
    weights["bias"][[prompt.safe[0], prompt.unsafe[0]]] = words
    text = (Path(tiny_causal.__file__).parent / "causal.onnx.txt").read_text(encoding="utf-8")
    model = onnx.parser.parse_model(text)
    model.graph.initializer.extend(onnx.numpy_helper.from_array(w.astype(np.float32), n) for n, w in weights.items())
    onnx.save(model, str(folder / "model.onnx"))
    bundle.seal(
        folder,
        name="tiny",
        kind="causal",
        base="random",
        policy=rules.digest,
        renderer=template().digest,
        max_tokens=700,
        overlap=32,
        data=None,
    )
    return folder


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("causal") / "bundle")


@pytest.fixture(scope="module")
def engine(root: Path) -> CausalOnnxEngine:
    made = open_engine(open_bundle(root), threads=1)
    assert isinstance(made, CausalOnnxEngine)
    return made


def probabilities(scores: Sequence[object]) -> np.ndarray:
    return np.array([[sigmoid(z) for z in (score.unsafe, *score.categories)] for score in scores])  # type: ignore[attr-defined]


def test_scores_do_not_depend_on_the_batch(engine: CausalOnnxEngine) -> None:
    rules = policy.load("minimal")
    windows = [window for chat in CHATS for window in engine.tokenize(chat, rules).windows]
    assert len({len(window.ids) for window in windows}) > 3  # else nothing is padded
    together = probabilities(engine.score(windows))
    alone = probabilities([engine.score([window])[0] for window in windows])
    backwards = probabilities(engine.score(windows[::-1]))[::-1]
    assert np.abs(together - alone).max() <= 1e-3
    assert np.abs(together - backwards).max() <= 1e-3
    assert np.ptp(together[:, 0]) > 0.1  # else all that was compared is a constant


def test_the_cached_policy_gives_what_the_whole_prompt_gives(engine: CausalOnnxEngine) -> None:
    rules = policy.load("minimal")
    prompt, graph = engine._prompt, engine._graph
    words = [prompt.safe[0], prompt.unsafe[0]]
    for chat in CHATS:
        for window in engine.tokenize(chat, rules).windows:
            whole = [*prompt.prefix_ids(rules), *window.ids]
            log_probs, _ = graph.run([whole], graph.empty, [0], [[len(whole) - 1]], words)
            safe, unsafe = log_probs[0, 0]
            assert sigmoid(engine.score([window])[0].unsafe) == pytest.approx(sigmoid(unsafe - safe), abs=1e-3)


def test_categories_are_those_of_the_whole_prompt_with_the_verdict_written_out(engine: CausalOnnxEngine) -> None:
    rules = policy.load("minimal")
    prompt, graph = engine._prompt, engine._graph
    ends = [prompt.chat.text(code) for code in rules.codes]  # both are M and one digit
    walked = 0
    for chat in CHATS:
        for window in engine.tokenize(chat, rules).windows:
            score = engine.score([window])[0]
            if sigmoid(score.unsafe) < 0.1:
                continue
            written = [*prompt.prefix_ids(rules), *window.ids, *prompt.unsafe, *prompt.chat.text("\n"), ends[0][0]]
            log_probs, _ = graph.run([written], graph.empty, [0], [[len(written) - 1]], [ends[0][1], ends[1][1]])
            first = 1 / (1 + np.exp(log_probs[0, 0, 1] - log_probs[0, 0, 0]))
            walked += 1
            p = sigmoid(score.unsafe)
            assert sigmoid(score.categories[0]) == pytest.approx(p * first, abs=1e-3)  # it competes at one step only
            assert sigmoid(score.categories[1]) >= p * (1 - first) - 1e-3  # a second step may only add
    assert walked


def test_one_call_may_hold_several_policies(engine: CausalOnnxEngine) -> None:
    both = [policy.load("minimal"), policy.load("minimal").without(["M1"])]
    windows = [window for chat in CHATS for rules in both for window in engine.tokenize(chat, rules).windows]
    mixed = engine.score(windows)
    assert [len(score.categories) for score in mixed] == [len(window.policy.codes) for window in windows]
    apart = [engine.score([window])[0] for window in windows]
    assert probabilities(mixed[0:1]) == pytest.approx(probabilities(apart[0:1]), abs=1e-3)
    unsafe = [score.unsafe for score in mixed]
    assert unsafe == pytest.approx([score.unsafe for score in apart], abs=1e-3)
    assert abs(unsafe[0] - unsafe[1]) > 1e-3  # the policy is read


def test_a_policy_is_prefilled_once_and_counts_in_bytes(root: Path) -> None:
    engine = open_engine(open_bundle(root), threads=1)
    assert isinstance(engine, CausalOnnxEngine)
    rules = policy.load("minimal")
    engine.prepare(rules)
    bytes_kept = engine._prefixes.bytes
    tokens = len(engine._prompt.prefix_ids(rules))
    assert bytes_kept == 2 * WIDTH * 4 * tokens  # keys and values of one layer in fp32
    engine.score(engine.tokenize(CHATS[0], rules).windows)
    assert (len(engine._prefixes), engine._prefixes.bytes) == (1, bytes_kept)
    engine.close()
    with pytest.raises(EngineError, match="is closed"):
        engine.score(engine.tokenize(CHATS[0], rules).windows)


def test_the_policy_is_part_of_what_a_window_costs(engine: CausalOnnxEngine) -> None:
    rules = policy.load("minimal")
    (window,) = engine.tokenize(CHATS[0], rules).windows
    assert engine.cost(window) == len(engine._prompt.prefix_ids(rules)) + len(window.ids)


def test_everything_is_read(engine: CausalOnnxEngine) -> None:
    made = engine.tokenize(Conversation.of("word " * 3000), policy.load("minimal"))
    assert len(made.windows) > 3
    assert made.tokens_seen == made.tokens_total > 3000
    assert made.windows[0].start == 0
    assert made.windows[-1].end == len("word " * 3000)


def test_a_policy_that_fills_the_window_is_refused(engine: CausalOnnxEngine) -> None:
    with pytest.raises(PolicyError, match="leaves 0 for a conversation"):
        engine.tokenize(CHATS[0], policy.load("mlcommons"))


def test_a_model_that_does_not_know_the_words_is_an_error(tmp_path: Path) -> None:
    untrained = open_engine(open_bundle(make_bundle(tmp_path / "bundle", words=0.0)))
    windows = untrained.tokenize(CHATS[0], policy.load("minimal")).windows
    (error,) = untrained.score(windows)
    assert isinstance(error, EngineError)
    assert re.search(r"is 0\.\d+, must be >= 0.5", str(error))
    told = open_engine(open_bundle(make_bundle(tmp_path / "told", words=0.0, least_label_mass=0.0)))
    assert isinstance(told.score(windows)[0], Score)


def test_a_window_of_low_label_mass_fails_alone(root: Path, engine: CausalOnnxEngine, tmp_path: Path) -> None:
    rules = policy.load("minimal")
    windows = [window for chat in CHATS for window in engine.tokenize(chat, rules).windows]
    graph, prompt = engine._graph, engine._prompt
    masses = []
    for window in windows:
        whole = [*prompt.prefix_ids(rules), *window.ids]
        words = [prompt.safe[0], prompt.unsafe[0]]
        log_probs, _ = graph.run([whole], graph.empty, [0], [[len(whole) - 1]], words)
        masses.append(float(np.exp(log_probs[0, 0]).sum()))
    middle = float(np.median(masses))  # half of the windows are below it
    strict = open_engine(open_bundle(make_bundle(tmp_path / "bundle", least_label_mass=middle)))
    found, usual = strict.score(windows), engine.score(windows)
    for mass, score, expected in zip(masses, found, usual, strict=True):
        if abs(mass - middle) < 1e-6:
            continue
        assert isinstance(score, EngineError) == (mass < middle)
        if isinstance(score, Score):
            assert probabilities([score]) == pytest.approx(probabilities([expected]), abs=1e-3)
    assert {type(score) for score in found} == {Score, EngineError}


def test_below_the_floor_categories_share_the_verdict_evenly(tmp_path: Path) -> None:
    rules = policy.load("minimal")
    spread = open_engine(open_bundle(make_bundle(tmp_path / "bundle", category_floor=1.0)))
    score = spread.score(spread.tokenize(CHATS[0], rules).windows)[0]
    assert [sigmoid(z) for z in score.categories] == pytest.approx([sigmoid(score.unsafe) / 2] * 2)


def test_a_tokenizer_that_gives_other_ids_than_at_export_is_refused(tmp_path: Path) -> None:
    folder = make_bundle(tmp_path / "bundle")
    manifest = json.loads((folder / "guard.json").read_text())
    settings = json.loads((folder / "causal.json").read_text())
    settings["safe"] = [7]
    (folder / "causal.json").write_text(json.dumps(settings))
    kept = {key: value for key, value in manifest.items() if key not in ("files", "model", "format")}
    bundle.seal(folder, **kept)
    with pytest.raises(BundleError, match="unlike at export"):
        open_engine(open_bundle(folder))
    (folder / "causal.json").write_text('{"detail": "full"}')
    bundle.seal(folder, **kept)
    with pytest.raises(BundleError, match="not the settings of a causal guard"):
        open_engine(open_bundle(folder))


@pytest.mark.parametrize(
    ("key", "value"),
    [("least_label_mass", 1.5), ("category_floor", 0.0), ("safe", []), ("unsafe", [-1]), ("end", -1), ("head", [])],
)
def test_settings_whose_numbers_cannot_be_are_refused(tmp_path: Path, key: str, value: object) -> None:
    folder = make_bundle(tmp_path / "bundle")
    manifest = json.loads((folder / "guard.json").read_text())
    settings = json.loads((folder / "causal.json").read_text())
    (folder / "causal.json").write_text(json.dumps(settings | {key: value}))
    bundle.seal(folder, **{k: v for k, v in manifest.items() if k not in ("files", "model", "format")})
    with pytest.raises(BundleError, match=rf"causal\.json: {key}.*export the bundle again") as told:
        open_engine(open_bundle(folder))
    assert "\n" not in str(told.value)


def test_another_renderer_names_both_digests(tmp_path: Path) -> None:
    folder = make_bundle(tmp_path / "bundle")
    manifest = json.loads((folder / "guard.json").read_text())
    kept = {key: value for key, value in manifest.items() if key not in ("files", "model", "format")}
    bundle.seal(folder, **{**kept, "renderer": "f" * 64})
    with pytest.raises(BundleError, match="export it again") as told:
        open_engine(open_bundle(folder))
    assert "f" * 64 in str(told.value)
    assert template().digest in str(told.value)


def test_the_moderator_answers(root: Path) -> None:
    verdicts = open_moderator(root).moderate(CHATS)
    assert {verdict.outcome for verdict in verdicts} <= {Outcome.SAFE, Outcome.UNSAFE}
    assert all(verdict.coverage.complete and set(verdict.categories) == {"M1", "M2"} for verdict in verdicts)
    assert all(p <= verdict.p_unsafe + 1e-9 for verdict in verdicts for p in verdict.categories.values())
