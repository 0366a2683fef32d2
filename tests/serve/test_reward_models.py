"""`guard serve --reward NAME=FOLDER`: reward models on one base, as they score in process."""

from __future__ import annotations

from pathlib import Path

import pytest

from guard import Conversation, GuardClient, Outcome
from guard.cli import main
from tests.fixtures import tiny_causal, tiny_scorer
from tests.fixtures.lazy import lazy
from tests.fixtures.served import started

opening = lazy("guard.reward.open")

pytestmark = [
    pytest.mark.slow,  # torch, transformers and peft take seconds to import
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning"),
]
ANSWERS = ("Bread.", "I will hit you, and nobody will help.", "The weather is calm " * 9)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A scalar and a pairwise model over one base."""
    base = tmp_path_factory.mktemp("base")
    tiny_causal.write_base(base)
    systems = {"helpful": "bt", "better": "pair"}
    return {
        name: tiny_scorer.write_scorer(tmp_path_factory.mktemp(name), base, system) for name, system in systems.items()
    }


def test_models_in_folders_score_as_they_do_in_process(folders: dict[str, Path], tmp_path: Path) -> None:
    local = dict(zip(folders, opening.open_scorers(list(folders.values()), check=False), strict=True))
    options = [f"--reward={name}={folder}" for name, folder in folders.items()]
    with started(tmp_path / "stderr", *options) as process, GuardClient(process.address) as client:
        assert client.moderate(Conversation.of("How do I bake bread?")).outcome is Outcome.SAFE
        for answer in ANSWERS:
            reward = client.score("Why?", answer)
            assert list(reward.components) == ["safe", "not_refusal", "helpful"]
            assert reward.components["helpful"].reward == pytest.approx(
                local["helpful"].score("Why?", answer).reward, abs=1e-4
            )
            assert reward.components["helpful"].model == local["helpful"].info.fingerprint
        for name in folders:
            there = client.compare("Why?", ANSWERS[0], ANSWERS[1], component=name)
            assert there.p == pytest.approx(local[name].compare("Why?", *ANSWERS[:2]).p, abs=1e-4)
        process.popen.terminate()
        assert process.popen.wait(20) == 0
    assert "reward model better has no weight" in process.errors.read_text()


def test_check_config_reads_what_a_folder_says(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder, code, told in ((folders["helpful"], 0, "valid"), (tmp_path, 3, "not a reward model")):
        with pytest.raises(SystemExit) as ended:
            main(["serve", "--model", "fake", "--check-config", f"--reward=helpful={folder}"])
        captured = capsys.readouterr()
        assert (int(ended.value.code or 0), told in captured.out + captured.err) == (code, True)
