"""What all wire formats share: bounds, strict JSON, errors in each format's shape, health, metrics, shutdown."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guard import Conversation, Moderator
from guard.engines.fake import FakeEngine
from guard.errors import ServiceError
from guard.policy import load
from guard.serve.http.table import TRANSLATORS
from guard.serve.limits import Limits
from guard.serve.server import Settings, serving
from tests.fixtures.served import PATIENCE_S, BrokenEngine, HeldEngine, Process, Served, serve

CANARY = "kumquat"
# A request of each format that is judged, with the place of its text.
SOUND: dict[str, Callable[[str], dict[str, Any]]] = {
    "/v1/check": lambda text: {"prompt": text},
    "/v1/moderations": lambda text: {"input": text},
    "/v1/decisions": lambda text: {
        "model": "guard",
        "input": text,
        "questions": [{"type": "predicate", "instructions": "Is it rude?"}],
    },
    "/v1/systemone": lambda text: {
        "model": "guard",
        "state": text,
        "questions": {"rude": {"type": "noul", "instructions": "Is it rude?"}},
    },
    "/beta/litellm_basic_guardrail_api": lambda text: {"input_type": "request", "texts": [text], "request_data": {}},
    "/classify": lambda text: {"model": "guard", "input": text},
    "/api/v1/text/contents": lambda text: {"contents": [text]},
    "/v1/checks": lambda text: {"model": "any", "messages": [{"role": "user", "content": text}]},
}
PATHS = [each.path for each in TRANSLATORS]
OPEN = {"/beta/litellm_basic_guardrail_api", "/v1/checks"}  # their clients add fields from version to version


def message_of(path: str, response: httpx.Response) -> str:
    """The message of an error, which has the shape of the format."""
    body = response.json()
    match path:
        case "/v1/check":
            assert set(body) <= {"error", "kind", "retry_after"}
            return str(body["error"])
        case "/beta/litellm_basic_guardrail_api" | "/v1/checks":
            assert set(body) == {"detail"}
            return str(body["detail"])
        case "/api/v1/text/contents":
            assert set(body) == {"code", "message"}
            assert body["code"] == response.status_code
            return str(body["message"])
        case _:
            assert set(body) == {"error"}
            assert set(body["error"]) == {"message", "type", "param", "code"}
            return str(body["error"]["message"])


def test_every_format_is_tried_here() -> None:
    assert set(PATHS) == set(SOUND)


@pytest.mark.parametrize("path", PATHS)
def test_a_sound_request_is_judged(http: httpx.Client, path: str) -> None:
    response = http.post(path, json=SOUND[path]("hello"), headers={"x-request-id": "my-1"})
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"] == "my-1"
    assert len(http.post(path, json={}, headers={"x-request-id": "a b"}).headers["x-request-id"]) == 32


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "the body is empty"),
        (b"[1]", "the body must be a JSON object, not a list"),
        (b'"a"', "must be a JSON object, not a string"),
        (b'{"a": 1', "not valid JSON: Expecting ',' delimiter at column 8"),
        (b'{"a": 1, "a": 2}', "an object repeats a key"),
        (b'{"a": {"b": 1, "b": 2}}', "an object repeats a key"),
        (b'{"a": NaN}', "NaN and Infinity are no numbers"),
        (b'{"a": -Infinity}', "NaN and Infinity are no numbers"),
        (b'{"a": "\xff"}', "the body is not UTF-8 (byte 7)"),
        (b"[" * 100_000, "nested too deeply"),
        (b"1" * 5_000, "a number is too long"),
    ],
    ids=lambda value: value[:12] if isinstance(value, bytes) else "",
)
def test_a_body_that_is_no_json_object(http: httpx.Client, path: str, body: bytes, told: str) -> None:
    response = http.post(path, content=body)
    assert response.status_code in (400, 422)
    assert told in message_of(path, response)


@pytest.mark.parametrize("path", PATHS)
def test_a_body_above_the_limit_is_refused(http: httpx.Client, path: str) -> None:
    sound = SOUND[path]("x" * 10_000_000)
    response = http.post(path, json=sound)
    assert (response.status_code, message_of(path, response)) == (
        413,
        "the body is larger than 4194304 bytes; send less",
    )
    streamed = http.post(path, content=iter([b" " * 1_000_000] * 5))
    assert streamed.status_code == 413
    assert http.post(path, json=SOUND[path]("hello")).status_code == 200


@pytest.mark.parametrize("path", PATHS)
def test_a_conversation_above_the_limit_is_refused(http: httpx.Client, path: str) -> None:
    response = http.post(path, json=SOUND[path](CANARY * 1000))
    assert response.status_code in (400, 422)
    assert "has 7000 characters, must be <= 5000" in message_of(path, response)


@pytest.mark.parametrize("path", PATHS)
def test_unknown_fields(http: httpx.Client, path: str) -> None:
    response = http.post(path, json=SOUND[path]("hello") | {CANARY: CANARY, "modle": 1})
    if path in OPEN:
        assert response.status_code == 200
        return
    assert response.status_code in (400, 422)
    assert "the body has an unknown field (7 characters); known: " in message_of(path, response)
    assert CANARY not in response.text


@pytest.mark.parametrize("path", PATHS)
def test_wrong_types_are_named_by_their_place(http: httpx.Client, path: str) -> None:
    for name in SOUND[path](""):
        for wrong in (7, True, {CANARY: CANARY}, [[CANARY]], [{CANARY: 1}], None):
            if (name, path) == ("model", "/v1/checks") or (name, wrong) == ("model", None) or name == "request_data":
                continue  # not read
            if (name, path) == ("state", "/v1/systemone") and isinstance(wrong, dict | list):
                continue  # any JSON
            response = http.post(path, json=SOUND[path]("hello") | {name: wrong})
            if wrong is None and response.status_code == 200:
                continue  # the same as none
            assert response.status_code in (400, 422), (name, wrong, response.text)
            assert CANARY not in response.text
            assert message_of(path, response)


def test_places_of_mistakes(http: httpx.Client) -> None:
    questions = [{"type": "choice", "instructions": "x", "choices": [{"value": 7}]}, {"type": CANARY}, {"typ": 1}]
    response = http.post("/v1/decisions", json={"model": "guard", "questions": questions, "inptu": CANARY})
    told = message_of("/v1/decisions", response)
    assert "questions[0].choices[0].value must be a string" in told
    assert "questions[1]" in told
    assert CANARY not in told
    assert "input is missing" in told or "and 1 more" in told
    near = http.post("/v1/moderations", json={"inptu": "a"})
    assert "did you mean `input`? Known: input, model" in message_of("/v1/moderations", near)


@pytest.mark.parametrize("path", PATHS)
def test_lone_surrogates_are_judged_as_replacement_characters(http: httpx.Client, path: str) -> None:
    body = json.dumps(SOUND[path]("cut \ud83d")).encode()
    assert b"\\ud83d" in body
    assert http.post(path, content=body).status_code == 200


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 10**20) | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize("path", PATHS)
@settings(max_examples=10)
@given(data=st.data())
def test_no_body_is_answered_by_an_internal_error(http: httpx.Client, path: str, data: st.DataObject) -> None:
    sound = SOUND[path]("hello")
    keys = [*sound, "messages", "tool_calls", "policy", "mode", "exclude", "guardrails", "detector_params", "images"]
    inner = st.sampled_from(["role", "type", "content", "output", "name", "arguments", "text", "data", "value"])
    items = st.lists(st.dictionaries(inner, JSON | st.sampled_from(["user", "function_call", "text"])), max_size=2)
    body = sound | data.draw(st.dictionaries(st.sampled_from(keys), JSON | items, max_size=3))
    text = json.dumps(body).encode()
    cut = data.draw(st.integers(0, len(text)) | st.just(len(text)))
    response = http.post(path, content=text[:cut])
    assert response.status_code in (200, 400, 404, 413, 422), (body, response.text)
    if response.status_code != 200:
        message_of(path, response)


@pytest.mark.parametrize("text", [CANARY, f"{CANARY} violates:S1", CANARY * 1000], ids=["safe", "unsafe", "long"])
def test_no_word_of_a_user_on_stderr(http: httpx.Client, process: Process, text: str) -> None:
    for path, sound in SOUND.items():
        response = http.post(path, json=sound(text))
        http.post(f"{path}?{CANARY}", content=json.dumps(sound(text)).encode()[:-9], headers={CANARY: CANARY})
        if response.status_code != 200:
            assert CANARY not in response.text
    http.get(f"/{CANARY}")
    assert CANARY not in process.errors.read_text()
    assert CANARY not in http.get("/metrics").text


def test_paths_and_methods(http: httpx.Client) -> None:
    lost = http.post("/v1/moderation", json={})
    assert (lost.status_code, lost.json()["error"]["type"]) == (404, "invalid_request_error")
    assert "known: /v1/check, /v1/moderations, " in lost.json()["error"]["message"]
    wrong = http.get("/v1/moderations")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
    assert "server" not in wrong.headers


def test_health_metrics_and_openapi(http: httpx.Client) -> None:
    assert http.get("/healthz").json() == {"status": "ok"}
    assert http.get("/readyz").json() == {"status": "ready"}
    http.post("/v1/check", json={"prompt": "violates:S3"})
    page = http.get("/metrics").text
    for line in (
        'guard_requests_total{code="200",method="/v1/check"}',
        'guard_verdicts_total{outcome="UNSAFE",target="prompt"}',
        'guard_flagged_total{category="S3"}',
        "guard_queue_depth 0.0",
        "guard_queue_tokens 0.0",
        "guard_batch_size_bucket",
        "guard_padding_ratio_sum",
        "guard_queue_seconds_sum",
        "guard_tokenize_seconds_sum",
        "guard_infer_seconds_sum",
        'guard_model_info{kind="fake",model="',
    ):
        assert line in page
    described = http.get("/openapi.json").json()
    assert set(PATHS) < set(described["paths"])
    for each in TRANSLATORS:
        post = described["paths"][each.path]["post"]
        name = post["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        assert described["components"]["schemas"][name]["type"] == "object"


def client_of(served: Served) -> httpx.AsyncClient:
    assert served.running.rest_address is not None
    return httpx.AsyncClient(base_url=f"http://{served.running.rest_address}", trust_env=False, timeout=PATIENCE_S)


async def test_a_port_for_metrics_and_health_alone() -> None:
    async with (
        serve(metrics_port=0) as served,
        httpx.AsyncClient(base_url=str(served.running.metrics_url), trust_env=False, timeout=20) as http,
    ):
        assert served.running.rest_url is None
        await served.client.moderate(Conversation.of("hello"))
        page = (await http.get("/metrics")).text
        assert 'guard_requests_total{code="OK",method="Moderate"} 1.0' in page
        assert "guard_ready 1.0" in page
        assert [(await http.get(path)).status_code for path in ("/healthz", "/readyz", "/openapi.json")] == [
            200,
            200,
            404,
        ]
        told = (await http.post("/v1/check", json={"prompt": "hello"})).json()["error"]["message"]
        assert told == "no such path; known: /healthz, /readyz, /metrics"


async def test_overload_deadline_and_internal_errors_of_every_format() -> None:
    engine = HeldEngine()
    async with serve(engine, Limits(queue_windows=2), rest=True) as served, client_of(served) as client:
        first = asyncio.create_task(client.post("/v1/check", json={"prompt": "one"}))
        second = asyncio.create_task(client.post("/v1/check", json={"prompt": "two"}))
        await served.accepted(2)
        for path, sound in SOUND.items():
            full = await client.post(path, json=sound("three"))
            assert (full.status_code, full.headers["retry-after"]) == (429, "1")
            assert "try again later" in message_of(path, full)
        engine.gate.set()
        assert [(await each).status_code for each in (first, second)] == [200, 200]
    engine = HeldEngine()
    async with serve(engine, Limits(request_seconds=0.05), rest=True) as served, client_of(served) as client:
        late = await client.post("/v1/moderations", json={"input": "a"})
        assert (late.status_code, late.json()["error"]["type"]) == (504, "server_error")
        engine.gate.set()
    async with serve(BrokenEngine(), rest=True) as served, client_of(served) as client:
        for path, sound in SOUND.items():
            broken = await client.post(path, json=sound(f"{CANARY} breaks score"))
            assert broken.status_code == 500
            assert message_of(path, broken).startswith("internal error ")
            assert CANARY not in broken.text


async def test_a_caller_that_goes_leaves_the_queue(caplog: pytest.LogCaptureFixture) -> None:
    engine = HeldEngine()
    async with serve(engine, rest=True) as served, client_of(served) as client:
        first = asyncio.create_task(client.post("/v1/check", json={"prompt": "first"}))
        assert await asyncio.to_thread(engine.busy.wait, 10)
        with pytest.raises(httpx.ReadTimeout):
            await client.post("/v1/check", json={"prompt": "abandoned"}, timeout=0.1)
        await served.accepted(1)
        engine.gate.set()
        assert (await first).status_code == 200
        page = (await client.get("/metrics")).text
        assert 'guard_requests_total{code="499",method="/v1/check"} 1.0' in page
        assert "guard_cancelled_total 1.0" in page
    assert not any(b"abandoned" in text for text in engine.scored)
    gc.collect()  # asyncio complains of exceptions that nobody has looked at when it deletes them
    assert not [one for one in caplog.records if one.name == "asyncio"]


async def test_a_body_that_does_not_come_is_given_up() -> None:
    async with serve(limits=Limits(request_seconds=0.1), rest=True) as served:
        host, _, port = served.running.rest_address.rpartition(":")  # type: ignore[union-attr]
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /v1/check HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
        assert (await reader.readline()).startswith(b"HTTP/1.1 504")
        writer.close()


async def test_accepted_requests_are_answered_during_shutdown_and_new_ones_refused() -> None:
    engine = HeldEngine()
    async with client_of_none() as client:
        async with serve(engine, rest=True) as served:
            url = f"http://{served.running.rest_address}"
            accepted = asyncio.create_task(client.post(f"{url}/v1/check", json={"prompt": "one"}))
            assert await asyncio.to_thread(engine.busy.wait, 10)
            draining = asyncio.create_task(served.running.service.drain())
            await asyncio.sleep(0)
            assert (await client.get(f"{url}/readyz")).status_code == 503
            assert (await client.get(f"{url}/healthz")).status_code == 200
            refused = await client.post(f"{url}/v1/check", json={"prompt": "two"})
            assert (refused.status_code, refused.json()["kind"]) == (503, "Closed")
            assert refused.headers["retry-after"] == "1"
            engine.gate.set()
            await draining
            assert (await accepted).status_code == 200
        with pytest.raises(httpx.ConnectError):
            await client.get(f"{url}/healthz")


def client_of_none() -> httpx.AsyncClient:
    return httpx.AsyncClient(trust_env=False, timeout=20)


async def test_a_port_in_use() -> None:
    async with serve(rest=True) as served:
        port = int((served.running.rest_address or "").rpartition(":")[2])
        settings = Settings(port=0, rest_port=port, lame_duck_seconds=0)
        with pytest.raises(ServiceError, match="already in use; give another --host or --rest-port"):
            async with serving(Moderator(FakeEngine(), load("minimal")), settings):
                pass


async def test_a_head_that_is_endless_or_does_not_come_is_given_up() -> None:
    settings = Settings(port=0, rest_port=0, lame_duck_seconds=0, head_seconds=0.2)
    async with serving(Moderator(FakeEngine(), load("minimal")), settings) as running:
        host, _, port = (running.rest_address or "").rpartition(":")
        for sent, status in (
            (b"GET /healthz HTTP/1.1\r\nx: " + b"a" * 100_000, b"HTTP/1.1 431"),
            (b"GET /healthz HTTP/1.1\r\n" + b"x: a\r\n" * 20_000, b"HTTP/1.1 431"),
            (b"GET /" + b"a" * 100_000, b"HTTP/1.1 431"),
            (b"GET /healthz HTTP/1.1\r\nx: ", b"HTTP/1.1 408"),
            (b"", b"HTTP/1.1 408"),
            (b"GET /\xff HTTP/1.1\r\n\r\n", b"HTTP/1.1 400"),
            (b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n", b"HTTP/1.1 200"),
        ):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(sent)
            assert (await reader.readline()).startswith(status)
            writer.close()
        async with httpx.AsyncClient(base_url=f"http://{running.rest_address}", trust_env=False, timeout=20) as client:
            for _ in range(2):  # a connection may be idle between requests
                assert (await client.get("/healthz")).status_code == 200
                await asyncio.sleep(0.3)
            large = json.dumps({"prompt": "a" * 200_000})  # the bound is not one of bodies
            assert (await client.post("/v1/check", content=large)).status_code == 200
