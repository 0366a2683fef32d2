"""guard.llm.client and guard.llm.completions against a real chat endpoint on loopback."""

from __future__ import annotations

import email.utils
import json
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guard.conversation import Message
from guard.errors import ConfigError, EngineError, GuardError
from guard.llm.client import Client, Endpoint, RateLimiter, Request, encode
from guard.llm.completions import Choice, Completion, CompletionCache, Usage
from guard.llm.retry import RetryPolicy
from tests.fixtures.chat_server import ChatServer, Reply, completion, serving

CANARY = "canary-of-the-user-7f3a"
KEY = "sk-canary-of-the-key-99"


def echo(body):
    return body["messages"][-1]["content"].upper()


@pytest.fixture
def chat():
    with serving(ChatServer(speak=echo)) as server:
        yield server


@pytest.fixture
def cache(tmp_path):
    opened = CompletionCache(tmp_path / "completions.sqlite")
    yield opened
    opened.close()


def request(text="hello", **options) -> Request:
    return Request((Message("user", text),), **options)


def client(chat, cache, account="me", attempts=6, **options) -> Client:
    retry = RetryPolicy(attempts, first_s=0.001, longest_retry_after_s=300.0)
    return Client(Endpoint(chat.url, "m", **{"timeout_s": 10.0, "retry": retry, **options}), cache, account)


def ask(chat, cache, what=None, **options) -> Completion:
    asker = client(chat, cache, **options)
    try:
        return asker.complete(what or request())
    finally:
        asker.close()


# -- what is sent and what comes back ----------------------------------------------------------------------------------


def test_sends_what_is_set_and_reads_the_answer(chat, cache):
    asked = Request((Message("system", "be brief"), Message("user", "hi")), 0.5, 7, 2, 3)
    answer = ask(chat, cache, asked, body={"max_tokens": None, "max_completion_tokens": 9})
    assert chat.paths == ["/v1/chat/completions"]
    assert chat.requests == [
        {
            "model": "m",
            "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}],
            "temperature": 0.5,
            "max_completion_tokens": 9,
            "n": 2,
            "seed": 3,
        }
    ]
    assert answer == Completion((Choice("HI", "stop"), Choice("HI", "stop")), 3, 1)


def test_what_is_not_set_is_not_sent(chat, cache):
    ask(chat, cache)
    assert set(chat.requests[0]) == {"model", "messages"}
    assert chat.keys == [None]


@settings(max_examples=25, deadline=None)
@given(st.text(), st.integers(0, 9) | st.none())
def test_the_body_is_canonical_and_never_fails_to_encode(text, seed):
    endpoint = Endpoint("http://localhost/v1", "m", body={"b": 1, "a": 2})
    body = encode(request(text, seed=seed), endpoint)
    assert body == encode(request(text, seed=seed), Endpoint("https://elsewhere/", "m", body={"a": 2, "b": 1}))
    assert body != encode(request(text + "x", seed=seed), endpoint)
    assert body != encode(request(text, seed=seed), Endpoint("http://localhost/v1", "other", body={"b": 1, "a": 2}))


def test_an_answer_that_the_model_left_empty(chat, cache):
    chat.fault = lambda number, body: Reply(content=b'{"choices": [{"message": {"content": null}}]}')
    answer = ask(chat, cache)
    assert answer == Completion((Choice("", "stop"),), None, None)


# -- cache -------------------------------------------------------------------------------------------------------------


def test_a_question_is_asked_once_whoever_asks_and_wherever_the_model_lies(chat, cache, tmp_path):
    first = ask(chat, cache)
    again = CompletionCache(tmp_path / "completions.sqlite")
    with serving(ChatServer(speak=echo)) as mirror:
        known = ask(mirror, again)
        assert mirror.requests == []
    again.close()
    assert (first.cached, known.cached) == (False, True)
    assert known.choices == first.choices
    for other in (request("hello!"), request(temperature=0.0), request(seed=1), request(max_tokens=5)):
        assert not ask(chat, cache, other).cached
    assert len(chat.requests) == 5


def test_the_seed_asks_for_another_answer_even_where_it_is_not_sent(chat, cache):
    body = {"seed": None}
    assert not ask(chat, cache, request(seed=1), body=body).cached
    assert not ask(chat, cache, request(seed=2), body=body).cached
    assert ask(chat, cache, request(seed=2), body=body).cached
    assert all("seed" not in sent for sent in chat.requests)


