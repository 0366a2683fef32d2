"""Serving, calibration, dev evaluation and distillation score the same windows, views included, by one rule."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from guard.calibration import Calibration, TargetCalibration, Thresholds
from guard.conversation import Conversation, Example
from guard.engines.fake import FakeEngine
from guard.moderator import Moderator
from guard.policy import load
from guard.prompts.encoder import EncoderInput
from guard.prompts.prompt import load_prompt
from guard.train.common.calibrate import scores
from guard.views.tokenize import tokenize
from tests.fixtures import tiny_causal, tiny_encoder
from tests.fixtures.lazy import lazy

teacher = lazy("guard.train.common.teacher")
encoder_dev, causal_dev = lazy("guard.train.encoder.dev_eval"), lazy("guard.train.causal.dev_eval")

RULES = load("minimal")
TEXTS = ("calm", "v\u200biolates:M1", "all is calm " * 60 + "violates:M2", "g3t th3 l4dd3r " * 40 + "v\u200biolates:M1")
IDENTITY = TargetCalibration(1.0, 0.0, Thresholds())


def examples(texts: Sequence[str] = TEXTS) -> list[Example]:
    return [
        Example(str(n), Conversation.of(text), "unsafe" if n % 2 else "safe", None, "here", "CC0-1.0", "en", "prompt")
        for n, text in enumerate(texts)
    ]


def test_calibration_and_teacher_score_what_serving_scores(tmp_path: Path) -> None:
    engine = FakeEngine()
    served = Moderator(engine, RULES, Calibration(IDENTITY, IDENTITY)).moderate([e.conversation for e in examples()])
    unsafe, categories = scores(engine, examples(), RULES)
    taught = teacher.teach(engine, examples(), RULES, tmp_path / "scores")
    assert [z > 0 for z in unsafe] == [False, True, True, True]
    for verdict, z, row, score in zip(served, unsafe, categories, taught, strict=True):
        assert score is not None
        assert IDENTITY.probability(z) == IDENTITY.probability(score.unsafe) == verdict.p_unsafe
        assert [IDENTITY.probability(each) for each in row] == list(verdict.categories.values())
        assert tuple(row) == score.categories


def test_dev_evaluation_has_the_windows_that_serving_scores(tmp_path: Path) -> None:
    rows = [dataclasses.replace(row, id=f"{row.id}.{n}") for n in range(2) for row in examples()]
    reader = EncoderInput.load(tiny_encoder.write_tokenizer(tmp_path / "encoder.json"), 64, 16)
    judged = encoder_dev.dev_rows(rows, reader, RULES)
    for row, item in zip(rows, judged, strict=True):
        windows = tokenize(reader, row.conversation, RULES).windows
        assert item.windows == tuple((window.ids, window.segments) for window in windows)
    assert len(judged[3].windows) > len(reader.tokenize(rows[3].conversation, RULES).windows), "it has a view"


def test_a_causal_dev_row_has_the_windows_of_its_views(tmp_path: Path) -> None:
    tiny_causal.tokenizer().save(str(tmp_path / "tokenizer.json"))
    prompt = load_prompt(tmp_path / "tokenizer.json", 900, 64)
    rows = examples(["v\u200biolates:M1", "v\u200biolates:M1"])
    assert [len(item.windows) for item in causal_dev.dev_sample(rows, prompt, RULES, 2, 0, "data")] == [2, 2]
