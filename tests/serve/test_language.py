"""Languages that the model was not trained for: said, and never confidently SAFE."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from typing import Any

import httpx
import pytest

from guard import Conversation, Outcome, Policy
from guard.engines.fake import FakeEngine
from guard.errors import DeadlineExceeded
from guard.prompts.window import TokenizedConversation
from guard.serve.core.language import plainly_english
from guard.serve.http.table import TRANSLATORS
from guard.serve.limits import Limits
from tests.fixtures.served import serve
from tests.serve.http.test_app import SOUND
from tests.serve.test_monitor import passes

GERMAN = "Wie backe ich zu Hause ein gutes Brot für meine ganze Familie, und wie lange muss es in den Ofen?"
ENGLISH = "How do I bake a good loaf of bread at home for my whole family, and how long does it take in the oven?"


class English(FakeEngine):
    info = dataclasses.replace(FakeEngine.info, languages=("en-GB",))


def of(text: str) -> Conversation:
    return Conversation.of(text)


async def test_an_unsupported_language_is_incomplete_unless_it_is_flagged() -> None:
    texts = [ENGLISH, GERMAN, f"{GERMAN} violates:S4", "Guten Tag", "12345"]
    async with serve(English()) as served:
        verdicts = [await served.client.moderate(of(text)) for text in texts]
        batch = await served.client.moderate_each([of(text) for text in texts])
    assert [each.outcome.value for each in verdicts] == ["SAFE", "INCOMPLETE", "UNSAFE", "SAFE", "SAFE"]
    assert [getattr(each, "outcome", None) for each in batch] == [each.outcome for each in verdicts]
    said = [each.language and (each.language.code, each.language.supported) for each in verdicts]
    assert said[:3] == [("en", True), ("de", False), ("de", False)]
    assert said[4] is None
    assert [each.unjudged for each in verdicts] == [(), ("language: de",), ("language: de",), (), ()]


async def test_a_language_that_is_not_identified_in_time_is_no_verdict() -> None:
    gate = threading.Event()
    async with serve(English(), Limits(request_seconds=0.3)) as served:
        service = served.running.service
        service._identifying.submit(gate.wait, 20)  # the thread is busy with what others have sent
        began = asyncio.get_running_loop().time()
        late = await asyncio.gather(*(served.client.moderate(of(ENGLISH)) for _ in range(8)), return_exceptions=True)
        assert asyncio.get_running_loop().time() - began < 5
        assert [type(each) for each in late] == [DeadlineExceeded] * 8
        assert service.batcher.items == 0
        gate.set()
        verdict = await served.client.moderate(of(GERMAN))
    assert (verdict.outcome, verdict.unjudged) == (Outcome.INCOMPLETE, ("language: de",))


async def test_a_long_text_that_is_tokenized_delays_no_other_language() -> None:
    reading, gate = threading.Event(), threading.Event()

    class Slow(English):
        def tokenize(self, conversation: Conversation, policy: Policy) -> TokenizedConversation:
            if len(conversation.judged.content) > 3000:
                reading.set()
                assert gate.wait(20)
            return super().tokenize(conversation, policy)

    async with serve(Slow()) as served:
        waiting = asyncio.create_task(served.client.moderate(of(ENGLISH * 40)))
        await asyncio.to_thread(reading.wait, 20)
        verdict = await asyncio.wait_for(served.client.moderate(of(GERMAN)), 10)
        assert verdict.outcome is Outcome.INCOMPLETE
        assert not waiting.done()
        gate.set()
        assert (await waiting).outcome is Outcome.SAFE


async def test_judge_says_the_language_and_judges() -> None:
    async with serve(English(), unsupported_language="judge") as served:
        verdict = await served.client.moderate(of(GERMAN))
    assert (verdict.outcome, verdict.unjudged) == (Outcome.SAFE, ())
    assert verdict.language is not None
    assert (verdict.language.code, verdict.language.supported) == ("de", False)


async def test_a_model_that_states_no_languages_is_not_asked() -> None:
    async with serve() as served:
        assert (await served.client.moderate(of(GERMAN))).language is None


async def test_no_format_lets_it_pass_as_safe() -> None:
    async with (
        serve(English(), rest=True) as served,
        httpx.AsyncClient(base_url=str(served.running.rest_url), trust_env=False, timeout=20) as http,
    ):
        for each in TRANSLATORS:
            answer = await http.post(each.path, json=SOUND[each.path](GERMAN))
            body: Any = answer.json()
            refused = each.path == "/v1/decisions" and body["answers"][0]["type"] == "refusal"
            assert answer.status_code == 422 or refused or not passes(each.path, body), (each.path, answer.text)
            assert "baking" not in answer.text
        page = (await http.get("/metrics")).text
    assert 'guard_languages_total{language="de",supported="false"}' in page


@pytest.mark.parametrize("monitored", [frozenset({"S4"}), None])
async def test_a_watched_policy_does_not_block_a_language(monitored: frozenset[str] | None) -> None:
    async with serve(English(), monitor={"mlcommons": monitored}) as served:
        verdict = await served.client.moderate(of(GERMAN))
    assert verdict.outcome is (Outcome.SAFE if monitored is None else Outcome.INCOMPLETE)
    assert verdict.monitor is not None
    assert verdict.monitor.outcome is Outcome.INCOMPLETE


@pytest.mark.parametrize(
    ("text", "plainly"),
    [
        ("How do I bake bread for my friends when they come to see us?", True),
        ("I want you to tell me what to do.", True),
        (GERMAN, False),
        ("Como faço para assar um pão em casa?", False),
        ("def area(width, height): return width * height", False),
        ("", False),
    ],
)
def test_plain_english_needs_no_identification(text: str, plainly: bool) -> None:
    assert plainly_english(text) is plainly
