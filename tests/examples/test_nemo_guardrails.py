"""NeMo Guardrails: the example's rails around a model, and both formats that its classifiers speak."""

from __future__ import annotations

import pytest

from tests.examples.conftest import python_with, run
from tests.fixtures.served import Process
from tests.fixtures.upstream import SAFE, Upstream

pytestmark = pytest.mark.slow
REFUSED = "I'm sorry, I can't respond to that."


@pytest.mark.parametrize(
    ("engine", "model", "shown"), [("vllm", "safe", (SAFE, "passed")), ("fms", "short-unsafe", (REFUSED, "passed"))]
)
def test_prompts_and_replies_are_judged(
    upstream: Upstream, process: Process, engine: str, model: str, shown: tuple[str, str]
) -> None:
    python = python_with("nemoguardrails", "langchain_openai")
    variables = {"OPENAI_BASE_URL": upstream.url, "CHAT_MODEL": model, "GUARD_URL": process.url, "GUARD_ENGINE": engine}
    texts = ("hello there", "it violates:S1 now")
    assert run("nemo_guardrails/chat.py", *texts, python=python, **variables) == [*shown, REFUSED, "blocked"]
    assert len(upstream.bodies) == 1


def test_without_a_guard_nothing_is_answered(upstream: Upstream) -> None:
    python = python_with("nemoguardrails", "langchain_openai")
    variables = {"OPENAI_BASE_URL": upstream.url, "CHAT_MODEL": "safe", "GUARD_URL": "http://127.0.0.1:9"}
    told = run("nemo_guardrails/chat.py", "hello there", python=python, **variables)
    assert told == ["I'm sorry, an internal error has occurred.", "blocked"]
    assert upstream.bodies == []
