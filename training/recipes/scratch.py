"""Train a small generative guard from nothing: its own tokenizer, random weights, an hour or so on two cores.

What it does: trains a byte-level BPE tokenizer with Llama 3's control tokens on the data, makes a Llama of a dozen
million random parameters, and teaches it the verdict and the codes of the violated categories. The rows of a step are
under the whole policy or one of several random parts of it, and the labels follow; each policy's keys and values are
computed once a step. To look up in the prompt what a text violates is the hardest to learn from nothing. So it comes
first, on made-up messages, under parts of one or two categories that grow; each unsafe row is shown under a part with
and one without what it violates, and a probe of an early layer is asked for the categories themselves.

Departs from Llama Guard (Inan et al. 2023, arXiv:2312.06674), whose category dropping it borrows, in having no
pre-trained model. It shows that the causal path learns; a guard for use is made by the recipes sft and encoder.

Launch:  guard train scratch                      an hour or so on two cores
         python -P training/recipes/scratch.py CONFIG.yaml [key=value …]        this file as it stands
"""

from __future__ import annotations

import functools
import itertools
import os
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from guard import policy, schema
from guard.data.augment.padding import benign
from guard.data.examples import load_examples, weighed
from guard.errors import ConfigError
from guard.policy import Detail
from guard.prompt import Prompt
from guard.schema import NotNegative, Positive, Share
from guard.train.bag import taught_embeddings
from guard.train.bpe import train_bpe
from guard.train.causal_scores import dev_sample, ranking
from guard.train.loop import Plan, adamw, identity, rising_then_falling, run_loop
from guard.train.loop_config import FREE, LoopConfig, settle
from guard.train.precision import cpu_autocast
from guard.train.primer import made_up
from guard.train.run import data_digest, run_recipe, write_run
from guard.train.verdicts import Parts, PromptReader, known_share, losses, questions, read_verdicts
from guard.train.visits import Visit, batches, one_policy, thinned, visits


@dataclass(frozen=True, kw_only=True)
class Config(LoopConfig):
    """See training/configs/scratch.yaml for what each knob buys."""

    base: Literal["none"] = "none"  # what a bundle's manifest will name
    vocabulary: PositiveInt = 12288
    model: Mapping[str, Any] = field(default_factory=dict)
    detail: Detail = "names"
    epochs: Positive = 5.0
    max_tokens: PositiveInt = 512
    learning_rate: Positive = 1e-3
    embedding_rate: NotNegative | None = None
    weight_decay: NotNegative = 0.1
    codes_weight: NotNegative = 0.3
    probe_weight: NotNegative = 0.5
    probe_layer: PositiveInt = 1
    partial_policy: Share = 0.9
    parts: PositiveInt = 8
    left_out: Share = 0.0
    bag_epochs: NonNegativeInt = 0
    primer_steps: NonNegativeInt = 1000
    primer_rows: NonNegativeInt = 8
    least_label_mass: Share = 0.5
    dev_rows: PositiveInt = 10_000


def check(config: Config) -> None:
    """ConfigError, before anything takes long, if there is no such model or no such layer of it."""
    known = {key for key in vars(LlamaConfig()) if not key.startswith("_")}
    if unknown := sorted(set(config.model) - known):
        raise ConfigError(f"model.{unknown[0]} is no option of LlamaConfig")
    layers = LlamaConfig(**config.model).num_hidden_layers
    if config.probe_layer >= layers:
        raise ConfigError(
            f"probe_layer={config.probe_layer}: the model has {layers} layers, and one has to come after the probe's; "
            "give less, or more layers (model.num_hidden_layers)"
        )


def llama(options: Mapping[str, Any], prompt: Prompt, max_tokens: int) -> Any:
    """A Llama of random weights. Plain attention is faster than the fused kernel at these lengths on a CPU."""
    made = LlamaConfig(
        **{
            "vocab_size": prompt.chat.tokenizer.get_vocab_size(),
            "max_position_embeddings": max_tokens,
            "bos_token_id": prompt.chat.bos[0],
            "eos_token_id": prompt.chat.end[0],
            "tie_word_embeddings": True,
            "attn_implementation": "eager",
            **options,
        }
    )
    return LlamaForCausalLM(made)


def largest(step: int, primer_steps: int, codes: int) -> int:
    """How many categories a part of a policy of `codes` has at most: two in the first third of the primer, then more
    and more until the second is over. To look up one of seven is not learnt from nothing; one of one or two is.
    """
    third = max(1.0, primer_steps / 3)
    return round(2 + (codes - 3) * min(1.0, max(0.0, step / third - 1))) if step < primer_steps else codes - 1