def test_threads_that_ask_the_same_at_once_ask_once(chat, cache):
    chat.delay_s = 0.05
    asker = client(chat, cache)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: asker.complete(request()), range(8)))
    asker.close()
    assert len(chat.requests) == 1
    assert sorted(each.cached for each in found) == [False] + [True] * 7


def test_failures_are_not_kept(chat, cache):
    chat.fault = lambda number, body: Reply(400) if number == 0 else None
    with pytest.raises(EngineError, match="answered 400"):
        ask(chat, cache)
    assert not ask(chat, cache).cached


def test_an_answer_survives_a_kill_right_after_it_came(chat, tmp_path):
    code = """
import os, signal, sys
from pathlib import Path
from guard.llm.client import Client, Endpoint, Request
from guard.llm.completions import CompletionCache
from guard.conversation import Message
client = Client(Endpoint(sys.argv[1], "m"), CompletionCache(Path(sys.argv[2])), "me")
client.complete(Request((Message("user", "hello"),)))
os.kill(os.getpid(), signal.SIGKILL)
"""
    path = tmp_path / "completions.sqlite"
    done = subprocess.run([sys.executable, "-c", code, chat.url, str(path)], timeout=60, capture_output=True)
    assert done.returncode == -9, done.stderr
    file = CompletionCache(path)
    assert ask(chat, file).cached
    file.close()
    assert len(chat.requests) == 1


# -- usage and cost ----------------------------------------------------------------------------------------------------


def test_usage_is_summed_by_cost_account_and_priced(chat, cache):
    chat.fault = lambda number, body: completion("one two", body, usage=number != 1)
    for text, account in (("a b c", "me"), ("uncounted", "me"), ("d e", "you"), ("a b c", "you")):
        ask(chat, cache, request(text), account=account)
    mine, yours = cache.usage("me"), cache.usage("you")
    assert mine == Usage(requests=2, retries=0, tokens_in=3, tokens_out=2, uncounted=1)
    assert yours == Usage(requests=1, retries=0, tokens_in=2, tokens_out=2)
    assert mine.cost(1_000_000, 500_000) == 4.0
    assert mine.cost(None, 1.0) is None
    assert cache.usage("nobody") == Usage()


@pytest.mark.parametrize(
    "usage", [None, "many", {"prompt_tokens": -1, "completion_tokens": 1.5}, {"prompt_tokens": True}]
)
def test_usage_that_makes_no_sense_counts_as_none(chat, cache, usage):
    told = {"choices": [{"message": {"content": "x"}}], "usage": usage}
    chat.fault = lambda number, body: Reply(content=json.dumps(told).encode())
    if usage == "many":
        with pytest.raises(EngineError, match="without a valid chat completion"):
            ask(chat, cache, attempts=1)
    else:
        answer = ask(chat, cache)
        assert (answer.tokens_in, answer.tokens_out) == (None, None)


# -- retries -----------------------------------------------------------------------------------------------------------

GARBAGE = [b"", b"<html>", b"[]", b"{}", b'{"choices": []}', b'{"choices": [{}]}', b'{"choices": [{"message": 1}]}']
GARBAGE += [b'{"choices": [{"message": {"content": [1]}}]}', b'{"choices": 7}', b"\xff", b"null"]


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 529])
def test_what_may_pass_is_tried_again(chat, cache, status):
    chat.fault = lambda number, body: Reply(status, CANARY.encode()) if number < 2 else None
    answer = ask(chat, cache)
    assert (answer.choices[0].text, answer.retries, len(chat.requests)) == ("HELLO", 2, 3)
    assert cache.usage("me").retries == 2


@pytest.mark.parametrize("content", GARBAGE)
def test_what_is_no_completion_is_tried_again(chat, cache, content):
    chat.fault = lambda number, body: Reply(200, content) if number < 1 else None
    assert ask(chat, cache).retries == 1
    chat.fault = lambda number, body: Reply(200, content)
    with pytest.raises(
        EngineError, match=r"answered 200 (without a valid chat completion|with no text), after 3 attempts"
    ):
        ask(chat, cache, request("other"), attempts=3)


@pytest.mark.parametrize("status", [400, 402, 403, 409, 413, 422, 301])
def test_a_refusal_is_not_tried_again(chat, cache, status):
    chat.fault = lambda number, body: Reply(status, headers={"Location": chat.url})
    with pytest.raises(EngineError, match=f"^answered {status}$"):
        ask(chat, cache)
    assert len(chat.requests) == 1


