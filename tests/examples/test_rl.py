"""examples/openrlhf and examples/verl inside the frameworks' own reward code."""

from __future__ import annotations

import json
import re
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

from guard.rewards import make_reward
from tests.examples.conftest import EXAMPLES, environment, python_with
from tests.fixtures.served import Process

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent
REWARD = make_reward(model="fake", policy="mlcommons")


def printed(python: str, script: str, *arguments: str) -> list[dict]:
    command = [python, str(HERE / script), *arguments]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-4000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def options(script: str) -> list[str]:
    """The lines of the options of a script."""
    (block,) = re.findall(r"options=\(\n(.*?)\n\)", (EXAMPLES / script).read_text(), re.DOTALL)
    return [line.strip().split(" #")[0] for line in block.splitlines()]


def test_openrlhf_by_url_by_file_and_as_an_agent(process: Process) -> None:
    python = python_with("openrlhf", "aiohttp", "torch")
    told = printed(python, "openrlhf_rollouts.py", process.url, str(EXAMPLES / "openrlhf"))
    assert [(each["way"], each["answer"]) for each in told] == [
        (way, answer) for way in ("url", "py", "agent") for answer in ("Hello there!", "violates:S1")
    ]
    for each in told:
        (expected,) = REWARD.score([("Hi", each["answer"])])
        assert each["reward"] == each["score"] == pytest.approx([expected.total], abs=1e-3)
        assert each["logs"]["safe"] == pytest.approx([expected.components["safe"]], abs=1e-3)
        assert {"safe", "not_refusal"} <= set(each["logs"])


def test_openrlhf_has_the_options_of_the_script() -> None:
    python_with("openrlhf")
    found = find_spec("openrlhf")
    if found is None or not found.submodule_search_locations:
        pytest.skip("openrlhf is not importable here")
    command_line = (Path(found.submodule_search_locations[0]) / "cli" / "train_ppo_ray.py").read_text()
    for option in options("openrlhf/train.sh"):
        assert f'"{option.split()[0]}"' in command_line


def test_verl_by_its_reward_manager() -> None:
    python = python_with("verl", "omegaconf", "tensordict", "torch")
    values = {"$MODEL": "m", "$ROWS": "r", "${HELD_OUT:-$ROWS}": "r", "$here": str(EXAMPLES / "verl")}
    given = []
    for option in options("verl/train.sh"):
        for name, value in values.items():
            option = option.replace(f'"{name}"', value).replace(name, value)
        given.append(option.replace('"', ""))
    told = printed(python, "verl_rewards.py", *given)
    assert [set(each["reward_extra_info"]) for each in told] == [set(told[0]["reward_extra_info"])] * 3
    for answer, each in zip(("Hello there!", "violates:S1", ""), told, strict=True):
        assert each["reward_score"] == pytest.approx(REWARD.verl("mine", answer)["score"])
    assert told[0]["reward_score"] > 0 > told[1]["reward_score"]