def main(path: str, overrides: list[str]) -> None:
    config = schema.load(Path(path), Config, ConfigError, overrides)
    settle(config)
    check(config)
    out = Path(config.out)

    # The data.
    rules, data = policy.load(config.policy), Path(config.data)
    train, dev = (
        weighed(load_examples(data, split, rules, config.columns), config.source_weights) for split in ("train", "dev")
    )
    pool = benign(train)
    out.mkdir(parents=True, exist_ok=True)  # only now: data that cannot be read leaves no empty folder

    # The tokenizer and the one renderer. A resumed run keeps the tokenizer that it began with, which takes a while.
    if not (out / "checkpoint.pt").exists():
        texts = (message.content for example in train for message in example.conversation.messages)
        train_bpe(texts, [rules], config.vocabulary).save(str(out / "tokenizer.json.tmp"))
        (out / "tokenizer.json.tmp").replace(out / "tokenizer.json")
    (out / "policy.yaml").write_text(policy.dump(rules), encoding="utf-8")
    prompt = Prompt.load(out / "tokenizer.json", config.max_tokens, config.overlap, config.detail)
    judged = dev_sample(dev, prompt, rules, config.dev_rows, config.seed, config.data)
    settings = one_policy(config.augmentation)

    @functools.lru_cache(1)
    def epoch_of(number: int) -> list[list[Visit]]:
        rng = random.Random(f"{config.seed}/left out/{number}")
        seen = visits(train, PromptReader(prompt), rules, settings, config.seed, number, pool)
        made = [thinned(visit, prompt.frame, config.left_out, rng) for visit in seen]
        return list(batches(made, config.batch_tokens, config.batch_rows, random.Random(config.seed * 1000 + number)))

    def primer() -> list[list[Visit]]:
        rng = random.Random(f"{config.seed}/primer")
        made = made_up(pool.texts, rules, config.primer_steps * config.batch_rows, rng) if config.primer_steps else ()
        read = ((PromptReader(prompt).read(said, rules).windows[0], item) for said, item in made)
        rows = [Visit(item, (window.ids, window.segments)) for window, item in read]
        return list(batches(rows, config.batch_tokens, config.batch_rows, rng))[: config.primer_steps]

    first, opening = epoch_of(0), primer()
    shown = [visit for batch in first for visit in batch]
    made_rows = [visit for batch in opening for visit in batch]
    steps = len(opening) + int(len(first) * config.epochs)

    def stream() -> Iterator[list[Visit]]:
        yield from opening
        rng = random.Random(f"{config.seed}/primer rows")
        for number in itertools.count():
            for batch in epoch_of(number):
                yield batch + rng.sample(made_rows, min(config.primer_rows, len(made_rows)))

    tokens = sum(len(visit.row[0]) for visit in shown)

    # The model, the probe and their optimiser.
    model = llama(config.model, prompt, config.max_tokens)
    if config.bag_epochs and not (out / "checkpoint.pt").exists():
        table = model.get_input_embeddings().weight
        taught, told = taught_embeddings(
            table.detach(), shown, rules.codes, config.bag_epochs, config.label_smoothing, config.seed
        )
        table.data.copy_(taught)
        print(f"embeddings taught by a bag of words: loss {' '.join(f'{loss:.4f}' for loss in told)}", flush=True)
    probe = nn.Linear(model.config.hidden_size, len(rules.codes))
    learner = nn.ModuleDict({"model": model, "probe": probe})
    size = sum(parameter.numel() for parameter in model.parameters())
    print(
        f"{size / 1e6:.1f} million parameters, {model.config.vocab_size} tokens; the policy takes "
        f"{len(prompt.prefix_ids(rules))}; {len(shown)} training rows of {tokens} tokens after it; "
        f"{len(judged)} dev rows; {steps} steps",
        flush=True,
    )
    # Weights that begin at random soon forget their first gradients' squares with a shorter memory (arXiv:1706.03762).
    apart = config.learning_rate if config.embedding_rate is None else config.embedding_rate
    rates = {"": config.learning_rate, "model.model.embed_tokens.": apart}
    optimiser = adamw(learner, rates, config.weight_decay, (0.9, 0.98))
    schedule = rising_then_falling(optimiser, config.warmup_steps, steps)
    autocast = cpu_autocast(config.bf16)
    known = known_share([visit.item for visit in shown])

    def loss_of(batch: list[Visit], step: int) -> tuple[Tensor, int]:
        rows = [(visit.row[0], visit.item) for visit in batch]
        parts = Parts(config.partial_policy, config.parts, largest(step, len(opening), len(rules.codes)))
        asked = questions(rows, prompt, rules, parts, known, random.Random(f"{config.seed}/{step}"))
        if not asked.rows:  # no label says anything
            return probe.bias.sum() * 0.0, 0
        with autocast:
            found = losses(
                model, probe, config.probe_layer, prompt, rules, asked, config.label_smoothing, config.dropout
            )
        loss = found.word + config.codes_weight * found.codes + config.probe_weight * found.probe
        return loss, sum(len(row.prompt) for row in asked.rows)

    def judge() -> dict[str, float]:
        model.eval()
        return ranking(judged, read_verdicts(model, prompt, rules, [ids for row in judged for ids in row.prompts]))

    # The loop. A checkpoint holds everything: a killed run goes on where it was.
    plan = Plan(out, steps, config.checkpoint_steps, config.seed, identity(config, FREE))
    done = run_loop(plan, learner, optimiser, schedule, stream(), loss_of, judge)
    model.save_pretrained(out / "model")
    prompt.save(out / "model")  # so that it can be the base of another run
    write_run(
        out,
        kind="causal",
        config=config,
        policy=rules.digest,
        data_digest=data_digest(data),
        seed=config.seed,
        metrics={"history": done.history, "tokens_per_s": done.tokens_per_s},
        extra={"renderer": prompt.digest, "family": prompt.chat.family.name, "parameters": size},
    )
    print(f"{out}: done; next: guard export {out} BUNDLE")


if __name__ == "__main__":
    run_recipe(main)
