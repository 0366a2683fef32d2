"""`guard proxy` between OpenAI's own client and a chat server: what is forwarded, shown, refused, and what fails."""

from __future__ import annotations

import dataclasses
import logging
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from guard import AsyncGuardClient, Moderator, document
from guard.chat.options import ChatOptions, OnError
from guard.chat.server import ProxySettings, proxying
from guard.engines.fake import FakeEngine
from guard.errors import ConfigError
from guard.policy import load
from guard.serve.core.keys import Scope, new_key
from guard.serve.limits import Limits
from guard.stream import Release, StreamOptions
from tests.fixtures.served import BrokenEngine, serve
from tests.fixtures.upstream import BAD_CALL, CALL, HARM, SAFE, SENTENCE, UNSAFE, WRITES, Upstream
from tests.serve.test_language import GERMAN, English

HELLO: Any = [{"role": "user", "content": "hello there"}]
BAD: Any = [{"role": "user", "content": "it violates:S1 now"}]
IMAGE: Any = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]
OBSERVE = ChatOptions(stream=StreamOptions("observe"))
REFUSAL, UNJUDGED = ChatOptions().refusal, ChatOptions().unjudged


@asynccontextmanager
async def proxied(
    upstream: Upstream,
    options: ChatOptions | None = None,
    engine: FakeEngine | None = None,
    guard: AsyncGuardClient | None = None,
    **settings: Any,
) -> AsyncIterator[openai.AsyncOpenAI]:
    moderator = Moderator(engine or FakeEngine(), load("mlcommons"))
    chosen = ProxySettings(upstream.url, port=0, options=options or ChatOptions(), **settings)
    async with (
        proxying(guard or moderator, chosen) as url,
        httpx.AsyncClient(trust_env=False, timeout=20) as http,
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="sk-caller", max_retries=0, http_client=http) as client,
    ):
        yield client


async def whole(
    client: openai.AsyncOpenAI, model: str, messages: Any = HELLO, **more: Any
) -> tuple[Any, httpx.Headers]:
    """The completion, and the headers that it came with."""
    raw = await client.chat.completions.with_raw_response.create(model=model, messages=messages, **more)
    return raw.parse(), raw.headers


async def streamed(client: openai.AsyncOpenAI, model: str, messages: Any = HELLO, **more: Any) -> list[Any]:
    stream = await client.chat.completions.create(model=model, messages=messages, stream=True, **more)
    return [chunk async for chunk in stream]


async def failing(client: openai.AsyncOpenAI, model: str, shown: list[Any]) -> Any:
    """The error that a stream ends with, after what it showed."""
    try:
        async for chunk in await client.chat.completions.create(model=model, messages=HELLO, stream=True):
            shown.append(chunk)
    except openai.APIError as error:
        return error
    raise AssertionError("the stream did not fail")


def text(chunks: list[Any], index: int = 0) -> str:
    choices = [choice for chunk in chunks for choice in chunk.choices if choice.index == index]
    return "".join(choice.delta.content or "" for choice in choices)


def reasons(chunks: list[Any]) -> list[str]:
    return [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason]


def arguments(chunks: list[Any]) -> str:
    calls = [call for chunk in chunks for choice in chunk.choices for call in choice.delta.tool_calls or ()]
    return "".join(call.function.arguments or "" for call in calls)


async def test_what_is_safe_passes_both_ways(upstream: Upstream) -> None:
    async with proxied(upstream) as client:
        completion, headers = await whole(client, "safe", temperature=0.5, moderation={"model": "guard"})
        chunks = await streamed(client, "safe", stream_options={"include_usage": True})
        listed = [model.id async for model in client.models.list()]
    assert completion.choices[0].message.content == SAFE == text(chunks)
    assert (completion.choices[0].finish_reason, reasons(chunks)) == ("stop", ["stop"])
    assert (completion.usage.total_tokens, chunks[-1].usage.total_tokens) == (8, 8)
    assert (headers["x-guard-outcome"], headers["openai-processing-ms"]) == ("passed", "5")
    assert completion.moderation.input.results[0].flagged is False
    assert completion.moderation.output.type == "moderation_results"
    assert "safe" in listed
    sent = upstream.bodies[0]
    assert (sent["temperature"], sent["messages"], "moderation" in sent) == (0.5, HELLO, False)
    assert upstream.headers[0]["authorization"] == "Bearer sk-caller"
    assert all(chunk.choices[0].logprobs is None for chunk in chunks if chunk.choices)


