"""A client in another language, made from the .proto files alone: examples/node_client, with its packages from npm."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from google.rpc import status_pb2

from guard import Conversation, GuardClient
from tests.fixtures.npm import install
from tests.fixtures.served import Process

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "node_client"
PROTOS = (ROOT / "proto", Path(status_pb2.__file__).parents[2])

pytestmark = [pytest.mark.slow, pytest.mark.network]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example with its packages."""
    folder = tmp_path_factory.mktemp("node") / "client"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("node_modules"))
    return install(folder)


def test_calls_batches_streams_and_rewards(folder: Path, process: Process) -> None:
    command = ["node", "client.js", process.address, *map(str, PROTOS)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    told = {line.pop("what"): line for line in map(json.loads, done.stdout.splitlines())}
    with GuardClient(process.address) as client:
        verdict = client.moderate(Conversation.of("How do I boil an egg?", "Eight minutes."))
        reward = client.score("How do I boil an egg?", "Eight minutes.")
    assert told == {
        "moderate": {"outcome": f"OUTCOME_{verdict.outcome.name}", "p_unsafe": verdict.p_unsafe},
        "batch": {"results": ["OUTCOME_SAFE", "OUTCOME_UNSAFE", 3]},
        "stream": {
            "released": "Put it into boiling water. Wait for eight minutes.",
            "final": True,
            "outcome": "OUTCOME_SAFE",
        },
        "reward": {
            "total": reward.total,
            "components": {name: part.reward for name, part in reward.components.items()},
        },
        "error": {"code": "INVALID_ARGUMENT", "details": told["error"]["details"]},
    }
    assert "at least one message" in told["error"]["details"]
