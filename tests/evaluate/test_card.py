"""The model card: what it must say, and that it is the same every time."""

from pathlib import Path

import pytest

from guard.bundle import Bundle, Manifest
from guard.calibration import Calibration, TargetCalibration, Thresholds
from guard.conversation import Conversation
from guard.digest import file_digest
from guard.engines.fake import FakeEngine
from guard.errors import DataError
from guard.evaluate import peers, report
from guard.evaluate.card import model_card, training_manifest
from guard.evaluate.suite import Case, Suite
from guard.moderator import Moderator
from guard.policy import load

MINIMAL = load("minimal")


def bundle(**fields):
    manifest = Manifest(
        format=1,
        name="my-guard",
        kind="mini",
        base="a small encoder",
        policy=MINIMAL.digest,
        renderer="layout",
        max_tokens=128,
        overlap=32,
        files={},
        packages={"numpy": "2.0"},
        parity={"torch_vs_onnx": 0.00012},
        model=FakeEngine.info.digest,
        **{"data": "d" * 64, **fields},
    )
    prompts = TargetCalibration(0.9, -0.1, Thresholds(0.11, 0.22, 0.33), {"M2": Thresholds(0.44, 0.55, 0.66)})
    return Bundle(Path("my-guard"), manifest, MINIMAL, Calibration(prompt=prompts))


def told(command="guard eval set --model my-guard"):
    cases = (
        Case(Conversation.of("violates:M1 canary"), "unsafe", {"M1": True, "M2": False}, "odd | part"),
        Case(Conversation.of("canary"), "safe", {"M1": False, "M2": False}, "other"),
    )
    moderator = Moderator(FakeEngine(), MINIMAL)
    suite = Suite("set", "A set", "https://example.org/set", "CC0-1.0", "ab" * 32, cases)
    result = report.measure(suite, report.moderate_cases(moderator, cases), MINIMAL)
    return report.build_report(moderator.info, [result], command)


def source(name, kept):
    return {
        "name": name,
        "title": f"The set {name}",
        "upstream": f"https://example.org/{name}",
        "commit": "0123456789abcdef",
        "licence": "MIT",
        "attribution": "Its authors",
        "role": "train",
        "kept": kept,
    }


DATA = {
    "config_digest": "c" * 64,
    "rows": {"read": 30, "kept": 20, "dropped": {"repeat": 10}},
    "splits": {"train": {"languages": {"de/safe": 1, "en/safe": 9, "en/unsafe": 8}}},
    "sources": [source("catqa", 12), source("unheard_of", 8), source("unused", 0)],
}


def test_the_card_tells_what_it_must():
    card = model_card(bundle(), [told()], DATA)
    for words in (
        "# my-guard\n",
        "## Intended use",
        "human review",
        "a small encoder",
        "numpy 2.0",
        "| parity: torch_vs_onnx | 0.00012 |",
        f"`{MINIMAL.digest}`",
        "| `catqa` | The set catqa | 12 | train | MIT | Its authors | https://example.org/catqa at `0123456789ab` |",
        "- `catqa`: Every question is meant to be harmful.",
        "en 17, de 1",
        "| **set** | 2 | 1 | 1.000 |",
        "| odd \\| part | 1 | 1 |",
        "| M1 | 1 | 1.000 | 1.000 | 2 | 1.000 | 1.000 |",
        "https://example.org/set, CC0-1.0, sha256 `abab",
        "| prompt | unsafe | 0.110 | 0.220 | 0.330 |",
        "| prompt | M2 | 0.440 | 0.550 | 0.660 |",
        "| response | unsafe | 0.500 | 0.500 | 0.500 |",
        "guard export RUN my-guard",
        "guard eval set --model my-guard",
    ):
        assert words in card, words
    assert "unused" not in card
    assert "canary" not in card


def test_equal_inputs_give_equal_cards():
    assert model_card(bundle(), [told()], DATA) == model_card(bundle(), [told()], DATA)


def test_a_card_of_several_reports_holds_them_all():
    card = model_card(bundle(), [told("guard eval one"), told("guard eval two")], DATA)
    assert card.count("| **set** |") == 2
    assert card.count("## Evaluation") == 1
    assert card.count("guard eval two") == 2  # above its table, and among the commands


def test_what_is_not_known_is_said():
    card = model_card(bundle(data=None), [], None)
    assert "Its manifest was not at hand" in card
    assert "| data digest | unknown |" in card
    assert "## Evaluation" not in card


def test_the_numbers_of_another_model_are_refused():
    with pytest.raises(DataError, match="evaluate this bundle"):
        model_card(bundle(), [told() | {"model": "e" * 64}], DATA)


def test_the_manifest_of_the_training_data_is_found_by_its_digest(tmp_path):
    for name in ("other", "mine", "empty"):
        (tmp_path / name).mkdir()
    (tmp_path / "other" / "manifest.json").write_text('{"rows": 1}', encoding="utf-8")
    (tmp_path / "mine" / "manifest.json").write_text('{"rows": 2}', encoding="utf-8")
    mine = bundle(data=file_digest(tmp_path / "mine" / "manifest.json"))
    folders = [tmp_path / "empty", tmp_path / "other", tmp_path / "mine"]
    assert training_manifest(mine, folders) == {"rows": 2}
    assert training_manifest(mine, folders[:2]) is None
    assert training_manifest(bundle(data=None), folders) is None


def test_published_scores_stand_apart_from_those_of_the_guard():
    made = told()
    made["results"][0]["name"] = "toxicchat"
    made["peers"] = peers.to_json(peers.published(["toxicchat"]))
    card = model_card(bundle(), [made], DATA)
    assert "Published F1 of other guards, not measured here" in card
    assert "| **this guard** | measured here | 1.000 |" in card
    assert "| Llama Guard 3 8B | Qwen: Qwen3Guard technical report, tables 2 and 3 | 0.538 |" in card
    assert "not measured here" not in model_card(bundle(), [told()], DATA)