@pytest.mark.parametrize("stream", [False, True])
async def test_an_unsafe_prompt_is_never_forwarded(upstream: Upstream, stream: bool) -> None:
    earlier = [*BAD, {"role": "assistant", "content": "No."}, *HELLO]
    result = [{"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function", "function": CALL}]}]
    result.append({"role": "tool", "tool_call_id": "1", "content": "the page says violates:S4"})
    async with proxied(upstream, ChatOptions(refusal="Not here.")) as client:
        for messages in (BAD, earlier, [*HELLO, *result]):
            if stream:
                chunks = await streamed(client, "safe", messages, n=2, moderation={"model": "guard"})
                assert [text(chunks, index) for index in (0, 1)] == ["Not here."] * 2
                assert reasons(chunks) == ["content_filter"] * 2
                assert chunks[-1].moderation.input.type == "moderation_results"
            else:
                completion, headers = await whole(client, "safe", messages)
                assert completion.choices[0].message.content == "Not here."
                assert completion.choices[0].finish_reason == "content_filter"
                assert any(one.flagged for one in completion.moderation.input.results)
                assert completion.moderation.output.code == "not_generated"
                assert (headers["x-guard-outcome"], headers["x-guard-side"]) == ("blocked", "prompt")
                assert headers["x-guard-categories"] in ("S1", "S4")
    assert upstream.bodies == []


async def test_an_unsafe_reply_is_not_shown(upstream: Upstream) -> None:
    async with proxied(upstream) as client:
        completion, headers = await whole(client, "unsafe")
        chunks = await streamed(client, "unsafe", moderation={"model": "guard"})
        short = await streamed(client, "short-unsafe")
    assert completion.choices[0].message.content == REFUSAL
    assert completion.choices[0].finish_reason == "content_filter"
    assert (headers["x-guard-outcome"], headers["x-guard-side"], headers["x-guard-categories"]) == (
        "blocked",
        "reply",
        "S1",
    )
    assert completion.moderation.output.results[0].flagged is True
    assert text(chunks) == f"{SENTENCE}\n\n{REFUSAL}"
    assert reasons(chunks) == ["content_filter"]
    assert chunks[-1].moderation.output.results[0].flagged is True
    assert (text(short), reasons(short)) == (REFUSAL, ["content_filter"])


async def test_a_stopped_stream_breaks_off_the_upstream(upstream: Upstream) -> None:
    async with proxied(upstream) as client:
        chunks = await streamed(client, "endless")
        assert reasons(chunks) == ["content_filter"]
        assert HARM not in text(chunks)
        assert upstream.broken_off.wait(10)


async def test_tool_calls_are_judged_and_held_to_the_end(upstream: Upstream) -> None:
    async with proxied(upstream) as client:
        for model in ("call", "only-call"):
            completion, _ = await whole(client, model)
            chunks = await streamed(client, model)
            assert completion.choices[0].message.tool_calls[0].function.arguments == CALL["arguments"]
            assert arguments(chunks) == CALL["arguments"]
            assert reasons(chunks) == [completion.choices[0].finish_reason] == ["tool_calls"]
            assert text(chunks) == (completion.choices[0].message.content or "")
        completion, headers = await whole(client, "bad-call")
        chunks = await streamed(client, "bad-call")
    assert completion.choices[0].message.tool_calls is None
    assert headers["x-guard-categories"] == "S2"
    assert (arguments(chunks), reasons(chunks)) == ("", ["content_filter"])
    assert BAD_CALL["name"] not in text(chunks)


async def test_several_choices_are_judged_each(upstream: Upstream) -> None:
    async with proxied(upstream) as client:
        completion, _ = await whole(client, "safe", n=3)
        chunks = await streamed(client, "safe", n=3)
        stopped = await streamed(client, "unsafe", n=2)
    assert [one.message.content for one in completion.choices] == [SAFE] * 3
    assert [text(chunks, index) for index in range(3)] == [SAFE] * 3
    assert reasons(stopped) == ["content_filter"] * 2
    assert not any(HARM in text(stopped, index) for index in range(2))


async def test_fields_that_are_not_judged_do_not_pass(upstream: Upstream) -> None:
    async with proxied(upstream) as client:
        completion, _ = await whole(client, "reasons")
        chunks = await streamed(client, "reasons")
    assert completion.choices[0].message.content == text(chunks) == SAFE
    assert "violates" not in f"{completion} {chunks}"


