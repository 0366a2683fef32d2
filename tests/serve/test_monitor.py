"""Monitored categories block nowhere, whatever the scores; what they would have done is returned and counted."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard import Conversation, Outcome
from guard.calibration import Calibration
from guard.conversation import Message, Target
from guard.engines.fake import FakeEngine
from guard.errors import ConfigError
from guard.moderator import Moderator
from guard.policy import load
from guard.prompts.window import Score, Window
from guard.serve.client import is_blocked
from guard.serve.config import Given, settings
from guard.serve.http.table import TRANSLATORS
from guard.serve.start import open_served
from guard.verdict import any_of, to_json
from tests.fixtures.served import serve
from tests.serve.http.test_app import SOUND

BAD = "so violates:S4"
P = st.floats(-9, 9)
FOUR = load("mlcommons").without(load("mlcommons").codes[4:])


class Scripted(FakeEngine):
    """Scores every window alike: each category as it is told, and the verdict as any of those of the policy."""

    def __init__(self, odds: Mapping[str, float]) -> None:
        self.odds = odds

    def _score(self, window: Window) -> Score:
        odds = tuple(self.odds[code] for code in window.policy.codes)
        return Score(any_of(odds), odds)


@given(
    st.fixed_dictionaries(dict.fromkeys(FOUR.codes, P)),
    st.fixed_dictionaries(dict.fromkeys(FOUR.codes, st.floats(0.01, 0.99))),
    st.floats(0.01, 0.99),
    st.frozensets(st.sampled_from(FOUR.codes)),
    st.booleans(),
)
def test_what_is_watched_counts_for_nothing(
    odds: Mapping[str, float], cuts: Mapping[str, float], cut: float, watched: frozenset[str], image: bool
) -> None:
    """The verdict is that of the policy without these categories, also where all together would reach a threshold."""
    policy = dataclasses.replace(
        FOUR,
        threshold=cut,
        categories=tuple(dataclasses.replace(each, threshold=cuts[each.code]) for each in FOUR.categories),
    )
    message = Message("user", "hello", ("content[1]: image_url",) if image else ())
    plain = Moderator(Scripted(odds), policy)
    (watching,) = dataclasses.replace(plain, monitor={policy.id: watched}).moderate([Conversation((message,))])
    (all_enforced,) = plain.moderate([Conversation((message,))])
    assert (watching.p_unsafe, watching.categories) == (all_enforced.p_unsafe, all_enforced.categories)
    if not watched:
        assert (watching.outcome, watching.flagged, watching.monitor) == (
            all_enforced.outcome,
            all_enforced.flagged,
            None,
        )
        return
    assert watching.monitor is not None
    assert (watching.monitor.outcome, watching.monitor.flagged) == (all_enforced.outcome, all_enforced.flagged)
    assert {*watching.monitor.codes} == watched
    if watched == {*policy.codes}:
        assert (watching.outcome, watching.flagged, watching.p_enforced) == (Outcome.SAFE, (), 0)
        return
    (without,) = plain.moderate([Conversation((message,))], exclude=watched)
    assert (watching.outcome, watching.flagged) == (without.outcome, without.flagged)
    assert watching.p_enforced == pytest.approx(without.p_unsafe)


async def test_what_is_watched_does_not_make_a_stream_stop_sooner() -> None:
    """S1 is unsafe by a little, S4 without any doubt: a single check that is sure would stop the stream."""
    odds = {**dict.fromkeys(load("mlcommons").codes, -20.0), "S1": 0.2, "S4": 9.0}

    async def deltas() -> AsyncIterator[str]:
        for _ in range(9):
            yield "A sentence that is long enough. "

    async def checks(**options: Any) -> int:
        async with serve(Scripted(odds), **options) as served:
            return len([one async for one in served.client.stream(deltas(), (Message("user", "hi"),))])

    assert await checks() == 1
    assert await checks(monitor={"mlcommons": frozenset({"S4"})}) == 3


async def test_what_would_be_is_returned_and_counted() -> None:
    async with serve(rest=True, monitor={"mlcommons": frozenset({"S4"})}) as served:
        verdict = await served.client.moderate(Conversation.of(BAD))
        assert (verdict.outcome, verdict.flagged) == (Outcome.SAFE, ())
        assert not is_blocked(verdict)
        assert verdict.monitor is not None
        assert (verdict.monitor.codes, verdict.monitor.outcome, verdict.monitor.flagged) == (
            ("S4",),
            Outcome.UNSAFE,
            ("S4",),
        )
        assert verdict.p_unsafe > verdict.threshold > verdict.p_enforced
        both = await served.client.moderate(Conversation.of(f"{BAD} violates:S1"))
        assert (both.outcome, both.flagged, both.monitor and both.monitor.flagged) == (
            Outcome.UNSAFE,
            ("S1",),
            ("S1", "S4"),
        )
        assert to_json(both)["monitor"] == {"codes": ["S4"], "outcome": "UNSAFE", "flagged": ["S1", "S4"]} | {
            "p_enforced": round(both.p_enforced, 6)
        }
        other = await served.client.moderate(Conversation.of(BAD), policy="llama-guard-1")
        assert other.monitor is None
        async with httpx.AsyncClient(base_url=str(served.running.rest_url), trust_env=False, timeout=20) as http:
            page = (await http.get("/metrics")).text
    assert 'guard_would_flag_total{category="S4"} 2.0' in page
    assert 'guard_flagged_total{category="S1"} 1.0' in page
    assert 'guard_flagged_total{category="S4"}' not in page


def passes(path: str, body: Any) -> bool:
    """Whether a client of the format lets the text pass."""
    match path:
        case "/v1/check":
            return bool(body["outcome"] == "SAFE")
        case "/v1/moderations":
            return not body["results"][0]["flagged"] and not any(body["results"][0]["categories"].values())
        case "/v1/decisions":
            return all(each["type"] == "predicate" and each["probability"] < 0.5 for each in body["answers"])
        case "/v1/systemone":
            return all(each["noul"] < 0.5 for each in body["answers"].values())
        case "/beta/litellm_basic_guardrail_api":
            return bool(body["action"] == "NONE")
        case "/classify":
            return body["data"][0]["label"] == "safe" and body["data"][0]["probs"][1] < 0.5
        case "/api/v1/text/contents":
            return bool(body == [[]])
        case "/v1/checks":
            return bool(body["status"] == "passed")
    raise AssertionError(path)


def requests(path: str, text: str) -> list[dict[str, Any]]:
    sent = SOUND[path](text)
    if path == "/v1/decisions":
        names = ("policy:mlcommons", "policy:mlcommons#S4")
        sent["questions"] = [{"type": "predicate", "instructions": name} for name in names]
    if path == "/v1/systemone":
        sent["questions"] = {"all": {"type": "noul", "instructions": "policy:mlcommons"}}
    if path == "/api/v1/text/contents":
        return [sent, sent | {"detector_params": {"threshold": 0.3}}]
    return [sent]


@pytest.mark.parametrize(
    "monitored", [{"mlcommons": frozenset({"S4"})}, {"mlcommons": None}], ids=["category", "policy"]
)
async def test_no_format_blocks(monitored: Any) -> None:
    texts = [BAD] if monitored["mlcommons"] else [BAD, f"{BAD} violates:S1"]
    async with (
        serve(rest=True, monitor=monitored) as served,
        httpx.AsyncClient(base_url=str(served.running.rest_url), trust_env=False, timeout=20) as http,
    ):
        for each in TRANSLATORS:
            for text in texts:
                for sent in requests(each.path, text):
                    answer = await http.post(each.path, json=sent)
                    assert answer.status_code == 200, answer.text
                    assert passes(each.path, answer.json()), (each.path, answer.text)
    async with (
        serve(rest=True) as served,
        httpx.AsyncClient(base_url=str(served.running.rest_url), trust_env=False, timeout=20) as http,
    ):
        for each in TRANSLATORS:
            for sent in requests(each.path, BAD):
                assert not passes(each.path, (await http.post(each.path, json=sent)).json()), each.path


@pytest.mark.parametrize("monitored", [frozenset({"S4"}), None])
async def test_nothing_is_held_back_of_a_stream(monitored: frozenset[str] | None) -> None:
    reply = f"A sentence that is long enough. {BAD} and goes on. Another sentence that is long enough. "

    async def deltas() -> AsyncIterator[str]:
        for piece in reply.split(" "):
            yield f"{piece} "

    async def released(**options: Any) -> str:
        async with serve(**options) as served:
            return "".join([one.released async for one in served.client.stream(deltas(), (Message("user", "hi"),))])

    assert (await released(monitor={"mlcommons": monitored})).strip() == reply.strip()
    assert BAD not in await released()


async def test_a_watched_policy_lets_pass_what_cannot_be_judged() -> None:
    image = Conversation((Message("user", "look", ("messages[0].content[1]: image_url",)),))
    async with serve(monitor={"mlcommons": None}) as served:
        verdict = await served.client.moderate(image)
    assert verdict.outcome is Outcome.SAFE
    assert verdict.monitor is not None
    assert (verdict.monitor.outcome, verdict.monitor.codes) == (Outcome.INCOMPLETE, load("mlcommons").codes)


def test_excluded_categories_are_not_watched() -> None:
    moderator = Moderator(
        FakeEngine(), load("mlcommons"), Calibration(), monitor={"mlcommons": frozenset({"S4", "S6"})}
    )
    verdict = moderator.check("hello", exclude=["S4"])
    assert verdict.target is Target.PROMPT
    assert verdict.monitor is not None
    assert verdict.monitor.codes == ("S6",)


@pytest.mark.parametrize(
    ("monitor", "said"),
    [
        ({"mlcommon": "all"}, "monitor: unknown policy mlcommon; did you mean mlcommons? Known: "),
        ({"mlcommons": ["S4", "S44"]}, "monitor: policy 'mlcommons' has no category S44; did you mean S4?"),
        ({"mlcommons": "none"}, "monitor.mlcommons"),
        ({"Mlcommons": "all"}, "must be lower-case letters"),
    ],
)
def test_mistakes(monitor: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        open_served(settings(None, [Given("model", "model", "fake"), Given("monitor", "monitor", monitor)]))
