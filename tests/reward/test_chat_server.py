"""The chat server of a model of this machine: answers, choices, refusals, and a model that judges its own answers."""

from __future__ import annotations

import json
import threading

import httpx
import pytest

from tests.fixtures import warm

pytestmark = pytest.mark.slow

# A random model hardly ever ends its answer. With the end's row of the output layer made longer, it soon does.
BASE = """
import sys
from pathlib import Path
from safetensors.torch import load_file, save_file
from tests.fixtures import tiny_causal
folder = Path(sys.argv[1])
tiny_causal.write_base(folder)
weights = load_file(folder / "model.safetensors")
weights["lm_head.weight"][tiny_causal.tokenizer().token_to_id("<|eot_id|>")] *= 3
save_file(weights, folder / "model.safetensors", {"format": "pt"})
"""
PROMPTS = [{"id": str(number), "prompt": f"Tell me of the train, number {number}."} for number in range(12)]
MARKS = ["[[A>B]]", "[[B>A]]"]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("judge") / "base"
    done = warm.python("-c", BASE, folder)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.fixture(scope="module")
def url(base):
    from guard.reward.chat_server import ChatModel, server_of

    with server_of(ChatModel.open(str(base))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()


def ask(url: str, **body):
    messages = [{"role": "user", "content": "zebrafinch"}]
    return httpx.post(f"{url}/chat/completions", json={"messages": messages, **body}, timeout=600, trust_env=False)


def answer(url: str, **body):
    (choice,) = ask(url, **body).json()["choices"]
    return choice["message"]["content"], choice["finish_reason"]


def test_an_answer_depends_on_its_seed_alone(url):
    told = [answer(url, seed=seed, max_tokens=40) for seed in (1, 2, 1)]
    assert told[0] == told[2] != told[1]
    assert answer(url, temperature=0.0, max_tokens=1)[1] == "length"


def test_a_choice_is_one_of_those_that_are_given(url):
    given = {"structured_outputs": {"choice": MARKS}}
    likely = answer(url, temperature=0.0, **given)
    assert likely == answer(url, temperature=0.0, **given)
    drawn = {answer(url, temperature=100.0, seed=seed, **given) for seed in range(8)}
    assert likely in drawn
    assert drawn == {(mark, "stop") for mark in MARKS}


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({"messages": []}, "`messages` must have at least one message"),
        ({"messages": [{"role": "user", "content": 3}]}, "content is int"),
        ({"max_tokens": 0}, "max_tokens: Input should be greater than 0"),
        ({"max_tokens": 10**6}, "both together must be <= 2048"),
        ({"n": 2}, "n: Input should be 1"),
        ({"structured_outputs": {"choice": []}}, "structured_outputs.choice"),
    ],
)
def test_what_cannot_be_answered_is_refused(url, body, why):
    told = ask(url, **body)
    assert told.status_code == 400
    assert why in told.json()["error"]["message"]
    assert "zebrafinch" not in told.text


def test_a_model_judges_its_own_answers(base, url, tmp_path):
    (tmp_path / "criterion.txt").write_text("The better answer is true.")
    rows = [row | {"responses": ["It is calm.", "It names it."]} for row in PROMPTS[:4]]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = warm.python(
        *("-m", "guard", "data", "judge", tmp_path / "rows.jsonl", tmp_path / "pairs.jsonl", "--task", "compare"),
        *("--base-url", url, "--model", "base", "--criterion", tmp_path / "criterion.txt", "--json"),
        *("--body", json.dumps({"structured_outputs": {"choice": MARKS}}), "--max-tokens", "64"),
    )
    report = json.loads(done.stdout)
    assert report["kept"] + report["dropped"] == len(rows), done.stderr[-2000:]
    assert "unparsed" not in report["pairs"]["dropped"]