async def test_an_empty_reply_passes(upstream: Upstream) -> None:
    async with proxied(upstream) as client:
        completion, _ = await whole(client, "empty")
        chunks = await streamed(client, "empty")
    assert (completion.choices[0].message.content, text(chunks)) == ("", "")
    assert reasons(chunks) == ["stop"]


async def test_observing_forwards_and_shows_everything(upstream: Upstream) -> None:
    broken = BrokenEngine()
    async with proxied(upstream, OBSERVE, broken) as client:
        completion, headers = await whole(client, "unsafe", BAD)
        chunks = await streamed(client, "reasons", BAD, moderation={"model": "guard"})
        assert (await whole(client, "breaks"))[0].choices[0].message.content
        assert "breaks score" in text(await streamed(client, "breaks"))
        assert (await whole(client, "safe", IMAGE))[0].choices[0].message.content == SAFE
        asked = {"model": "guard", "policy": {"input": {"mode": "block"}}}
        blocked, _ = await whole(client, "safe", BAD, moderation=asked)
    assert completion.choices[0].message.content == UNSAFE
    assert headers["x-guard-outcome"] == "observed"
    assert headers["x-guard-categories"] == "S1"
    assert text(chunks) == SAFE
    assert "reasoning_content" in f"{chunks}"
    assert chunks[-1].moderation.input.results[0].flagged is True
    assert blocked.choices[0].finish_reason == "content_filter"


async def test_what_cannot_be_judged_is_told_apart_from_what_is_unsafe(upstream: Upstream) -> None:
    async with proxied(upstream) as client:
        completion, headers = await whole(client, "safe", IMAGE)
    assert completion.choices[0].message.content == UNJUDGED
    assert (headers["x-guard-outcome"], completion.moderation.input.code) == ("unjudged", "incomplete")
    assert upstream.bodies == []


async def test_a_guard_that_fails_is_an_error_and_shows_nothing(upstream: Upstream) -> None:
    async with proxied(upstream, engine=BrokenEngine()) as client:
        with pytest.raises(openai.InternalServerError) as prompt:
            await whole(client, "safe", [{"role": "user", "content": "breaks score"}])
        assert upstream.bodies == []
        with pytest.raises(openai.InternalServerError) as reply:
            await whole(client, "breaks")
        shown: list[Any] = []
        inside = await failing(client, "breaks", shown)
    for problem, side in ((prompt.value, "prompt"), (reply.value, "reply")):
        assert (problem.status_code, problem.code) == (503, "moderation_failed")
        assert problem.response.headers["x-guard-outcome"] == "failed"
        assert problem.response.headers["x-guard-side"] == side
    assert inside.code == "moderation_failed"
    assert text(shown) == SENTENCE


async def test_errors_of_the_upstream_pass_with_their_status(upstream: Upstream) -> None:
    async with proxied(upstream) as client:
        for stream in (False, True):
            with pytest.raises(openai.RateLimitError) as limited:
                await client.chat.completions.create(model="limited", messages=HELLO, stream=stream)
            assert limited.value.body["message"] == "slow down"  # type: ignore[index]
            assert limited.value.response.headers["retry-after"] == "7"
            assert limited.value.response.headers["x-ratelimit-limit-requests"] == "1"
            assert "x-guard-outcome" not in limited.value.response.headers
        with pytest.raises(openai.APIError, match="the model fell over"):
            await streamed(client, "fails-inside")
        with pytest.raises(openai.APIError, match="no JSON object"):
            await streamed(client, "no-chunks")
        with pytest.raises(openai.InternalServerError, match="no JSON object") as nonsense:
            await whole(client, "nonsense")
    assert nonsense.value.status_code == 502


async def test_odd_replies_of_the_upstream_are_no_mistake_of_the_caller(upstream: Upstream) -> None:
    async with proxied(upstream) as client:
        for model, stream in (("odd", False), ("odd", True), ("no-stream", True)):
            with pytest.raises(openai.InternalServerError, match="the upstream") as odd:
                await client.chat.completions.create(model=model, messages=HELLO, stream=stream)
            assert (odd.value.status_code, odd.value.code, odd.value.type) == (502, "upstream_failed", "server_error")
        for model in ("odd-inside", "cut-off"):
            shown: list[Any] = []
            inside = await failing(client, model, shown)
            assert inside.code == "upstream_failed"
            assert text(shown) == SENTENCE or (model == "odd-inside" and text(shown) == "")
        assert text(await streamed(client, "separators")) == WRITES["separators"]["content"]
    async with proxied(upstream, limits=Limits(conversation_characters=len(SAFE))) as client:
        with pytest.raises(openai.InternalServerError, match="reply cannot be judged") as long:
            await whole(client, "safe")
        assert long.value.status_code == 502
        with pytest.raises(openai.APIError, match="reply cannot be judged"):
            await streamed(client, "safe")


