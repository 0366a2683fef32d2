"""OpenAI's client as its users install it: before `guard serve`, and wrapped by guard.chat."""

from __future__ import annotations

import openai
import pytest

from tests.examples.conftest import run
from tests.fixtures.served import Process
from tests.fixtures.upstream import HARM, SAFE, SENTENCE, Upstream


@pytest.mark.slow
def test_moderations_and_decisions(process: Process) -> None:
    told = run("openai_moderations.py", process.url, "hello", "violates:S4 violates:Q1")
    assert told[:2] == ["moderations: passed", "moderations: flagged sexual/minors S4"]
    names, values = zip(*(line.removeprefix("decisions: ").split() for line in told[2:]), strict=True)
    assert names == ("policy", "rivals") * 2
    assert [float(value) > 0.5 for value in values] == [False, False, True, True]


def test_what_the_client_parses(process: Process) -> None:
    with openai.OpenAI(base_url=f"{process.url}/v1", api_key="none", max_retries=0) as client:
        one, two = client.moderations.create(input=["hello", "violates:S4"], model="omni-moderation-latest").results
        assert (one.flagged, two.flagged, two.categories.sexual_minors) == (False, True, True)
        (parts,) = client.moderations.create(input=[{"type": "text", "text": "violates:S4"}]).results
        assert parts.category_scores.sexual_minors > 0.9
        assert parts.category_applied_input_types.harassment == []
        decision = client.decisions.create(
            model="guard",
            input=[{"role": "user", "content": "violates:Q1"}],
            questions=[
                {"type": "predicate", "name": "rude", "instructions": "Is it rude?"},
                {"type": "choice", "instructions": "Who asks?", "choices": [{"value": True}, {"value": "other"}]},
                {"type": "score", "instructions": "How bad?", "levels": [{"label": "fine"}, {"label": "bad"}]},
                {"type": "predicate", "instructions": "policy:mlcommons"},
            ],
        )
    rude, who, bad, native = decision.answers
    assert (rude.type, who.type, bad.type, native.type) == ("predicate", "choice", "score", "predicate")
    assert rude.probability > 0.9 > 0.1 > native.probability


@pytest.mark.slow
def test_the_wrapper(upstream: Upstream) -> None:
    def said(model: str, text: str) -> str:
        return "\n".join(run("openai_wrapper.py", text, OPENAI_BASE_URL=upstream.url, CHAT_MODEL=model))

    assert said("safe", "hello there") == f"{SAFE}\n[stop]\n{SAFE}\n[stop]"
    unsafe = said("unsafe", "hello there")
    assert unsafe.count("I can't help with that.\n[content_filter]") == 2
    assert SENTENCE.strip() in unsafe
    assert HARM not in unsafe
    sent = len(upstream.bodies)
    assert said("safe", "it violates:S1 now").count("[content_filter]") == 2
    assert len(upstream.bodies) == sent
