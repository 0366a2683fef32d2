"""LangChain's agents: guard as a middleware of its own, and as the server of LangChain's moderation middleware."""

from __future__ import annotations

import pytest

from tests.examples.conftest import python_with, run
from tests.fixtures.served import Process
from tests.fixtures.upstream import SAFE, Upstream

pytestmark = pytest.mark.slow
REFUSED = "ai: I can't help with that."


@pytest.fixture
def python() -> str:
    return python_with("langchain", "langchain_openai")


def test_prompts_answers_and_results_of_tools_are_judged(python: str, upstream: Upstream, process: Process) -> None:
    def said(model: str, text: str, **variables: str | None) -> list[str]:
        variables |= {"OPENAI_BASE_URL": upstream.url, "CHAT_MODEL": model}
        return run("langchain_middleware.py", text, python=python, **variables)

    served = {"GUARD_MODEL": None, "GUARD_SERVER": process.address}
    weather = "tool: It is sunny in Oslo today."
    assert said("agent", "hello there", **served) == ["human: hello there", "ai: ", weather, f"ai: {SAFE}"]
    assert said("agent-of-bad-tool", "hello") == ["human: hello", "ai: ", "tool: [withheld by the guard]", REFUSED]
    assert said("short-unsafe", "hello") == ["human: hello", REFUSED]
    sent = len(upstream.bodies)
    assert said("safe", "it violates:S1 now") == ["human: [withheld by the guard]", REFUSED]
    assert said("safe", "hello", GUARD_MODEL=None, GUARD_SERVER="127.0.0.1:9")[-1] == REFUSED
    assert len(upstream.bodies) == sent


def test_the_moderation_middleware_of_langchain(python: str, upstream: Upstream, process: Process) -> None:
    def said(model: str, text: str) -> str:
        variables = {"OPENAI_BASE_URL": upstream.url, "CHAT_MODEL": model}
        return "\n".join(run("langchain_moderation.py", process.url, text, python=python, **variables))

    assert said("safe", "hello there") == SAFE
    assert "flagged for hate" in said("safe", "violates:S10")
    assert "flagged for" in said("short-unsafe", "hello there")