@pytest.mark.parametrize(("status", "hint"), [(401, "the API key"), (404, "the base URL and the model"), (405, "URL")])
def test_a_wrong_configuration_is_an_error_of_its_own(chat, cache, status, hint):
    chat.fault = lambda number, body: Reply(status)
    with pytest.raises(ConfigError, match=f"/v1/chat/completions answered {status}: check .*{hint}"):
        ask(chat, cache)
    assert len(chat.requests) == 1


def test_the_code_of_an_error_is_told_only_if_it_is_known(chat, cache):
    for code, told in (("context_length_exceeded", r"answered 400 \(context_length_exceeded\)"), (CANARY, "400$")):
        content = json.dumps({"error": {"message": CANARY, "code": code, "param": CANARY}}).encode()
        chat.fault = lambda number, body, content=content: Reply(400, content)
        with pytest.raises(EngineError, match=told):
            ask(chat, cache)


@pytest.mark.parametrize("as_date", [False, True])
def test_retry_after_is_honoured_by_all_who_ask(chat, cache, as_date):
    date = int(time.time()) + 2  # dates have whole seconds
    after = email.utils.formatdate(date, usegmt=True) if as_date else "0.3"
    chat.fault = lambda number, body: Reply(429, headers={"Retry-After": after}) if number == 0 else None
    asker = client(chat, cache)
    with ThreadPoolExecutor(2) as pool:
        early = pool.submit(asker.complete, request("early"))
        while not asker.limiter.reserve() and not early.done():
            time.sleep(0.001)
        late = pool.submit(asker.complete, request("late"))
        assert early.result(20).retries == 1
        assert late.result(20).retries == 0
    asker.close()
    told, *others = chat.arrivals
    free = date - time.time() + time.monotonic() if as_date else told + 0.3
    assert len(others) == 2
    assert free - 0.02 <= min(others) <= max(others) < told + 15


def test_an_endpoint_that_asks_for_too_long_a_wait_is_given_up(chat, cache):
    chat.fault = lambda number, body: Reply(503, headers={"Retry-After": "3600"})
    with pytest.raises(EngineError, match=r"answered 503 and asks to wait longer than 300 s, after 1 attempt$"):
        ask(chat, cache)
    chat.fault = lambda number, body: Reply(503, headers={"Retry-After": CANARY})
    with pytest.raises(EngineError, match="answered 503, after 2 attempts"):
        ask(chat, cache, attempts=2)


def test_slow_and_absent_endpoints(chat, cache):
    chat.delay_s = 1
    with pytest.raises(EngineError, match=r"^no answer \(ReadTimeout\), after 2 attempts$"):
        ask(chat, cache, timeout_s=0.2, attempts=2)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens
        gone = ChatServer(url=f"http://127.0.0.1:{taken.getsockname()[1]}/v1")
        with pytest.raises(EngineError, match=r"^no answer \(ConnectError\), after 3 attempts$"):
            ask(gone, cache, attempts=3)


def test_a_connection_that_breaks_in_the_middle_is_tried_again(chat, cache):
    cut = Reply(content=b"{", headers={"Content-Length": "99", "Connection": "close"})
    chat.fault = lambda number, body: cut if number == 0 else None
    assert ask(chat, cache).retries == 1


def test_stop_ends_the_waiting(chat, cache):
    chat.fault = lambda number, body: Reply(429, headers={"Retry-After": "60"})
    asker = client(chat, cache)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(asker.complete, request())
        while not chat.requests:
            time.sleep(0.005)
        asker.stop()
        with pytest.raises(EngineError, match="stopped"):
            waiting.result(10)
    asker.close()


# -- rate limit --------------------------------------------------------------------------------------------------------


def test_requests_are_spread_over_the_minute(chat, cache):
    asker = client(chat, cache, requests_per_minute=60 / 0.05)
    start = time.monotonic()
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda number: asker.complete(request(str(number))), range(6)))
    asker.close()
    late = [arrival - start for arrival in sorted(chat.arrivals)]
    assert all(arrival >= turn * 0.05 for turn, arrival in enumerate(late))


def test_a_rate_limit_is_kept_by_retries_and_by_all_who_share_it():
    limiter = RateLimiter(60)
    assert [limiter.reserve() for _ in range(3)] == pytest.approx([0, 1, 2], abs=0.1)
    limiter.pause(10)
    assert [limiter.reserve(), limiter.reserve()] == pytest.approx([10, 11], abs=0.1)
    unlimited = RateLimiter(None)
    assert [unlimited.reserve() for _ in range(3)] == [0, 0, 0]


