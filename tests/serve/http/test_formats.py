"""Each wire format: what it asks, what it answers, and how its three outcomes differ."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import httpx
import pytest

from guard import GuardClient
from guard.engines.fake import FakeEngine
from guard.policy import dump, from_text, load, shipped
from guard.serve.http.api.moderations import openai_policy
from tests.fixtures.served import Process

DIGEST = FakeEngine.info.digest
MODEL = f"guard-{DIGEST[:12]}"
IMAGE = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
PICTURE = {"role": "user", "content": [{"type": "text", "text": "look"}, IMAGE]}
NATIVE = {"type": "predicate", "instructions": "policy:mlcommons"}
NOUL = {"type": "noul", "instructions": "Is it rude?"}
CALL = {"id": "c1", "type": "function", "function": {"name": "send", "arguments": "\nviolates:S2\n"}}


def post(http: httpx.Client, path: str, body: Any, status: int = 200, **headers: str) -> Any:
    response = http.post(path, json=body, headers=headers)
    assert response.status_code == status, response.text
    return response.json()


# -- OpenAI's moderations ---------------------------------------------------------------------------------------------


def moderated(http: httpx.Client, given: Any, **more: Any) -> list[dict[str, Any]]:
    answer = post(http, "/v1/moderations", {"input": given, **more})
    assert answer["id"].startswith("modr-")
    assert answer["model"] == MODEL
    return list(answer["results"])


def test_moderations_of_a_text_a_list_and_parts(http: httpx.Client) -> None:
    (safe,) = moderated(http, "hello")
    assert (safe["flagged"], safe["outcome"]) == (False, "SAFE")
    assert not any(safe["categories"].values())
    parts = [{"type": "text", "text": "hello"}, {"type": "text", "text": "violates:S4"}]
    (joined,) = moderated(http, parts, model="omni-moderation-latest")
    assert joined["flagged"]
    one, two, three = moderated(http, ["violates:S12", "hello", "violates:S1"], model="guard")
    assert [each["flagged"] for each in (one, two, three)] == [True, False, True]
    assert [name for name, flag in joined["categories"].items() if flag] == ["sexual/minors", "S4"]
    assert [name for name, flag in one["categories"].items() if flag] == ["sexual", "S12"]
    # S1 is a violent crime: at least one of these, and which, its score does not tell.
    assert [name for name, flag in three["categories"].items() if flag] == ["illicit/violent", "violence", "S1"]
    for result in (safe, joined, one):
        names = [*openai_policy().codes, *load("mlcommons").codes]
        for key in ("categories", "category_scores", "category_applied_input_types"):
            assert list(result[key]) == names
        for name in names:
            told = result["category_applied_input_types"][name] == ["text"]
            assert told == (result["category_scores"][name] > 0)
        # What mlcommons does not tell apart from other things.
        assert result["category_applied_input_types"]["harassment"] == []


@pytest.mark.parametrize(
    ("policy", "text", "name"), [("openai", "violates:hate", "hate"), ("aegis2", "violates:S5", "")]
)
def test_moderations_under_other_policies(http: httpx.Client, policy: str, text: str, name: str) -> None:
    (result,) = moderated(http, text, model=policy)
    assert set(openai_policy().codes) <= set(result["categories"])
    if name:
        assert [key for key, flag in result["categories"].items() if flag] == [name]
        assert set(result["categories"]) == set(openai_policy().codes)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"input": [IMAGE]}, "input[0] is an image; this model judges text only"),
        ({"input": [{"type": "text", "text": "a"}, IMAGE]}, "input[1] is an image"),
        ({"input": []}, "input must not be empty"),
        ({"input": " "}, "input is empty; send at least one visible character"),
        ({"input": ["a", ""]}, "input[1] is empty"),
        ({"input": ["a", 7]}, "input[0] must be a string, as all others, or an object"),
        ({"input": [{"type": "text", "text": "a", "x": 1}]}, "input[0] has unknown fields (1); known: type, text"),
        ({}, "input is missing"),
        ({"input": 7}, "input must be a string, a list of strings, or a list of parts"),
        ({"input": "a", "model": 7}, "model must be a string"),
    ],
)
def test_moderations_that_cannot_be_judged(http: httpx.Client, body: Any, told: str) -> None:
    error = post(http, "/v1/moderations", body, 400)["error"]
    assert told in error["message"]
    assert error["type"] == "invalid_request_error"


def test_limits_of_a_batch(http: httpx.Client) -> None:
    error = post(http, "/v1/moderations", {"input": ["a"] * 257}, 413)["error"]
    assert "the batch has 257 conversations, must be <= 256" in error["message"]


@pytest.mark.parametrize(
    ("path", "body", "headers"),
    [
        ("/v1/moderations", {"input": "a", "model": "mlcommon"}, {}),
        ("/v1/decisions", {"input": "a", "model": "mlcommon", "questions": [NATIVE]}, {}),
        ("/v1/systemone", {"state": "a", "model": "mlcommon", "questions": {"x": NOUL}}, {}),
        ("/classify", {"input": "a", "model": "mlcommon"}, {}),
        ("/v1/checks", {"messages": [{"role": "user", "content": "a"}], "guardrails": {"config_id": "mlcommon"}}, {}),
        ("/api/v1/text/contents", {"contents": ["a"]}, {"detector-id": "mlcommon"}),
        ("/v1/check", {"prompt": "a", "policy": "mlcommon"}, {}),
    ],
)  # fmt: skip
def test_unknown_names_are_404_and_name_the_known_ones(
    http: httpx.Client, path: str, body: Any, headers: dict[str, str]
) -> None:
    response = http.post(path, json=body, headers=headers)
    assert response.status_code == 404
    assert "aegis2" in response.text
    if path != "/v1/check":
        assert "did you mean 'mlcommons'?" in response.text


# -- OpenAI's decisions and System One --------------------------------------------------------------------------------

PREDICATE = {"type": "predicate", "instructions": "Is it rude?", "name": "rude"}
CHOICE = {
    "type": "choice",
    "instructions": [{"type": "input_text", "text": "Who"}, {"type": "input_json", "data": {"asks": 1}}],
    "choices": [{"value": True, "description": "a child"}, {"value": "adult"}],
}
SCORE = {"type": "score", "instructions": "How bad?", "levels": [{"label": "fine"}, {"label": "bad"}, {"label": "x"}]}
CODE = {"type": "predicate", "instructions": "policy:openai#hate/threatening", "name": "threat"}


def decided(http: httpx.Client, given: Any, questions: list[Any], status: int = 200) -> Any:
    return post(http, "/v1/decisions", {"model": "guard", "input": given, "questions": questions}, status)


def test_decisions_by_the_scores_of_categories_in_words(http: httpx.Client) -> None:
    # The fake guard finds the code of a category: Q1, Q2, ... in the order of the statements.
    answer = decided(http, "violates:Q1 violates:Q3 violates:Q5", [PREDICATE, CHOICE, SCORE, NATIVE, CODE])
    rude, who, bad, native, threat = answer["answers"]
    assert answer["model"] == MODEL
    assert answer["usage"]["input_tokens"] == answer["usage"]["total_tokens"] > 0
    assert (rude["type"], rude["name"]) == ("predicate", "rude")
    assert rude["probability"] > 0.9
    assert (who["type"], who["name"], who["choice"]) == ("choice", None, "adult")
    assert [each["value"] for each in who["probabilities"]] == [True, "adult"]
    assert who["confidence"] == max(each["probability"] for each in who["probabilities"]) > 0.9
    assert sum(each["probability"] for each in who["probabilities"]) == pytest.approx(1)
    assert [(each["value"], each["label"]) for each in bad["probabilities"]] == [(0, "fine"), (1, "bad"), (2, "x")]
    assert bad["score"] == pytest.approx(1, abs=0.01)
    assert native["probability"] < 0.1
    assert (threat["name"], threat["type"]) == ("threat", "predicate")
    (native, threat) = decided(http, "violates:S1 violates:hate/threatening", [NATIVE, CODE])["answers"]
    assert native["probability"] > 0.9
    assert threat["probability"] > 0.9


def test_decisions_about_messages_calls_and_results(http: httpx.Client) -> None:
    call = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
    result = {"type": "function_call_output", "call_id": "c1", "output": "violates:Q1"}
    told = [{"role": "developer", "content": "Be kind."}, {"role": "user", "content": "hi"}, call, result]
    (answer,) = decided(http, told, [PREDICATE])["answers"]
    assert answer["probability"] > 0.9
    many = decided(http, "violates:Q400", [PREDICATE] * 400)["answers"]
    assert [each["probability"] > 0.9 for each in many] == [False] * 399 + [True]


def test_what_cannot_be_judged_is_refused_unless_it_says_yes(http: httpx.Client) -> None:
    answers = decided(http, [PICTURE], [PREDICATE, CHOICE, NATIVE])["answers"]
    assert answers == [{"type": "refusal", "name": name} for name in ("rude", None, None)]
    bad = {"role": "user", "content": [{"type": "text", "text": "violates:Q1"}, IMAGE]}
    yes, refused = decided(http, [bad], [PREDICATE, SCORE])["answers"]
    assert yes["probability"] > 0.9
    assert refused == {"type": "refusal", "name": None}


@pytest.mark.parametrize(
    ("questions", "told"),
    [
        ([PREDICATE] * 401, "questions has 401 items, must be <= 400"),
        ([], "questions has 0 items, must be >= 1"),
        ([{**CHOICE, "choices": [{"value": "a"}]}], "questions[0].choices has 1 items, must be >= 2"),
        ([{**CHOICE, "choices": [{"value": "a"}, {"value": "a"}]}], "questions[0].choices must be unique"),
        ([{**PREDICATE, "instructions": " \n"}], "questions[0].instructions has no text; say what to look for"),
        ([{**PREDICATE, "instructions": "x" * 4001}], "questions[0].instructions has 4001 characters, must be <= 4000"),
        ([{**PREDICATE, "instructions": [IMAGE]}], "questions[0].instructions[0] must be of type input_text"),
        ([{**PREDICATE, "threshold": 0.5}], "questions[0] has an unknown field (9 characters)"),
        ([{**SCORE, "levels": [{"label": "a"}] * 255}] * 5, "1275 options in all, must be <= 1024"),
        ([{"type": "guess"}], "questions[0] must have a known `type`: 'predicate', 'choice', 'score'"),
    ],
)  # fmt: skip
def test_questions_that_cannot_be_asked(http: httpx.Client, questions: list[Any], told: str) -> None:
    assert told in decided(http, "a", questions, 400)["error"]["message"]


@pytest.mark.parametrize("native", ["policy:mlcommons#S99", "policy:nowhere"])
def test_native_names_that_are_unknown(http: httpx.Client, native: str) -> None:
    error = decided(http, "a", [{"type": "predicate", "instructions": native}], 404)["error"]
    assert "known: " in error["message"]


def test_words_of_any_length_and_script_make_a_category(http: httpx.Client) -> None:
    for words in ("x" * 4000, "word " * 800, "a\tb\r\n c\u2028d", "שלום " * 200, "policy of the house"):
        (answer,) = decided(http, "violates:Q1", [{"type": "predicate", "instructions": words}])["answers"]
        assert answer["probability"] > 0.9


def test_systemone(http: httpx.Client) -> None:
    questions = {
        "rude": {"type": "noul", "instructions": "Is it rude?", "criteria": {"true": "insults", "false": "irony"}},
        "who": {"type": "choice", "criteria": {"child": None, "adult": {"age": 18}}},
        "bad": {"type": "score", "instructions": "How bad?", "criteria": ["fine", {"level": "bad"}]},
        "all": {"type": "noul", "instructions": "policy:mlcommons"},
    }
    body = {"model": "guard", "state": "violates:Q1 violates:Q3 violates:Q5", "questions": questions}
    answers = post(http, "/v1/systemone", body)["answers"]
    assert answers["rude"]["type"] == "noul"
    assert answers["rude"]["noul"] > 0.9
    assert answers["who"]["choice"] == "adult"
    assert answers["who"]["probabilities"].keys() == {"child", "adult"}
    assert answers["bad"]["legend"] == {"0": "fine", "1": {"level": "bad"}}
    assert answers["bad"]["score"] == pytest.approx(1, abs=0.01)
    assert answers["all"]["noul"] < 0.1
    for state in ({"text": "a violates:Q1 b"}, ["x", "violates:Q1 "], [{"role": "user", "content": "violates:Q1"}]):
        rude = {"rude": questions["rude"]}
        answer = post(http, "/v1/systemone", {"model": "guard", "state": state, "questions": rude})["answers"]
        assert 0 < answer["rude"]["noul"] <= 1
    refused = post(http, "/v1/systemone", {"model": "guard", "state": [PICTURE], "questions": questions}, 422)
    assert refused["error"]["code"] == "not_judged"
    assert "cannot be judged: messages[0].content[1]: image_url" in refused["error"]["message"]
    for body in ({"state": ""}, {"questions": {}}, {"state": 7}, {"questions": {"a": {"type": "noul"}}}):
        given = {"model": "guard", "state": "a", "questions": questions} | body
        assert post(http, "/v1/systemone", given, 400)["error"]["message"]


# -- the native format ------------------------------------------------------------------------------------------------


def test_check_answers_as_the_command_does(http: httpx.Client) -> None:
    answer = post(http, "/v1/check", {"prompt": "hi", "response": "violates:S3", "id": 7})
    assert (answer["id"], answer["outcome"], answer["flagged"], answer["target"]) == (7, "UNSAFE", ["S3"], "response")
    assert (answer["model"], answer["policy"]) == (DIGEST, load("mlcommons").digest)
    picture = post(http, "/v1/check", {"messages": [PICTURE]})
    assert (picture["outcome"], picture["unjudged"]) == ("INCOMPLETE", ["messages[0].content[1]: image_url"])
    own = {
        "id": "own",
        "version": "1",
        "name": "Own",
        "categories": [{"code": "X1", "name": "One", "definition": "A."}],
    }
    rows = [
        {"prompt": "violates:X1", "id": "a"},
        {"messages": [{"role": "assistant", "tool_calls": [CALL]}]},
        {"prompt": ""},
        {"prompt": 7},
        {"promt": "a"},
        {"prompt": "a", "id": 1.5},
    ]
    results = post(http, "/v1/check", {"conversations": rows, "policy": own, "mode": "strict"})["results"]
    assert [each["outcome"] for each in results] == ["UNSAFE", "SAFE", *["ERROR"] * 4]
    assert results[0]["id"] == "a"
    assert "conversations[2]: the judged (last) message is empty" in results[2]["error"]
    assert "conversations[4]: unknown fields (1); known: id, messages" in results[4]["error"]
    excluded = post(http, "/v1/check", {"prompt": "violates:S3", "exclude": ["S3"]})
    assert excluded["outcome"] == "SAFE"
    in_yaml = post(http, "/v1/check", {"prompt": "violates:X1", "policy_yaml": dump(from_text(json.dumps(own), "own"))})
    assert (in_yaml["flagged"], in_yaml["policy"]) == (["X1"], results[0]["policy"])


def test_check_tells_timings_to_who_asks_for_them(http: httpx.Client) -> None:
    assert "timings" not in post(http, "/v1/check", {"prompt": "hi"})
    single = post(http, "/v1/check", {"prompt": "hi", "timings": True})
    rows = post(http, "/v1/check", {"conversations": [{"prompt": "hi"}, {"prompt": ""}], "timings": True})["results"]
    for answer in (single, rows[0]):
        assert set(answer["timings"]) == {"tokenize_ms", "queue_ms", "infer_ms"}
        assert all(ms >= 0 for ms in answer["timings"].values())
    assert "timings" not in rows[1]


def test_info_says_what_a_request_would_be_judged_by(http: httpx.Client, process: Process) -> None:
    with GuardClient(process.address) as client:
        told = client.info
    own = post(http, "/v1/info", {})
    assert (own["version"], own["model"], own["kind"], own["mode"]) == (told.version, DIGEST, "fake", "balanced")
    assert own["limits"] == dataclasses.asdict(told.limits)
    assert own["policies"][0] == own["policy"]["id"] == "mlcommons"
    assert set(own["policies"]) >= set(shipped())
    assert own["policy"]["digest"] == load("mlcommons").digest
    assert own["policy"]["categories"][0]["name"] == load("mlcommons").categories[0].name
    for target, (unsafe, categories) in told.thresholds.items():
        assert own["thresholds"][target.value]["unsafe"] == pytest.approx(unsafe, abs=1e-6)
        assert own["thresholds"][target.value]["categories"] == pytest.approx(categories, abs=1e-6)
    again = post(http, "/v1/info", {"policy_yaml": own["policy"]["yaml"], "exclude": ["S1"], "mode": "strict"})
    assert (again["mode"], again["policy"]["digest"]) == ("strict", load("mlcommons").without(["S1"]).digest)
    verdict = post(http, "/v1/check", {"prompt": "hi", "policy_yaml": own["policy"]["yaml"]})
    assert (verdict["policy"], verdict["threshold"]) == (own["policy"]["digest"], own["thresholds"]["prompt"]["unsafe"])


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ({"policy": "mlcommon"}, 404, "unknown policy 'mlcommon'; known: "),
        ({"policy": "mlcommons", "policy_yaml": "id: x"}, 400, "give either policy or policy_yaml"),
        ({"policy_yaml": "id: x"}, 400, "policy_yaml:1: required key `version` is missing"),
        ({"policy_yaml": 7}, 400, "policy_yaml must be a string"),
        ({"prompt": "hi"}, 400, "the body has an unknown field (6 characters)"),
    ],
)
def test_info_that_cannot_be_told(http: httpx.Client, body: Any, status: int, told: str) -> None:
    answer = post(http, "/v1/info", body, status)
    assert told in answer["error"]
    assert set(answer) == {"error", "kind"}


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({}, "the row has no value"),
        ({"prompt": "a", "conversations": [{"prompt": "a"}]}, "give either conversations or prompt"),
        ({"conversations": []}, "conversations has 0 items, must be >= 1"),
        ({"prompt": "a", "policy": {"id": "x"}}, "policy_yaml"),
        ({"prompt": "a", "policy": "mlcommons", "policy_yaml": "id: x"}, "give either policy or policy_yaml"),
        ({"prompt": "a", "exclude": ["S99"]}, "did you mean S9"),
        ({"prompt": "a", "mode": "lax"}, "mode must be 'strict', 'balanced' or 'permissive'"),
        ({"prompt": "a", "id": True}, "id must be a string"),
    ],
)
def test_checks_that_cannot_be_judged(http: httpx.Client, body: Any, told: str) -> None:
    answer = post(http, "/v1/check", body, 400)
    assert told in answer["error"]


# -- guardrail protocols ----------------------------------------------------------------------------------------------


def litellm(http: httpx.Client, **body: Any) -> dict[str, Any]:
    sent = {"input_type": "request", "request_data": {}, "litellm_version": "1.110.2", "images": None, **body}
    return dict(post(http, "/beta/litellm_basic_guardrail_api", sent))


def test_litellm_judges_every_text(http: httpx.Client) -> None:
    assert litellm(http, texts=["hello", "bye"]) == {"action": "NONE"}
    assert litellm(http, texts=[]) == litellm(http) == litellm(http, texts=[""]) == {"action": "NONE"}
    blocked = litellm(http, texts=["hello", "violates:S10"])
    assert blocked == {"action": "BLOCKED", "blocked_reason": "prompt is unsafe: S10 Hate"}
    history = [
        {"role": "system", "content": "Never say violates:S1"},
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "violates:S2"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
    ]
    texts = ["Never say violates:S1", "hello", "violates:S2", "a", "b"]
    assert litellm(http, texts=texts, structured_messages=history) == {"action": "NONE"}
    history[1]["content"] = "violates:S3"
    assert "S3" in litellm(http, texts=texts, structured_messages=history)["blocked_reason"]
    assert "S4" in litellm(http, texts=[*texts, "violates:S4"], structured_messages=history[2:])["blocked_reason"]
    assert "S5" in litellm(http, texts=["a"] * 600 + ["violates:S5"])["blocked_reason"]


def test_litellm_judges_replies_calls_and_says_what_it_cannot_judge(http: httpx.Client) -> None:
    reply = litellm(http, input_type="response", texts=["violates:S10"])
    assert reply["blocked_reason"] == "response is unsafe: S10 Hate"
    call = litellm(http, input_type="response", texts=[""], tool_calls=[CALL])
    assert call["blocked_reason"] == "response is unsafe: S2 Non-Violent Crimes"
    image = litellm(http, texts=["hello"], images=["https://example.org/a.png"])
    assert image == {
        "action": "BLOCKED",
        "blocked_reason": "prompt could not be judged completely (messages[0].images[0]: image)",
    }
    refused = {"input_type": "request", "texts": ["a"], "additional_provider_specific_params": {"policy": "minimal"}}
    told = post(http, "/beta/litellm_basic_guardrail_api", refused, 400)["detail"]
    assert "are not taken; configure the server" in told


def test_classify(http: httpx.Client) -> None:
    answer = post(http, "/classify", {"model": "guard", "input": ["hello", "violates:S1"]})
    safe, unsafe = answer["data"]
    assert (answer["object"], answer["model"], safe["index"], unsafe["index"]) == ("list", MODEL, 0, 1)
    assert (safe["label"], unsafe["label"], unsafe["num_classes"]) == ("safe", "unsafe", 2)
    for each in (safe, unsafe):
        assert sum(each["probs"]) == pytest.approx(1)
    assert unsafe["probs"][1] > 0.9
    chat = post(http, "/classify", {"messages": [{"role": "user", "content": "violates:S1"}]})
    assert chat["data"][0]["label"] == "unsafe"
    error = post(http, "/classify", {"messages": [PICTURE]}, 422)["error"]
    assert (error["code"], error["type"]) == (422, "BadRequestError")
    for body in ({}, {"input": "a", "messages": []}, {"input": []}, {"input": [[1, 2]]}, {"input": {"a": 1}}):
        assert post(http, "/classify", body, 400)["error"]["code"] == 400


def test_contents_gives_the_spans_of_the_worst_windows(http: httpx.Client) -> None:
    text = "fine " * 200 + "violates:S7 " + "fine " * 200
    found, none = post(http, "/api/v1/text/contents", {"contents": [text, "hello"]}, **{"detector-id": "guard"})
    assert none == []
    assert [(each["detection"], each["detection_type"]) for each in found] == [("unsafe", "unsafe"), ("Privacy", "S7")]
    for each in found:
        assert "violates:S7" in each["text"]
        assert each["text"] == text[each["start"] : each["end"]]
        assert len(each["text"]) < 300
        assert each["score"] > 0.9
        assert (each["evidence"], each["metadata"]) == ([], {})

    def types(threshold: float) -> list[str]:
        params = {"threshold": threshold}
        (found,) = post(http, "/api/v1/text/contents", {"contents": ["violates:S7"], "detector_params": params})
        return [each["detection_type"] for each in found]

    assert types(0.99) == []
    assert types(0.5) == ["unsafe", "S7"]
    assert len(types(0)) == 15


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"contents": []}, "contents has 0 items, must be >= 1"),
        ({"contents": ["a", ""]}, "is empty"),
        ({"contents": "a"}, "contents must be a list"),
        ({"contents": ["a"], "detector_params": {"threshold": 2}}, "threshold must be less than or equal to 1"),
        ({"contents": ["a"], "detector_params": {"threshold": "NaN"}}, "detector_params.threshold must be a number"),
        ({"contents": ["a"], "detector_params": {"x": 1}}, "detector_params has an unknown field"),
    ],
)  # fmt: skip
def test_contents_that_cannot_be_judged(http: httpx.Client, body: Any, told: str) -> None:
    answer = post(http, "/api/v1/text/contents", body, 422)
    assert told in answer["message"]
    assert answer["code"] == 422


def checks(http: httpx.Client, messages: Any, **guardrails: Any) -> dict[str, Any]:
    body = {"model": "any", "temperature": 0.1, "messages": messages, "guardrails": guardrails}
    return dict(post(http, "/v1/checks", body))


def test_checks_of_input_and_output_rails(http: httpx.Client) -> None:
    asked, bad = {"role": "user", "content": "hello"}, {"role": "user", "content": "violates:S1"}
    reply, worse = {"role": "assistant", "content": "bye"}, {"role": "assistant", "content": "violates:S2"}
    assert checks(http, [asked]) == {"status": "passed", "content": "hello"}
    assert checks(http, [asked, reply], config_ids=["guard", "minimal"]) == {"status": "passed", "content": "bye"}
    assert checks(http, [bad])["rail"] == "guard input (S1)"
    assert checks(http, [bad, reply])["rail"] == "guard input (S1)"
    assert checks(http, [bad, reply], rail_types=["output"])["status"] == "passed"
    assert checks(http, [asked, worse])["rail"] == "guard output (S2)"
    assert checks(http, [asked, worse])["content"] == "I'm sorry, I can't respond to that."
    assert checks(http, [PICTURE])["rail"] == "guard input (incomplete)"
    for messages, more in (([], {}), ([{"role": "system", "content": "a"}], {}), ([asked], {"rail_types": ["output"]})):
        body = {"messages": messages, "guardrails": more}
        assert post(http, "/v1/checks", body, 422)["detail"]