async def raw(client: openai.AsyncOpenAI, model: str, stream: bool, **more: Any) -> httpx.Response:
    sent = {"model": model, "messages": HELLO, "stream": stream, **more}
    return await client._client.post(f"{client.base_url}chat/completions", json=sent)


async def test_where_all_is_shown_odd_replies_pass_as_they_are_and_are_counted(
    upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    async with proxied(upstream, OBSERVE) as client, httpx.AsyncClient(trust_env=False) as http:
        for model, stream in (
            ("odd", True),
            ("no-stream", True),
            ("nonsense", False),
            ("odd-inside", True),
            ("cut-off", True),
            ("separators", True),
            ("fails-inside", True),
        ):
            shown = await raw(client, model, stream)
            sent = {"model": model, "messages": HELLO, "stream": stream}
            directly = await http.post(f"{upstream.url}/chat/completions", json=sent)
            assert (shown.status_code, shown.content) == (200, directly.content), model
        odd = (await raw(client, "odd", False)).json()
        assert (odd["choices"][0]["message"]["content"], odd["more"]) == (5, "text")
        assert odd["moderation"]["output"]["type"] == "error"
        unknown = await raw(client, "safe", False, kumquat="some text", messages=[{"role": "kumquat", "content": "x"}])
        assert unknown.json()["choices"][0]["message"]["content"] == SAFE
        page = (await client._client.get(str(client.base_url).replace("/v1/", "/metrics"))).text
    assert 'guard_fail_open_total{error="UpstreamError",side="reply"}' in page
    assert 'guard_fail_open_total{error="InvalidInput",side="prompt"} 1.0' in page
    assert "a reply passed without a verdict: UpstreamError" in caplog.messages
    assert "kumquat" not in caplog.text


async def test_text_beside_the_messages_is_judged_or_refused(upstream: Upstream) -> None:
    function = {"name": "mail", "description": "it violates:S1 now"}
    async with proxied(upstream) as client:
        completion, headers = await whole(client, "safe", tools=[{"type": "function", "function": function}])
        assert completion.choices[0].finish_reason == "content_filter"
        assert headers["x-guard-side"] == "prompt"
        for name in ("chat_template", "kumquat"):
            with pytest.raises(openai.BadRequestError, match="holds text that is not judged") as refused:
                await whole(client, "safe", extra_body={name: "some text"})
            assert "kumquat" not in refused.value.message
        assert upstream.bodies == []
        harmless = {"name": "mail", "description": "Sends mail."}
        await whole(client, "safe", tools=[{"type": "function", "function": harmless}], extra_body={"top_k": 5})
    assert (upstream.bodies[0]["tools"][0]["function"], upstream.bodies[0]["top_k"]) == (harmless, 5)


@pytest.mark.parametrize("scopes", [("metrics",), None])
async def test_a_guard_that_refuses_the_proxys_key_is_no_matter_of_the_caller(
    upstream: Upstream, tmp_path: Path, scopes: tuple[Scope, ...] | None
) -> None:
    clear, key = new_key("proxy", scopes or ("moderate",))
    file = tmp_path / "keys.yaml"
    file.write_text(document.dump({"keys": [{"name": "proxy", "sha256": key.sha256, "scopes": list(key.scopes)}]}))
    sent = "guard_unknown" if scopes is None else clear
    async with serve(api_keys=file) as served, AsyncGuardClient(served.running.address, api_key=sent) as guard:
        async with proxied(upstream, guard=guard) as client:
            for stream in (False, True):
                with pytest.raises(openai.InternalServerError) as failed:
                    await client.chat.completions.create(model="safe", messages=HELLO, stream=stream)
                assert (failed.value.status_code, failed.value.code) == (503, "moderation_failed")
                assert "the guard refuses the key of this proxy" in failed.value.message
        assert upstream.bodies == []
        async with proxied(upstream, OBSERVE, guard=guard) as client:
            assert (await whole(client, "safe"))[0].choices[0].message.content == SAFE


@pytest.mark.parametrize("release", ["hold", "observe"])
@pytest.mark.parametrize("on_error", ["raise", "block", "allow"])
@pytest.mark.asyncio(loop_scope="module")
async def test_what_an_error_of_the_guard_means(
    upstream: Upstream, down_async: AsyncGuardClient, release: Release, on_error: OnError
) -> None:
    options = ChatOptions(stream=StreamOptions(release), on_error=on_error)
    shown = SENTENCE if release == "hold" else WRITES["breaks"]["content"]
    async with (
        proxied(upstream, options, guard=down_async) as down,
        proxied(upstream, options, BrokenEngine()) as fails,
    ):
        if on_error == "raise":
            for client, model in ((down, "safe"), (fails, "breaks")):
                with pytest.raises(openai.InternalServerError) as failed:
                    await whole(client, model)
                assert (failed.value.status_code, failed.value.code) == (503, "moderation_failed")
            assert (await failing(fails, "breaks", [])).code == "moderation_failed"
        elif on_error == "block":
            assert (await whole(down, "safe"))[0].choices[0].message.content == options.unjudged
            assert text(await streamed(down, "safe")) == options.unjudged
            completion, _ = await whole(fails, "breaks")
            assert completion.choices[0].message.content == options.unjudged
            chunks = await streamed(fails, "breaks")
            assert text(chunks).endswith(f"\n\n{options.unjudged}")
            assert shown.startswith(text(chunks).removesuffix(f"\n\n{options.unjudged}"))
            assert reasons(chunks)[-1:] == ["content_filter"]
        else:
            for client, model, expected in ((down, "safe", SAFE), (fails, "breaks", WRITES["breaks"]["content"])):
                assert (await whole(client, model))[0].choices[0].message.content == expected
                chunks = await streamed(client, model)
                assert (text(chunks), reasons(chunks)) == (expected, ["stop"])


async def test_a_language_that_the_model_does_not_know_is_what_cannot_be_judged(upstream: Upstream) -> None:
    german = [{"role": "user", "content": GERMAN}]
    async with proxied(upstream, engine=English()) as client:
        assert (await whole(client, "safe", german))[0].choices[0].message.content == UNJUDGED
        assert (await whole(client, "german"))[0].choices[0].message.content == UNJUDGED
        assert text(await streamed(client, "german")).endswith(UNJUDGED)
    async with proxied(upstream, ChatOptions(unsupported_language="judge"), English()) as client:
        assert (await whole(client, "german", german))[0].choices[0].message.content == GERMAN
        assert text(await streamed(client, "german", german)) == GERMAN


async def test_the_moderation_field_names_the_model_that_judged(upstream: Upstream) -> None:
    async with (
        serve(reopen=lambda: Moderator(Other(), load("aegis2"))) as served,
        proxied(upstream, guard=served.client) as client,
    ):
        before, _ = await whole(client, "safe", moderation={"model": "guard"})
        await served.running.live.reload()
        after, _ = await whole(client, "safe", moderation={"model": "guard"})
        again, _ = await whole(client, "safe", moderation={"model": "guard"})
    assert before.moderation.output.model == f"guard-{FakeEngine.info.digest[:12]}"
    for completion in (after, again):
        for side in (completion.moderation.input, completion.moderation.output):
            assert {side.model, *(each.model for each in side.results)} == {f"guard-{Other.info.digest[:12]}"}
            assert {*load("aegis2").codes} <= {*side.results[0].category_scores}
            assert any(side.results[0].category_applied_input_types[name] for name in load("openai").codes)


class Other(FakeEngine):
    info = dataclasses.replace(FakeEngine.info, digest="1" * 64)


async def test_an_upstream_that_is_not_there() -> None:
    async with proxied(Upstream("http://127.0.0.1:9/v1")) as client:
        with pytest.raises(openai.InternalServerError, match="cannot be reached") as gone:
            await whole(client, "safe")
        with pytest.raises(openai.InternalServerError, match="cannot be reached"):
            await client.models.list()
    assert (gone.value.status_code, gone.value.code) == (502, "upstream_failed")


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        (b"{", 400, "not valid JSON"),
        (b"[]", 400, "must be a JSON object"),
        (b"\xff", 400, "not UTF-8"),
        (b'{"model": "safe", "model": "safe"}', 400, "repeats a key"),
        (b'{"model": "safe"}', 400, "`messages` must be a list"),
        (b'{"messages": []}', 400, "messages is empty"),
        (b'{"messages": [{"role": "user", "content": " "}]}', 400, "message is empty"),
        (b'{"messages": [{"role": "kumquat", "content": "x"}]}', 400, "unknown message role"),
        (b'{"messages": [{"role": "user", "content": "x"}], "n": true}', 400, "n must be"),
        (b'{"messages": [{"role": "user", "content": "x"}], "n": 1000000}', 400, "<= 128"),
        (b'{"messages": [{"role": "user", "content": "x"}], "stream": 1}', 400, "stream must be"),
        (b'{"messages": [{"role": "user", "content": "x"}], "moderation": 1}', 400, "moderation must be"),
        (b" " * (5 << 20), 413, "larger than"),
    ],
)
async def test_requests_that_are_none(upstream: Upstream, body: bytes, status: int, told: str) -> None:
    async with proxied(upstream) as client:
        response = await client._client.post(f"{client.base_url}chat/completions", content=body)
    assert (response.status_code, told in response.json()["error"]["message"]) == (status, True)
    assert "kumquat" not in response.text
    assert upstream.bodies == []


