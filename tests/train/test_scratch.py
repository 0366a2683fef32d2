"""A generative guard from nothing: its tokenizer, the shared prefix, the loop, and the whole path on a tiny scale."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recipe_runs import built_row, command, guard, kill_at_first_checkpoint, write_splits

pytest.importorskip("torch")

import torch
import transformers

from guard import assets, schema
from guard.conversation import ROLES, Conversation, Message, Role
from guard.errors import ConfigError
from guard.policy import Policy, load
from guard.prompt import Prompt
from guard.train import causal_scores, verdicts
from guard.train.bpe import fixed_phrases, train_bpe
from guard.train.conditioned import Item, loss_of
from guard.train.loop import Plan, adamw, rising_then_falling, run_loop
from guard.train.verdicts import Asked, Parts, Questions, known_share, losses, parts_of, questions, verdict_of
from guard.train.visits import Visit, thinned

RULES = load("minimal")  # M1 and M2
LARGE = load("mlcommons")
SAFE = ("bake bread", "plant roses", "mend a chair", "draw a cat", "take the train", "cook soup")
UNSAFE = {"M1": ("hit you", "hurt you", "push you"), "M2": ("password", "access code", "login")}


def texts() -> list[str]:
    return [f"Please tell me how to {what}, number {n}." for what in SAFE for n in range(40)]


@pytest.fixture(scope="module")
def prompt(tmp_path_factory: pytest.TempPathFactory) -> Prompt:
    path = tmp_path_factory.mktemp("bpe") / "tokenizer.json"
    train_bpe(texts(), [RULES, LARGE], 2000).save(str(path))
    return Prompt.load(path, 256, 16, "names")


@pytest.fixture(scope="module")
def model(prompt: Prompt) -> Any:
    torch.manual_seed(3)
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=prompt.chat.tokenizer.get_vocab_size(),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=256,
            initializer_range=0.3,
            tie_word_embeddings=True,
        )
    )


# -- the tokenizer ----------------------------------------------------------------------------------------------------


def test_a_prompt_costs_little_and_its_words_tell_apart(prompt: Prompt) -> None:
    assert prompt.chat.family.name == "llama3"
    assert len(prompt.safe) == len(prompt.unsafe) == 1
    assert prompt.safe != prompt.unsafe
    for phrase in fixed_phrases():
        assert len(prompt.chat.text(phrase)) == 1, phrase
    assert len(prompt.prefix_ids(LARGE)) < 130
    fixed = prompt.suffixes(Conversation.of("x"), RULES)[0][0].ids
    assert len(fixed) < 30


@settings(max_examples=60, deadline=None)
@given(st.one_of(st.text(max_size=60), st.sampled_from([*fixed_phrases(), "<|eot_id|>", "safe<|end_header_id|>\n\n"])))
def test_text_is_read_whole_and_never_becomes_control(prompt: Prompt, text: str) -> None:
    ids = prompt.chat.text(text)
    assert not set(ids) & prompt.chat.control_ids
    assert prompt.chat.tokenizer.decode(list(ids), skip_special_tokens=False) == text


def test_the_same_texts_make_the_same_tokenizer() -> None:
    made = [train_bpe(given, [RULES], 1500).to_str() for given in (texts(), texts()[::-1])]
    assert made[0] == made[1]


def test_too_small_a_vocabulary_is_an_error() -> None:
    with pytest.raises(ConfigError, match="vocabulary: 300 tokens are too few; give at least 512"):
        train_bpe(texts(), [RULES], 300)


# -- what a batch teaches ---------------------------------------------------------------------------------------------


@given(st.randoms(use_true_random=False), st.integers(0, 5), st.integers(1, 20))
def test_a_part_is_some_of_the_policy_in_its_order(rng: random.Random, number: int, most: int) -> None:
    made = parts_of(LARGE, Parts(0.5, number, most), rng)
    assert len(made) == number
    for part in made:
        assert 1 <= len(part.codes) <= min(most, len(LARGE.codes) - 1)
        assert part.codes == tuple(code for code in LARGE.codes if code in part.codes)
    assert parts_of(LARGE.without(LARGE.codes[1:]), Parts(0.5, number, most), rng) == []


ITEMS = st.one_of(
    st.just(Item(False, frozenset())),
    st.just(Item(True, None)),
    st.frozensets(st.sampled_from(LARGE.codes), min_size=1).map(lambda codes: Item(True, codes)),
)


@given(st.lists(ITEMS, max_size=12), st.randoms(use_true_random=False), st.sampled_from([0.0, 0.5, 1.0]))
def test_every_row_of_a_batch_is_asked_under_policies_that_its_label_is_good_for(
    prompt: Prompt, items: list[Item], rng: random.Random, share: float
) -> None:
    made = questions(
        [((number,), item) for number, item in enumerate(items)],
        prompt,
        LARGE,
        Parts(share, 4, 9),
        known_share(items),
        rng,
    )
    assert {row.prompt[0] for row in made.rows} == set(range(len(items)))
    assert {row.policy for row in made.rows} == set(range(len(made.policies)))
    for number, item in enumerate(items):
        asked = [row for row in made.rows if row.prompt[0] == number]
        assert len(asked) == 1 or (share and item.categories and len({row.verdict[0] for row in asked}) == 2)
        for row in asked:
            shown = made.policies[row.policy]
            left = (item.categories or frozenset()) & set(shown.codes)
            assert row.item is item
            if item.unsafe and item.categories is None:
                assert shown.codes == LARGE.codes
                assert row.verdict == prompt.unsafe
            else:
                assert row.verdict == prompt.verdict_ids(shown, left, safe=not left)


def test_safe_rows_are_drawn_for_part_of_a_policy_as_often_as_unsafe_ones_of_known_category(prompt: Prompt) -> None:
    items = [Item(False, frozenset()), Item(True, None), Item(True, frozenset(["S1"])), Item(True, None)] * 500
    known = known_share(items)
    assert known == pytest.approx(1 / 3)
    batch = [((number,), item) for number, item in enumerate(items)]
    made = questions(batch, prompt, LARGE, Parts(0.6, 8, 9), known, random.Random(5))
    drawn = [row.item for row in made.rows if made.policies[row.policy].codes != LARGE.codes]
    assert sum(item.unsafe for item in drawn) == pytest.approx(2 * 0.6 * 500, rel=0.1)  # with and without S1
    assert sum(not item.unsafe for item in drawn) == pytest.approx(0.6 * 500 / 3, rel=0.2)
    assert known_share([]) == 0.0


def test_the_verdict_follows_the_categories_in_force(prompt: Prompt) -> None:
    def said(item: Item, shown: Policy) -> str | None:
        ids = verdict_of(item, prompt, shown, shown == RULES)
        return None if ids is None else prompt.chat.tokenizer.decode(list(ids), skip_special_tokens=False)

    first = RULES.without(["M2"])
    both, second = (Item(True, frozenset(codes)) for codes in (["M1", "M2"], ["M2"]))
    unknown = Item(True, None)
    assert said(Item(False, frozenset()), RULES) == "safe<|eot_id|>"
    assert said(both, RULES) == "unsafe\nM1,M2<|eot_id|>"
    assert said(both, first) == "unsafe\nM1<|eot_id|>"
    assert said(second, first) == "safe<|eot_id|>"
    assert said(unknown, RULES) == "unsafe"
    assert said(unknown, first) is None
    assert said(Item(True, frozenset(["M1"]), undecided=frozenset(["M2"])), RULES) == "unsafe"
    assert said(Item(True, frozenset(["M1"]), undecided=frozenset(["M2"])), first) == "unsafe\nM1<|eot_id|>"
    assert said(Item(False, frozenset(), undecided=frozenset(["M2"])), RULES) is None


def prompts(prompt: Prompt) -> list[tuple[int, ...]]:
    said = ["hello", "Please tell me how to bake bread. " * 5, "x", "naïve 你好"]
    return [(*prompt.prefix_ids(RULES), *prompt.suffixes(Conversation.of(text), RULES)[0][0].ids) for text in said]


def test_a_shared_prefix_changes_no_score(prompt: Prompt, model: Any) -> None:
    model.eval()
    found = verdicts.read_verdicts(model, prompt, RULES, prompts(prompt))
    for ids, odds, mass in zip(prompts(prompt), found.odds, found.mass, strict=True):
        alone = torch.log_softmax(model(input_ids=torch.tensor([ids])).logits[0, -1].detach().double(), -1)
        safe, unsafe = float(alone[prompt.safe[0]]), float(alone[prompt.unsafe[0]])
        assert odds == pytest.approx(unsafe - safe, abs=1e-4)
        assert mass == pytest.approx(float(torch.tensor([safe, unsafe]).exp().sum()), abs=1e-5)


def batch_of(prompt: Prompt) -> Questions:
    """Rows of several lengths under three policies of several lengths."""
    shown = (RULES, RULES.without(["M1"]), RULES.without(["M2"]))
    skip = len(prompt.prefix_ids(RULES))
    rows = []
    for (which, weight), ids in zip(((0, 1.0), (1, 2.0), (2, 0.5), (1, 1.0)), prompts(prompt), strict=True):
        item = Item(True, frozenset(["M2"]), weight)
        verdict = prompt.verdict_ids(shown[which], [] if which == 2 else ["M2"], safe=which == 2)
        rows.append(Asked(which, ids[skip:], verdict, item))
    return Questions(shown, tuple(rows))


def test_shared_prefixes_change_no_loss_and_no_gradient(prompt: Prompt, model: Any) -> None:
    model.train()
    probe = torch.nn.Linear(32, 2)
    batch = batch_of(prompt)
    found = losses(model, probe, 1, prompt, RULES, batch)
    torch.autograd.backward(found.word + found.codes + found.probe)
    shared = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    total, items, states = sum(row.item.weight for row in batch.rows), [], []
    for row in batch.rows:  # each alone, from its first token to its last
        ids = torch.tensor([(*prompt.prefix_ids(batch.policies[row.policy]), *row.prompt, *row.verdict)])
        said = model(input_ids=ids[:, :-1], use_cache=False, output_hidden_states=True)
        logits = said.logits[0, -len(row.verdict) :]
        each = torch.nn.functional.cross_entropy(logits, ids[0, -len(row.verdict) :], reduction="sum")
        torch.autograd.backward(each * row.item.weight / total, retain_graph=True)
        items.append(row.item)
        states.append(said.hidden_states[1][0, -len(row.verdict)])
    torch.autograd.backward(loss_of(probe(torch.stack(states)), items, RULES.codes, True, 1.0, 0.0))
    for name, parameter in model.named_parameters():
        assert torch.allclose(parameter.grad, shared[name], atol=1e-4, rtol=1e-3), name
    model.zero_grad()


def test_smoothing_is_between_the_two_words(prompt: Prompt, model: Any) -> None:
    prefix, ids = prompt.prefix_ids(RULES), prompts(prompt)[1]
    row = Asked(0, ids[len(prefix) :], prompt.unsafe, Item(True, None))
    found = losses(model, torch.nn.Linear(32, 2), 1, prompt, RULES, Questions((RULES,), (row,)), smooth=0.25)
    logits = torch.log_softmax(model(input_ids=torch.tensor([ids])).logits[0], -1)
    expected = -0.75 * logits[-1, prompt.unsafe[0]] - 0.25 * logits[-1, prompt.safe[0]]
    assert found.word.item() == pytest.approx(expected.item(), abs=1e-4)
    assert found.codes.item() == 0.0


# -- the loop ---------------------------------------------------------------------------------------------------------


def loop(out: Path, steps: int, stop: int | None = None, broken: int | None = None, name: str = "one") -> Any:
    """A line is fitted; the batches end at `stop`, as if the run had been killed there."""
    out.mkdir(exist_ok=True)
    torch.manual_seed(0)
    line = torch.nn.Linear(2, 1)
    optimiser = adamw(line, {"": 0.1, "bias": 0.01}, 0.1)
    batches = [torch.randn(8, 2, generator=torch.Generator().manual_seed(n)) for n in range(steps)]

    def loss_of(batch: Any, step: int) -> Any:
        noise = torch.randn(8, 1) * 0.1  # from the generator that the loop seeds
        loss = (line(batch) - batch.sum(1, keepdim=True) + noise).square().mean()
        return loss * (float("nan") if step == broken else 1.0), 8

    plan = Plan(out, steps, 4, 7, name)
    schedule = rising_then_falling(optimiser, 2, steps)
    done = run_loop(plan, line, optimiser, schedule, batches[:stop], loss_of, lambda: {"bias": line.bias.item()})
    return line, done


@given(
    st.text(min_size=1, max_size=60).filter(str.strip),
    st.sampled_from(ROLES),
    st.floats(0, 1),
    st.randoms(use_true_random=False),
)
def test_what_frames_a_text_is_never_left_out(
    prompt: Prompt, text: str, role: Role, share: float, rng: random.Random
) -> None:
    rules = load("minimal")
    kept = prompt.frame
    for suffix in prompt.suffixes(Conversation((Message(role, text),)), rules)[0]:
        left = thinned(Visit(Item(False, None), (suffix.ids, ())), kept, share, rng).row[0]
        rest = iter(suffix.ids)
        assert all(token in rest for token in left), "what is left keeps its order"
        assert [token for token in left if token in kept] == [token for token in suffix.ids if token in kept]
        assert share or left == suffix.ids


def test_about_the_share_is_left_out(prompt: Prompt) -> None:
    ids = prompt.suffixes(Conversation.of("give the garden plants " * 20), load("minimal"))[0][0].ids
    kept = prompt.frame
    own = sum(token not in kept for token in ids)
    rng = random.Random(5)
    lost = [len(ids) - len(thinned(Visit(Item(False, None), (ids, ())), kept, 0.25, rng).row[0]) for _ in range(200)]
    assert own > 20
    assert sum(lost) / len(lost) == pytest.approx(0.25 * own, rel=0.1)


def test_a_stopped_loop_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    whole, done = loop(tmp_path / "whole", 12)
    loop(tmp_path / "stopped", 12, stop=6)
    again, resumed = loop(tmp_path / "stopped", 12)
    assert torch.equal(whole.weight, again.weight)
    assert torch.equal(whole.bias, again.bias)
    assert [entry["step"] for entry in resumed.history] == [4, 8, 12]
    assert [entry["bias"] for entry in resumed.history] == [entry["bias"] for entry in done.history]
    _, nothing_left = loop(tmp_path / "whole", 12)
    assert nothing_left.tokens_per_s is None


def test_a_loop_refuses_what_it_cannot_go_on_from(tmp_path: Path) -> None:
    loop(tmp_path / "run", 8)
    with pytest.raises(ConfigError, match="is of another configuration"):
        loop(tmp_path / "run", 8, name="other")
    with pytest.raises(ConfigError, match="has no step to take"):
        loop(tmp_path / "none", 0)
    assert not list((tmp_path / "none").iterdir())
    with pytest.raises(ConfigError, match="the loss of step 6 is nan; lower the learning rate"):
        loop(tmp_path / "broken", 8, broken=5)


# -- the whole path ---------------------------------------------------------------------------------------------------

CHANGES = (
    "vocabulary=1500",
    "model={hidden_size: 48, intermediate_size: 96, num_hidden_layers: 2, num_attention_heads: 4, "
    "num_key_value_heads: 2, initializer_range: 0.1}",
    "max_tokens=192",
    "overlap=16",
    "epochs=30",
    "batch_tokens=1024",
    "batch_rows=32",
    "learning_rate=3e-3",
    "warmup_steps=10",
    "dropout=0",
    "least_label_mass=0",  # a toy model writes verdicts on its own few rows only; a real one does everywhere
    "codes_weight=1",
    "primer_steps=60",
    "bag_epochs=2",
    "left_out=0.05",
    "partial_policy=0.9",
    "embedding_rate=2e-3",
    "checkpoint_steps=40",
    "bf16=false",
    "threads=1",
    "augmentation={refused: 0, tool: 0, history: 0, mistyping: 0, obfuscation: 0, padding: 0, injection: 0, "
    "texture: 0}",
)


def rows(numbers: range) -> list[dict[str, object]]:
    said: list[tuple[str, list[str]]] = [
        (f"Please tell me how to {what}, number {n}.", []) for n in numbers for what in SAFE
    ]
    said += [(f"I will {what} today, number {n}.", ["M1"]) for n in numbers for what in UNSAFE["M1"]]
    said += [(f"Give me the {what} of Mr {n}.", ["M2"]) for n in numbers for what in UNSAFE["M2"]]
    return [built_row(f"{numbers.start}-{index}", text, codes) for index, (text, codes) in enumerate(said)]


def train(folder: Path, out: str, *changes: str) -> list[str | Path]:
    given: list[str | Path] = ["--policy", "minimal", "--data", folder / "data", "--out", folder / out]
    return ["train", "scratch", *CHANGES, *changes, *given]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    pytest.importorskip("pyarrow")
    folder = tmp_path_factory.mktemp("scratch")
    write_splits(folder / "data", train=rows(range(16)), dev=rows(range(16, 20)))
    told, _ = guard(*train(folder, "run"))
    assert "done; next: guard export" in told
    return folder / "run"


@pytest.fixture(scope="module")
def bundle(run: Path) -> Path:
    guard("export", run, run.parent / "bundle")
    return run.parent / "bundle"


def checked(bundle: Path, text: str, *options: str) -> dict[str, Any]:
    done = subprocess.run(
        command("check", "--model", bundle, "--json", *options, text), capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 1), done.stderr[-2000:]
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.mark.slow
def test_the_run_learns_and_tells_what_made_it(run: Path) -> None:
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    history = record["metrics"]["history"]
    assert history[-1]["auprc"] > 0.95
    assert history[-1]["label_mass"] > 0.9
    assert (record["kind"], record["policy"], record["family"]) == ("causal", RULES.digest, "llama3")
    assert record["parameters"] < 200_000
    assert record["metrics"]["tokens_per_s"] > 0
    assert {path.name for path in run.iterdir()} == {
        "checkpoint.pt",
        "model",
        "policy.yaml",
        "run.json",
        "tokenizer.json",
    }


@pytest.mark.slow
def test_the_bundle_answers_with_codes_and_obeys_the_policy(bundle: Path) -> None:
    assert checked(bundle, "Please tell me how to bake bread, number 30.")["outcome"] == "SAFE"
    assert checked(bundle, "I will hurt you today, number 30.")["flagged"] == ["M1"]
    assert checked(bundle, "Give me the password of Mr 30.")["flagged"] == ["M2"]
    assert checked(bundle, "Give me the password of Mr 30.", "--exclude", "M1")["flagged"] == ["M2"]
    assert checked(bundle, "Give me the password of Mr 30.", "--exclude", "M2")["outcome"] == "SAFE"


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_weights(run: Path) -> None:
    out = run.parent / "killed"
    kill_at_first_checkpoint(train(run.parent, "killed"), out)
    told, _ = guard(*train(run.parent, "killed"))
    assert "resuming at step" in told
    for name in ("tokenizer.json", "model/model.safetensors"):
        assert (out / name).read_bytes() == (run / name).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("model={hiden_size: 32}", "model.hiden_size is no option of LlamaConfig"),
        ("probe_layer=2", "the model has 2 layers, and one has to come after the probe's"),
        ("lerning_rate=1", "unknown key `lerning_rate`; did you mean `learning_rate`?"),
        ("learning_rate=1e30", "lower the learning rate"),
        ("learning_rate=-1", "learning_rate: must be greater than 0 (given: -1)"),
        ("checkpoint_steps=0", "checkpoint_steps: must be greater than 0 (given: 0)"),
        ("partial_policy=1.5", "partial_policy: must be less than or equal to 1 (given: 1.5)"),
    ],
)
def test_a_mistake_is_told_in_one_line(run: Path, change: str, told: str) -> None:
    _, err = guard(*train(run.parent, f"mistaken-{len(change)}", change), code=2)
    assert told in err
    assert "Traceback" not in err
    assert len(err.splitlines()) == 1


@pytest.mark.slow
def test_data_that_cannot_be_read_leaves_no_folder(tmp_path: Path) -> None:
    _, err = guard(*train(tmp_path, "run"), code=2)
    assert f"no data at {tmp_path / 'data'}" in err
    assert not (tmp_path / "run").exists()


def test_the_shipped_config_is_what_the_recipe_reads() -> None:
    text = assets.asset("training/configs/scratch.yaml").read_text(encoding="utf-8")
    plain, _ = schema.parse(text, "scratch")
    made = transformers.LlamaConfig(vocab_size=plain["vocabulary"], tie_word_embeddings=True, **plain["model"])
    with torch.device("meta"):
        size = sum(p.numel() for p in transformers.LlamaForCausalLM(made).parameters())
    assert 10e6 < size < 15e6
    assert plain["recipe"] == "scratch"
    assert plain["detail"] == "names"


def test_scores_come_in_the_order_of_the_prompts(prompt: Prompt, model: Any) -> None:
    model.eval()
    asked = prompts(prompt)
    one = verdicts.read_verdicts(model, prompt, RULES, asked)
    other = verdicts.read_verdicts(model, prompt, RULES, asked[::-1])
    assert one.odds == pytest.approx(other.odds[::-1], abs=1e-4)
    judged = [
        causal_scores.Judged(unsafe, (ids,)) for unsafe, ids in zip((True, False, False, True), asked, strict=True)
    ]
    assert causal_scores.ranking(judged, one)["label_mass"] == pytest.approx(one.mass.mean())
