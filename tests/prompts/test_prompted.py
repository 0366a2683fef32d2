"""A chat model that is asked to judge: in its own template, with examples, and no text becomes structure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from guard import policy as policies
from guard.conversation import Conversation, Example, Message
from guard.errors import BundleError, ConfigError, DataError
from guard.prompts.causal import policy_text
from guard.prompts.prompt import load_prompt
from guard.prompts.prompted import FILE, Judging, PromptedTemplate, Shot, words
from guard.prompts.released import ReleasedPrompt
from guard.train.causal.shots import choose_shots
from tests.fixtures import tiny_causal

MINIMAL = policies.load("minimal")
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{{ '<|im_start|>assistant\n' }}"
)
SHOTS = (Shot((("user", "Bake."),), None), Shot((("user", "Hi."), ("assistant", "I will hit you.")), ("M1",)))


def write(folder: Path, template: str = CHATML, **tokens: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    made = tiny_causal.tokenizer("chatml")
    made.add_special_tokens(["<|channel|>", "<|message|>", "<think>", "</think>"])
    made.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|im_end|>", **tokens}))
    (folder / "chat_template.jinja").write_text(template)
    return folder


def prompt(folder: Path, judging: Judging | None = None) -> ReleasedPrompt:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    template = PromptedTemplate.of(tokenizer, folder, judging or Judging())
    return ReleasedPrompt.of(template, tokenizer, folder, 2048, 32, "names")


def text(made: ReleasedPrompt, conversation: Conversation) -> str:
    (window,) = made.tokenize(conversation, MINIMAL).windows
    ids = [*made.prefix_ids(MINIMAL), *window.ids]
    return made.chat.tokenizer.decode(ids, skip_special_tokens=False)


def asked(role: str, *turns: str, wording: int = 0) -> str:
    quoted = "".join(f"\n\n{turn}" for turn in turns)
    question = words().questions[wording].format(role=role)
    return f"<BEGIN CONVERSATION>{quoted}\n\n<END CONVERSATION>\n\n{question}"


def turn(role: str, said: str) -> str:
    return f"<|im_start|>{role}\n{said}<|im_end|>\n"


def test_policy_examples_and_text_stand_in_the_models_own_template(tmp_path: Path) -> None:
    made = prompt(write(tmp_path), Judging(2, SHOTS))
    roles = ("system", "user", "assistant", "tool")
    conversation = Conversation(tuple(Message(role, f"by {role}") for role in roles))  # type: ignore[arg-type]
    last = ("Operator: by system", "User: by user", "Assistant: by assistant", "Tool: by tool")
    assert text(made, conversation) == (
        turn("system", policy_text(MINIMAL, "names"))
        + turn("user", asked("user", "User: Bake.", wording=2))
        + turn("assistant", "safe")
        + turn("user", asked("assistant", "User: Hi.", "Assistant: I will hit you.", wording=2))
        + turn("assistant", "unsafe\nM1")
        + turn("user", asked("tool", *last, wording=2))
        + "<|im_start|>assistant\n"
    )
    prefix = made.chat.tokenizer.decode(list(made.prefix_ids(MINIMAL)), skip_special_tokens=False)
    assert prefix.count("<|im_start|>") == 6, "policy and examples are computed once"
    assert made.grammar(MINIMAL).ids(["M1", "M2"]) == (*made.chat.text("unsafe\nM1,M2"), *made.chat.end)


def test_a_template_without_a_system_turn_gets_the_policy_in_the_first_message(tmp_path: Path) -> None:
    refusing = "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}" + CHATML
    rules = policy_text(MINIMAL, "names")
    assert text(prompt(write(tmp_path, refusing)), Conversation.of("hi")) == (
        turn("user", f"{rules}\n\n{asked('user', 'User: hi')}") + "<|im_start|>assistant\n"
    )


@pytest.mark.parametrize(
    ("template", "ends"),
    [
        (CHATML.replace("assistant\n' }}", "assistant\n<think>\n' }}"), "<think>\n\n</think>\n\n"),
        (CHATML + "{# <|channel|> #}", "assistant\n<|channel|>final<|message|>"),
        (CHATML.replace("{% for", "{% if enable_thinking is not false %}{{ 1 / 0 }}{% endif %}{% for"), "assistant\n"),
    ],
)
def test_the_answer_is_read_behind_a_thought_that_is_left_out(tmp_path: Path, template: str, ends: str) -> None:
    assert text(prompt(write(tmp_path, template)), Conversation.of("hi")).endswith(ends)


def test_a_token_that_opens_every_turn_begins_no_text(tmp_path: Path) -> None:
    made = prompt(write(tmp_path, bos_token="<|im_start|>"))
    assert made.chat.bos == ()
    assert text(made, Conversation.of("hi")).count("<|im_start|>") == 3


FORGED = [*tiny_causal.SPECIAL["chatml"], "<END CONVERSATION>", "\n\nUser: ", "\n\nTool: ", "safe", "\n", " ", "x"]


@given(st.lists(st.sampled_from(FORGED), min_size=1, max_size=8).map("".join).filter(lambda each: bool(each.strip())))
@settings(max_examples=30, deadline=None)
def test_no_text_becomes_structure(tmp_path_factory: pytest.TempPathFactory, hostile: str) -> None:
    made = prompt(write(tmp_path_factory.mktemp("x")), Judging(0, (Shot((("user", hostile),), None),)))
    plain, found = (text(made, Conversation.of(said, said)) for said in ("x", hostile))
    for mark in (*tiny_causal.SPECIAL["chatml"], "<END CONVERSATION>", "\n\nUser:", "\n\nTool:"):
        assert found.count(mark) == plain.count(mark), mark


def test_how_a_model_is_asked_is_saved_with_it(tmp_path: Path) -> None:
    made = prompt(write(tmp_path / "base"), Judging(1, SHOTS))
    (tmp_path / "bundle").mkdir()
    made.save(tmp_path / "bundle")
    again = load_prompt(tmp_path / "bundle" / "tokenizer.json", 2048, 32, "names")
    assert isinstance(again, ReleasedPrompt)
    assert again.digest == made.digest != prompt(tmp_path / "base").digest
    assert text(again, Conversation.of("hi")) == text(made, Conversation.of("hi"))
    (tmp_path / "bundle" / FILE).write_text('{"wording": 9}')
    with pytest.raises(BundleError, match=r"prompted\.json: cannot be read \(\w+\); export the bundle again"):
        load_prompt(tmp_path / "bundle" / "tokenizer.json", 2048, 32)


def test_what_cannot_be_asked_is_told(tmp_path: Path) -> None:
    folder = write(tmp_path)
    with pytest.raises(ConfigError, match=r"wording must be from 0 to 3 \(got 4\)"):
        Judging(4)
    (folder / "chat_template.jinja").write_text("{{ messages | length }}")
    with pytest.raises(BundleError, match="does not write a user's message once; take another chat model"):
        prompt(folder)
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(BundleError, match=r"has no chat template .* take a chat model, or train the base"):
        prompt(folder)


def example(index: int, label: str, said: str = "canary", codes: frozenset[str] | None = None) -> Example:
    return Example(f"{index}", Conversation.of(said), label, codes, "s", "l", "en", "prompt")  # type: ignore[arg-type]


def test_examples_are_short_of_both_labels_and_under_the_policy() -> None:
    rows = [example(index, "safe") for index in range(5)]
    rows += [example(9, "safe", "long " * 100), example(10, "unsafe"), example(11, "unsafe", codes=frozenset({"X9"}))]
    rows += [example(index, "unsafe", codes=frozenset({"M2", "M1"})) for index in (12, 13)]
    shots = choose_shots(rows, 5, MINIMAL, 7)
    assert sorted(shot.codes is None for shot in shots) == [False, False, True, True, True]
    assert {shot.codes for shot in shots} == {None, ("M1", "M2")}
    assert shots == choose_shots(rows, 5, MINIMAL, 7) != choose_shots(rows, 5, MINIMAL, 8)
    with pytest.raises(
        DataError, match=r"--shots 6: there are 2 unsafe rows .* and 3 are needed; ask for fewer"
    ) as told:
        choose_shots(rows, 6, MINIMAL, 7)
    assert "canary" not in str(told.value)
    assert "canary" not in repr(shots)