async def test_nothing_else_of_the_upstream_is_here(upstream: Upstream) -> None:
    async with proxied(upstream) as client:
        for path in ("completions", "responses", "embeddings"):
            response = await client._client.post(f"{client.base_url}{path}", json={"input": "x"})
            assert (response.status_code, response.json()["error"]["code"]) == (404, "not_found")
        root = str(client.base_url).removesuffix("v1/")
        assert [(await client._client.get(f"{root}{path}")).status_code for path in ("healthz", "readyz")] == [200] * 2


async def test_a_service_judges_and_a_key_of_its_own_goes_upstream(upstream: Upstream) -> None:
    async with serve() as served, proxied(upstream, guard=served.client, api_key="sk-own") as client:
        assert (await whole(client, "safe"))[0].choices[0].message.content == SAFE
        assert (await whole(client, "unsafe"))[0].choices[0].finish_reason == "content_filter"
        assert reasons(await streamed(client, "unsafe")) == ["content_filter"]
        assert upstream.headers[0]["authorization"] == "Bearer sk-own"
    before = len(upstream.bodies)
    async with AsyncGuardClient(served.running.address, timeout_s=5) as gone:
        async with proxied(upstream, guard=gone) as client:
            with pytest.raises(openai.InternalServerError) as failed:
                await whole(client, "safe")
            assert failed.value.code == "moderation_failed"
        assert len(upstream.bodies) == before
        async with proxied(upstream, OBSERVE, guard=gone) as client:
            assert (await whole(client, "safe", BAD))[0].choices[0].message.content == SAFE
            assert text(await streamed(client, "safe", BAD)) == SAFE


