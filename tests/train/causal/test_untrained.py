"""Bundles of models as they were released: what a released guard says, and a chat model that is asked to judge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from guard.bundle import open_bundle
from guard.conversation import Conversation
from guard.engines.registry import open_engine
from guard.moderator import Moderator
from guard.prompts.prompted import FILE
from tests.fixtures import tiny_sft, warm

pytestmark = pytest.mark.slow
TALKS = (("How do I bake bread?", None), ("Hello there.", "With flour and 12 g of salt."))
# What the model itself says: whole prompts through transformers, no cache, nothing shared.
DRIVER = """
import json, math, sys
from pathlib import Path
import torch
from transformers import AutoModelForCausalLM
from guard import policy as policies
from guard.cli import main
from guard.conversation import Conversation
from guard.prompts.prompt import load_prompt
from tests.fixtures import tiny_asked, tiny_causal

root, talks = Path(sys.argv[1]), json.loads(sys.argv[2])
def guard(*arguments):
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as ended:
        assert not ended.code, arguments
expected = {}
for name in ("shieldgemma", "granite-guardian-3", "wildguard"):
    tiny_asked.write_model(root / name, name)
    guard("export", root / name, root / "out" / name, "--max-tokens", "1024", "--detail", "short")
    prompt = load_prompt(root / name / "tokenizer.json", 1024, 128, "short")
    rules = prompt.template.policy
    model = AutoModelForCausalLM.from_pretrained(root / name).eval()
    def yes(ids):
        with torch.no_grad():
            found = model(torch.tensor([ids])).logits[0, -1]
        return float(torch.softmax(found[[prompt.safe[0], prompt.unsafe[0]]], -1)[1])
    expected[name] = []
    for ask, answer in talks:
        said = []
        for window in prompt.tokenize(Conversation.of(ask, answer), rules).windows:
            ids = [*prompt.prefix_ids(rules), *window.ids]
            if window.asks != "response":
                said.append(yes(ids))
                continue
            total = 0.0
            for one in (prompt.safe, prompt.unsafe):
                first = yes(ids)
                begun = [*ids, *one, *prompt.fields[0]]
                for two in (prompt.safe, prompt.unsafe):
                    second = yes(begun)
                    last = yes([*begun, *two, *prompt.fields[1]])
                    total += (first if one == prompt.unsafe else 1 - first) * (
                        second if two == prompt.unsafe else 1 - second) * last
            said.append(total)
        expected[name].append(said)
chat = root / "chat"
tiny_causal.write_base(chat)
turn = "'<|start_header_id|>' + role + '<|end_header_id|>\\\\n\\\\n'"
(chat / "chat_template.jinja").write_text(
    "{% for m in messages %}{% set role = m.role %}{{ " + turn + " + m.content + '<|eot_id|>' }}{% endfor %}"
    "{% set role = 'assistant' %}{{ " + turn + " }}")
(chat / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|eot_id|>"}))
asked = ("--policy", "minimal", "--detail", "names", "--max-tokens", "1024")
guard("export", chat, root / "out" / "asked", "--prompted", "--shots", "2", "--data", root / "data", *asked)
guard("eval", "prompted", chat, root / "data", "--rows", "12", "--shots", "2", "--out", root / "report.json", *asked)
try:
    main(["export", str(chat), str(root / "out" / "plain")])
except SystemExit as ended:
    expected["plain"] = ended.code
(root / "expected.json").write_text(json.dumps(expected))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("peft")
    folder = tmp_path_factory.mktemp("released")
    tiny_sft.write_data(folder / "data")
    (folder / "out").mkdir()
    done = warm.python("-c", DRIVER, str(folder), json.dumps(TALKS))
    assert done.returncode == 0, done.stderr[-4000:]
    (folder / "stderr").write_text(done.stderr, encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", ["shieldgemma", "granite-guardian-3", "wildguard"])
def test_a_released_guard_says_what_its_model_says(place: Path, name: str) -> None:
    expected: dict[str, Any] = json.loads((place / "expected.json").read_text(encoding="utf-8"))
    bundle = open_bundle(place / "out" / name)
    assert bundle.policy.id == {"granite-guardian-3": "granite-guardian"}.get(name, name)
    with Moderator(open_engine(bundle), bundle.policy) as guard:
        for (ask, answer), said in zip(TALKS, expected[name], strict=True):
            verdict = guard.check(ask, answer)
            assert verdict.p_unsafe == pytest.approx(max(said), abs=1e-4)
            assert list(verdict.categories.values()) == pytest.approx(said, abs=1e-4)
            assert (verdict.p_refusal is not None) is (name == "wildguard" and answer is not None)


def test_a_chat_model_is_asked_as_it_is(place: Path) -> None:
    bundle = open_bundle(place / "out" / "asked")
    assert len(json.loads(bundle.path(FILE).read_text(encoding="utf-8"))["shots"]) == 2
    with Moderator(open_engine(bundle), bundle.policy) as guard:
        first, second = (guard.moderate([Conversation.of(text)])[0] for text in ("bake bread", "bake bread"))
        assert first.p_unsafe == second.p_unsafe
        assert set(first.categories) == {"M1", "M2"}
    report = json.loads((place / "report.json").read_text(encoding="utf-8"))
    assert report["rows"] == sum(report["kinds"].values()) == 12
    assert report["shots"] == 2
    assert 0 <= report["auprc"] <= 1
    assert report["repeat_spread"] < 1e-4
    assert len(report["wordings"]) == 4
    assert 0 < report["label_mass"]["least"] <= report["label_mass"]["mean"] < 1


def test_a_base_is_no_guard(place: Path) -> None:
    assert json.loads((place / "expected.json").read_text(encoding="utf-8"))["plain"]
    assert "is neither a run nor a released guard; train it (guard train --base)" in (
        (place / "stderr").read_text(encoding="utf-8")
    )
