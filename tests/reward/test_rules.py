"""The five readings on a random model: the same alone and in any batch, refused where a part is another one."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from guard.errors import BundleError, EngineError
from guard.reward import folder as files
from guard.reward.row import plain_messages
from guard.reward.score import RewardCalibration
from guard.train.common.identity import base_digest
from tests.fixtures import tiny_causal, tiny_scorer
from tests.fixtures.lazy import lazy

torch = lazy("torch")
bases = lazy("guard.reward.base")
opening = lazy("guard.reward.open")
rules = lazy("guard.reward.rules")

pytestmark = [
    pytest.mark.slow,  # torch, transformers and peft take seconds to import
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning"),
]
TEXTS = ("Bread.", "I will hit you, and nobody will help.", "The weather is calm " * 9, "1, 2 and 3")
SINGLE = ("bt", "verifier", "verifier-cot", "dpo", "guard-dpo")
PAIRWISE = ("pair", "con-j")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    tiny_causal.write_base(folder)
    return folder


@pytest.fixture(scope="module")
def scorers(base, tmp_path_factory):
    """A scorer of each system, all over one base."""
    names = (*SINGLE, *PAIRWISE)
    folders = [
        tiny_scorer.write_scorer(tmp_path_factory.mktemp(name), base, name, seed) for seed, name in enumerate(names)
    ]
    return dict(zip(names, opening.open_scorers(folders, check=False), strict=True))


@pytest.mark.parametrize("name", SINGLE)
def test_a_score_is_the_same_alone_and_in_any_batch(scorers, name):
    scorer = scorers[name]
    together = [each.raw for each in scorer.score_many([("Why?", text) for text in TEXTS])]
    alone = [scorer.score("Why?", text).raw for text in TEXTS]
    assert together == pytest.approx(alone, abs=1e-4)
    assert len({round(value, 4) for value in alone}) == len(TEXTS)


@pytest.mark.parametrize("name", PAIRWISE)
def test_a_comparison_is_the_same_alone_and_in_any_batch(scorers, name):
    scorer, others = scorers[name], TEXTS[1:] + TEXTS[:1]
    together = scorer.compare_many([("Why?", a, b) for a, b in zip(TEXTS, others, strict=True)])
    for a, b, there in zip(TEXTS, others, together, strict=True):
        assert scorer.compare("Why?", a, b).p == pytest.approx(there.p, abs=1e-4)
        back = scorer.compare("Why?", b, a)
        assert (there.p + back.p, there.gap) == (pytest.approx(1, abs=1e-4), pytest.approx(back.gap, abs=1e-4))


def test_all_adapters_share_one_base(scorers):
    assert len({id(scorer.reader.base) for scorer in scorers.values()}) == 1
    assert len({scorer.info.fingerprint for scorer in scorers.values()}) == len(scorers)


def test_the_implicit_reward_of_the_base_itself_is_zero(scorers):
    reader = scorers["dpo"].reader
    plain = rules.CausalReader(reader.system, reader.base, reader.prompts, None, beta=reader.beta)
    assert [reading.z for reading in plain.singles([((), text) for text in TEXTS])] == pytest.approx([0] * len(TEXTS))


def test_texts_that_are_too_long_lose_their_middles_and_say_so(scorers):
    long = scorers["bt"].score("Why?", "bread and weather " * 900)
    assert 0 < long.coverage < 1
    assert scorers["bt"].score("Why?", "bread").coverage == 1
    guard = scorers["guard-dpo"].score("Why?", "bread and weather " * 300)
    assert guard.coverage == 1  # a guard reads all windows


def test_prompted_models_expect_a_grade(base):
    scorer = opening.prompted(str(base), 700)
    score = scorer.score("Why?", "Bread.")
    assert scorer.info.system == "prompted"
    assert 0 < score.mass < 1
    assert 0 < score.p < 1


def test_another_part_is_refused_by_its_fingerprint(base, tmp_path):
    folder = tiny_scorer.write_scorer(tmp_path / "bt", base)
    other = tiny_scorer.write_scorer(tmp_path / "other", base, "pair", seed=9)
    opening.open_scorer(folder)
    shutil.rmtree(folder / files.ADAPTER)
    shutil.copytree(other / files.ADAPTER, folder / files.ADAPTER)
    with pytest.raises(BundleError, match=r"adapter_model.safetensors has another fingerprint \(was \w{12}, is"):
        opening.open_scorer(folder)
    (other / "head.safetensors").write_bytes(b"none")
    with pytest.raises(BundleError, match=r"head.safetensors has another fingerprint \(was absent"):
        opening.open_scorer(other)
    second = tmp_path / "second"
    tiny_causal.write_base(second, seed=5)
    again = tiny_scorer.write_scorer(tmp_path / "again", base)
    with pytest.raises(BundleError, match="base has another fingerprint"):
        opening.open_scorer(again, second)
    moved = shutil.copytree(base, tmp_path / "moved")
    assert opening.open_scorer(again, moved).info == opening.open_scorer(again).info
    with pytest.raises(BundleError, match="not a reward model"):
        opening.open_scorer(tmp_path)


def test_low_label_mass_is_refused_at_load(base, tmp_path):
    folder = tiny_scorer.write_scorer(tmp_path / "pair", base, "pair", least_label_mass=0.9)
    with pytest.raises(EngineError, match=r"must be >= 0\.9"):
        opening.open_scorer(folder)
    assert opening.open_scorer(folder, check=False).reader.pairwise


def test_tokens_are_drawn_with_their_probabilities():
    probabilities = torch.tensor([0.6, 0.3, 0.1, 0.0])
    logits = (probabilities.log() * 2).expand(4000, -1)
    drawn = bases.Drawn(range(4000), heat=2.0)(None, logits).argmax(-1)
    shares = torch.bincount(drawn, minlength=4) / 4000
    assert shares.tolist() == pytest.approx(probabilities.tolist(), abs=0.03)
    assert bases.Drawn([7, 3], 2.0)(None, logits[:2]).argmax(-1).tolist() == [drawn[7], drawn[3]]


def test_a_folder_is_checked_once(base, tmp_path):
    folder = tiny_scorer.write_scorer(tmp_path / "con-j", base, "con-j", least_label_mass=0.0)
    scorer = opening.open_scorer(folder)
    assert files.is_checked(folder, scorer.info.fingerprint)
    assert not files.is_checked(folder, f"{scorer.info.fingerprint}/bfloat16")
    before = (folder / files.CHECKED).read_bytes()
    opening.open_scorer(folder)
    assert (folder / files.CHECKED).read_bytes() == before
    (folder / files.CHECKED).write_text("{broken")
    opening.open_scorer(folder)
    assert (folder / files.CHECKED).read_bytes() == before


def test_a_base_is_read_once_while_it_stays_as_it_is(tmp_path):
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"one")
    before, stamp = base_digest(tmp_path), weights.stat()
    weights.write_bytes(b"two")
    os.utime(weights, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert base_digest(tmp_path) == before  # known by size and time
    os.utime(weights, ns=(stamp.st_atime_ns, stamp.st_mtime_ns + 1))
    assert base_digest(tmp_path) != before


def test_a_sampled_score_depends_on_its_seed_and_no_other_does(scorers):
    for name, scorer in scorers.items():
        if scorer.reader.pairwise:
            continue
        first, again, other = (scorer.seeded(seed).score("Why?", TEXTS[1]).raw for seed in (1, 1, 2))
        assert first == again
        assert (first != other) == (name == "verifier-cot")


def test_moved_anchors_are_refused_at_load(base, tmp_path):
    folder = tiny_scorer.write_scorer(tmp_path / "bt", base)
    asked = opening.PROBES
    raw = [score.raw for score in opening.open_scorer(folder).score_many(asked)]
    rows = [{"prompt": plain_messages(prompt), "response": text} for prompt, text in asked]
    files.write_calibration(folder, RewardCalibration(2.0, 1.0, anchors=tuple(raw)), rows)
    scorer = opening.open_scorer(folder)
    assert scorer.score(*asked[0]).reward == pytest.approx(min(8, max(-8, 2 * raw[0] + 1)), abs=1e-4)
    files.write_calibration(folder, RewardCalibration(anchors=tuple(value + 50 for value in raw)), rows)
    with pytest.raises(BundleError, match="moved by"):
        opening.open_scorer(folder)
    files.note_check(folder, scorer.info.fingerprint)
    assert opening.open_scorer(folder).info == scorer.info  # checked before with the same anchors, so not asked again
    (folder / files.CALIBRATION).write_text(json.dumps({"slope": "steep"}))
    with pytest.raises(BundleError, match="not a calibration"):
        opening.open_scorer(folder)