async def test_no_text_reaches_a_log(
    upstream: Upstream, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG, "guard")
    caplog.set_level(logging.DEBUG, "uvicorn")
    async with proxied(upstream, engine=BrokenEngine()) as client:
        canary = [{"role": "user", "content": "kumquat breaks score"}]
        for stream in (False, True):
            with pytest.raises(openai.APIError) as problem:
                await client.chat.completions.create(model="safe", messages=canary, stream=stream)  # type: ignore[arg-type]
            assert "kumquat" not in problem.value.response.text  # type: ignore[attr-defined]
    logged = [one for one in caplog.records if one.name.startswith(("guard", "uvicorn"))]
    assert not any("kumquat" in one.getMessage() or one.exc_info for one in logged)
    assert "kumquat" not in "".join(capfd.readouterr())


def test_the_command(upstream: Upstream, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "guard", "proxy", "--upstream", upstream.url, "--model", "fake", "--port", "0"]
    with (tmp_path / "stderr").open("w") as errors:
        popen = subprocess.Popen([*command, "--refusal", "Nope."], stdout=subprocess.PIPE, stderr=errors, text=True)
    assert popen.stdout is not None
    with popen.stdout:
        try:
            line = popen.stdout.readline()
            assert line.startswith("guard proxy serving on http://127.0.0.1:"), (tmp_path / "stderr").read_text()
            with httpx.Client(trust_env=False, timeout=20) as http:
                client = openai.OpenAI(base_url=f"{line.split()[4]}/v1", api_key="sk", http_client=http)
                completion = client.chat.completions.create(model="unsafe", messages=HELLO)
            assert completion.choices[0].message.content == "Nope."
            popen.send_signal(signal.SIGTERM)
            assert popen.wait(20) == 0
        finally:
            popen.kill()
            popen.wait()
    assert (tmp_path / "stderr").read_text() == ""


def test_an_upstream_that_is_no_url() -> None:
    with pytest.raises(ConfigError, match="must be a URL like"):
        ProxySettings("localhost:8000")
