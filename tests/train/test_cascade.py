"""`guard cascade`: the band that a share makes, and the bundle from two bundles."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard import Conversation, open_guard
from guard.bundle import open_bundle
from guard.cli import main
from guard.conversation import Target
from guard.engines.cascade import SETTINGS
from guard.engines.registry import open_engine
from guard.errors import BundleError
from guard.train.cascade import StageScores
from guard.verdict import Verdict
from tests.fixtures import tiny_guard


def run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as ended:
        main([*map(str, arguments)])
    return int(ended.value.code or 0)


@given(
    st.lists(st.integers(-50, 50), min_size=4, max_size=60, unique=True),
    st.floats(0.05, 0.95),
    st.integers(-40, 40),
)
def test_the_band_holds_the_share_of_the_rows_that_it_was_asked_for(
    odds: list[int], share: float, threshold: int
) -> None:
    first = np.array(odds, dtype=float)
    scores = StageScores(first, first + 1, first > 0, float(threshold))
    band = scores.band(share)
    joint, asked = scores.joint(band)
    assert asked == pytest.approx(round(share * len(odds)) / len(odds))
    inside = [z for z in odds if band.holds(z)]
    outside = {z for z in odds if not band.holds(z)}
    assert not inside or outside.isdisjoint(range(min(inside), max(inside) + 1)), "the rows nearest to the threshold"
    assert sorted(joint - first) == [0.0] * len(outside) + [0.5] * len(inside)


def test_none_and_all() -> None:
    first = np.array([-1.0, 0.0, 1.0])
    scores = StageScores(first, -first, first > 0, 0.0)
    assert scores.joint(scores.band(0))[1] == 0
    assert scores.joint(scores.band(1))[1] == 1


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with rows, a causal bundle and the cascade of the shipped guard and it."""
    folder = tmp_path_factory.mktemp("cascade")
    rows = [{"prompt": f"How do I water {n} plants?", "label": "safe"} for n in range(24)]
    rows += [{"prompt": f"I will stab you {n} times.", "label": "unsafe", "categories": ["S1"]} for n in range(24)]
    rows += [{**row, "prompt": "Well?", "response": row["prompt"]} for row in rows]
    text = "".join(json.dumps({**row, "split": "dev" if n % 2 else "train"}) + "\n" for n, row in enumerate(rows))
    (folder / "rows.jsonl").write_text(text, encoding="utf-8")
    shutil.copytree(tiny_guard.BUNDLE, folder / "tiny")
    assert run("cascade", folder / "tiny", folder / "both", "--data", folder / "rows.jsonl", "--prompts", "0.25") == 0
    return folder


def test_the_bundle_answers_and_says_who_decided(made: Path) -> None:
    with open_guard(made / "both") as guard:
        answers = guard.moderate_each(
            [Conversation.of("What is a good name for a hen?"), Conversation.of("Well?", "A hen is a bird.")]
        )
        names = [answer.decided_by for answer in answers if isinstance(answer, Verdict)]
        assert guard.info.kind == "cascade"
    assert names == ["mini-en", f"mini-en+{open_bundle(made / 'tiny').manifest.name}"]


def test_the_curve_goes_from_one_guard_to_both(made: Path) -> None:
    curve = json.loads((made / "both" / "curve.json").read_text(encoding="utf-8"))
    for target in Target:
        points = curve[target.value]["points"]
        assert [points[0]["share"], points[-1]["share"]] == [0, 1]
        assert all(one["cpu_ms"] <= two["cpu_ms"] for one, two in pairwise(points))
    assert curve["response"]["chosen"]["share"] == 1
    assert curve["prompt"]["chosen"]["share"] == pytest.approx(0.25, abs=0.05)


def test_a_stage_that_is_another_model_now_is_refused(made: Path, tmp_path: Path) -> None:
    for name in ("tiny", "both"):
        shutil.copytree(made / name, tmp_path / name)
    bundle = open_bundle(tmp_path / "both")
    settings = json.loads((bundle.root / SETTINGS).read_text(encoding="utf-8"))
    assert settings["first"]["at"] == "default"
    assert settings["second"]["at"] == "../tiny", "both can be moved together"
    open_engine(bundle).close()
    shutil.rmtree(tmp_path / "tiny")
    with pytest.raises(BundleError, match="no such folder"):
        open_engine(bundle)
    shutil.copytree(open_bundle().root, tmp_path / "tiny")
    with pytest.raises(BundleError, match=r"fitted with model .*, but \.\./tiny is"):
        open_engine(bundle)


def test_a_damaged_cascade_is_refused(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "both", tmp_path / "both")
    (tmp_path / "both" / SETTINGS).write_text("{}", encoding="utf-8")
    with pytest.raises(BundleError, match="damaged"):
        open_bundle(tmp_path / "both")


def test_mistakes_are_named_and_leave_nothing(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = ("--data", made / "rows.jsonl")
    assert run("cascade", made / "tiny", made / "both", *data) == 3
    assert "already exists" in capsys.readouterr().err
    assert run("cascade", made / "both", tmp_path / "out", *data) == 3
    assert "is a cascade; a stage must be a guard of one model" in capsys.readouterr().err
    assert run("cascade", made / "tiny", tmp_path / "out", "--data", tmp_path / "none") == 2
    assert not list(tmp_path.iterdir())
