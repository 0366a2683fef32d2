"""examples/openai_agents.py"""

from __future__ import annotations

import pytest

from tests.examples.conftest import python_with, run
from tests.fixtures.served import Process
from tests.fixtures.upstream import SAFE, Upstream

pytestmark = pytest.mark.slow


def test_prompts_replies_and_results_of_tools_are_judged(upstream: Upstream, process: Process) -> None:
    python = python_with("agents")

    def said(model: str, text: str, target: str = process.address) -> str:
        variables = {"OPENAI_BASE_URL": upstream.url, "CHAT_MODEL": model}
        return "\n".join(run("openai_agents.py", target, text, python=python, **variables))

    assert said("agent", "hello there") == SAFE
    assert upstream.bodies[-1]["messages"][-1]["content"] == "It is sunny in Oslo today."
    assert said("agent-of-bad-tool", "hello there") == SAFE
    assert upstream.bodies[-1]["messages"][-1]["content"] == "The tool's result was withheld."
    assert said("short-unsafe", "hello there") == "[the reply was refused]"
    sent = len(upstream.bodies)
    assert said("safe", "it violates:S1 now") == "[the prompt was refused]"
    assert said("safe", "hello there", target="127.0.0.1:9") == "[the prompt was refused]"
    assert len(upstream.bodies) == sent
