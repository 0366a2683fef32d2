"""The service on Ray Serve, run on a local Ray and asked by guard's own client."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from guard import Conversation, GuardClient, Outcome, Verdict
from guard.errors import InvalidInput, UnknownPolicy
from tests.deploy.test_envoy import free_port
from tests.fixtures.served import started

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[2] / "deploy" / "ray_serve.py"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pytest.importorskip("ray.serve", exc_type=ImportError)
    folder = tmp_path_factory.mktemp("ray")
    (folder / "serve.yaml").write_text("{model: fake, threads: 1, limits: {conversation_characters: 5000}}\n")
    ports = [free_port(), free_port()]
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    command = [sys.executable, str(SCRIPT), "--config", str(folder / "serve.yaml")]
    command += ["--port", str(ports[0]), "--http-port", str(ports[1])]
    with started(folder / "stderr", command=command) as process:
        yield process.address
        process.popen.send_signal(signal.SIGTERM)
        assert process.popen.wait(60) == 0


def test_guards_client_asks_it_as_it_asks_guard_serve(address: str) -> None:
    with GuardClient(address) as client:
        assert client.info.policy.id == "mlcommons"
        assert client.info.limits.conversation_characters == 5000
        assert client.moderate(Conversation.of("How do I bake bread?")).outcome is Outcome.SAFE
        texts = ["How do I bake bread?", "violates:S4", "a" * 5001]
        answers = list(client.moderate_each([Conversation.of(text) for text in texts]))
        outcomes = [answer.outcome if isinstance(answer, Verdict) else type(answer) for answer in answers]
        assert outcomes[:2] == [Outcome.SAFE, Outcome.UNSAFE]
        assert issubclass(outcomes[2], InvalidInput)


def test_errors_have_the_details_that_guard_serve_sends(address: str) -> None:
    with GuardClient(address, policy="no-such-policy") as client, pytest.raises(UnknownPolicy):
        client.moderate(Conversation.of("How do I bake bread?"))


def test_replies_are_judged_while_they_are_written(address: str) -> None:
    with GuardClient(address) as client:
        *_, last = client.stream(["Put it ", "into boiling water."], context=[])
    assert last.final
    assert last.answer.outcome is Outcome.SAFE