# -- keys and text -----------------------------------------------------------------------------------------------------


def test_the_key_is_sent_only_where_its_variable_is_named(chat, cache, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    ask(chat, cache, request("without"))
    ask(chat, cache, request("with"), api_key_env="OPENAI_API_KEY")
    assert chat.keys == [None, f"Bearer {KEY}"]


@pytest.mark.parametrize("value", [None, "", "  ", f"{KEY}\nInjected: x", f"{KEY} {KEY}", f"{KEY}é"])
def test_an_unusable_key_is_told_without_showing_it(chat, cache, monkeypatch, value):
    if value is not None:
        monkeypatch.setenv("THE_KEY", value)
    with pytest.raises(ConfigError, match="API key") as error:
        ask(chat, cache, api_key_env="THE_KEY")
    assert KEY not in str(error.value)
    with pytest.raises(ConfigError) as error:  # the key itself in place of a name
        ask(chat, cache, api_key_env=KEY)
    assert KEY not in str(error.value)
    assert chat.requests == []


def test_neither_key_nor_text_gets_into_errors_reprs_logs_or_the_file(chat, cache, monkeypatch, caplog, tmp_path):
    monkeypatch.setenv("THE_KEY", KEY)
    caplog.set_level("DEBUG")
    echoed = json.dumps({"error": {"message": f"{CANARY} {KEY}", "code": CANARY}}).encode()
    replies = {400: echoed, 401: echoed, 404: echoed, 429: echoed, 500: echoed, 200: echoed}
    told = []
    for status, content in replies.items():
        chat.fault = lambda number, body, status=status, content=content: Reply(status, content)
        with pytest.raises(GuardError) as error:
            ask(chat, cache, request(CANARY), api_key_env="THE_KEY", attempts=2)
        told += [str(error.value), repr(error.value), str(error.value.__cause__), str(error.value.__context__)]
    chat.fault = lambda number, body: None
    answer = ask(chat, cache, request(CANARY), api_key_env="THE_KEY")
    endpoint = Endpoint(chat.url, "m", KEY)
    told += [repr(each) for each in (answer, answer.choices, request(CANARY), endpoint, cache)] + [caplog.text]
    assert all(CANARY not in text and CANARY.upper() not in text and KEY not in text for text in told)
    files = list(tmp_path.glob("completions.sqlite*"))
    assert files
    assert all(KEY.encode() not in file.read_bytes() for file in files)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:8000/v1",
        "ftp://host/v1",
        "http://",
        "http://host:x/v1",
        f"http://me:{KEY}@host/v1",
        f"http://host/v1?key={KEY}",
        "http://host/v1#x",
        "http://[::1/v1",
        "http://host:0/v1",
    ],
)
def test_base_urls_that_cannot_be(url):
    with pytest.raises(ConfigError, match="base URL") as error:
        Endpoint(url, "m")
    assert KEY not in str(error.value)


@pytest.mark.parametrize("options", [{"model": ""}, {"timeout_s": 0}, {"requests_per_minute": 0.0}])
def test_endpoints_that_cannot_be(options):
    with pytest.raises(ConfigError):
        Endpoint(**{"base_url": "http://host/v1", "model": "m", **options})


def test_where_names_host_port_and_path():
    assert Endpoint("https://host/v1/", "m").where == "host:443/v1/chat/completions"
    assert Endpoint("http://host:81", "m").where == "host:81/chat/completions"


# -- the cache ---------------------------------------------------------------------------------------------------------


@settings(max_examples=10, deadline=None)
@given(
    st.lists(st.tuples(st.text(), st.sampled_from(["stop", "length"])), min_size=1), st.integers(0, 2**40) | st.none()
)
def test_what_is_put_comes_back(choices, tokens):
    with tempfile.TemporaryDirectory() as folder:
        cache = CompletionCache(Path(folder) / "c.sqlite")
        completion = Completion(tuple(Choice(*choice) for choice in choices), tokens, tokens, 3)
        cache.put("key", "me", completion)
        cache.put("key", "you", Completion((Choice("late", "stop"),), 1, 1))  # the first stays
        assert cache.get("key") == Completion(completion.choices, tokens, tokens, 3, True)
        assert cache.get("other") is None
        assert cache.usage("me") == Usage(1, 3, tokens or 0, tokens or 0, tokens is None)
        cache.close()
