"""A training run of the encoder: options, setup, loop, and results."""

from __future__ import annotations

import contextlib
import itertools
import json
import random
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field, NonNegativeInt
from torch import Tensor

from guard import policy
from guard.bundle import LEAST_TOKENS
from guard.conversation import Example
from guard.data.dataset.examples import load_examples, of_languages, weighed
from guard.errors import ConfigError
from guard.policy import Policy
from guard.prompts.encoder import EncoderInput
from guard.schema import NotNegative, Positive, Share
from guard.train.common.config import LoopConfig
from guard.train.common.identity import claim, made_of
from guard.train.common.labels import Row
from guard.train.common.loop import Finished, Plan, adamw, rising_then_falling, run_loop
from guard.train.common.precision import cpu_autocast
from guard.train.common.run_folder import data_digest, write_run
from guard.train.common.sampling import Drawn, batches
from guard.train.common.teaching import teaching
from guard.train.encoder import model as encoder
from guard.train.encoder.dev_eval import DevRow, dev_rows, evaluate
from guard.train.encoder.tokenizer import encoder_tokenizer

Batch = TypeVar("Batch")


@dataclass(frozen=True, kw_only=True)
class EncoderConfig(LoopConfig):
    """See training/configs/encoder.yaml for the effect of each setting."""

    base: str
    languages: tuple[str, ...] = ()  # of the rows that are read; empty: all
    epochs: Positive = 2.0
    max_tokens: Annotated[int, Field(ge=LEAST_TOKENS)] = 192  # control tokens included
    learning_rate: Positive = 1.2e-4
    head_learning_rate: Positive = 1e-3
    weight_decay: NotNegative = 0.01
    freeze_embeddings: bool = True
    category_weight: NotNegative = 0.2
    refusal_weight: NotNegative = 0.1
    partial_policy: Share = 0.4
    centre_rows: NonNegativeInt = 0  # of the training data, by which a plain encoder's vectors are centred


@dataclass(frozen=True, eq=False)
class EncoderRun:
    """A started run: its rows, the model, and the renderer.

    inputs: digests of what the configuration names. identity: what a resumed run must have in common with this one.
    data: the digest by which a bundle names its data. train: rows of both labels. dev: rows as serving reads them.
    """

    config: EncoderConfig
    rules: Policy
    base: Path
    inputs: Mapping[str, Any]
    identity: Mapping[str, Any]
    data: str | None
    train: list[Example]
    dev: list[DevRow]
    model: encoder.ConditionedEncoder
    reader: EncoderInput
    autocast: contextlib.AbstractContextManager[None]

    @property
    def out(self) -> Path:
        return Path(self.config.out)

    def dev_metrics(self) -> dict[str, float | None]:
        """Ranking metrics on the dev rows."""
        return evaluate(self.model, self.dev, self.reader, self.rules, self.autocast)

    def batches(self, samples: Sequence[Drawn], rng: random.Random) -> Iterator[list[Drawn]]:
        return batches(samples, self.config.batch_tokens, self.config.batch_rows, rng)


def begin(config: EncoderConfig, rules: Policy, inputs: Mapping[str, Any], resumable: Collection[str]) -> EncoderRun:
    """Reads the rows, makes the run's folder with its policy and tokenizer, and opens the base: a guard, or a plain
    encoder with a new head.

    inputs: digests that were taken before anything was read. resumable: keys of the configuration that may change when
    a killed run goes on. DataError if rows cannot be read or are of one label, which leaves no folder; ConfigError if
    the base has fewer positions than a window has tokens, or the folder holds another run.
    """
    base, out, data = encoder.base_folder(config.base), Path(config.out), Path(config.data)
    digest, identity = data_digest(data), made_of(config, resumable, inputs)
    train, dev = (
        of_languages(load_examples(data, split, rules, config.columns), config.languages, config.data)
        for split in ("train", "dev")
    )
    train = weighed(train, config.source_weights)
    teaching(train, rules, config.data)
    dev = [row for row in dev if row.kind != "text"]
    trained = any((base / name).exists() for name in ("guard.json", "run.json"))
    model = encoder.load(base) if trained else encoder.from_pretrained(base)
    if config.max_tokens > (most := model.encoder.config.max_position_embeddings):
        raise ConfigError(f"max_tokens must be <= {most} for {config.base} (got {config.max_tokens})")
    model.dropout.p = config.dropout
    # Words keep their pre-trained vectors, so that words unseen here stay where they were.
    model.encoder.embeddings.word_embeddings.requires_grad_(not config.freeze_embeddings)
    claim(out, identity)
    encoder_tokenizer(base / "tokenizer.json", out / "tokenizer.json")
    (out / "policy.yaml").write_text(policy.dump(rules), encoding="utf-8")
    reader = EncoderInput.load(out / "tokenizer.json", config.max_tokens, config.overlap)
    autocast = cpu_autocast(config.bf16)
    if config.centre_rows and not trained:
        encoder.centre(model, _rows(train, reader, rules, config.centre_rows, config.seed), reader.pad)
    return EncoderRun(
        config, rules, base, inputs, identity, digest, train, dev_rows(dev, reader, rules), model, reader, autocast
    )


def _rows(examples: Sequence[Example], reader: EncoderInput, rules: Policy, count: int, seed: int) -> list[Row]:
    """The first windows of `count` examples drawn at random."""
    chosen = random.Random(seed).sample(list(examples), min(count, len(examples)))
    windows = (reader.tokenize(example.conversation, rules).windows[0] for example in chosen)
    return [(window.ids, window.segments) for window in windows]


def fit(
    run: EncoderRun, epoch: Callable[[int], Sequence[Batch]], loss_at: Callable[[Batch, int], tuple[Tensor, int]]
) -> Finished:
    """Trains the run's model. `epoch` gives the batches of an epoch by its number, `loss_at` is that of `run_loop`.

    A checkpoint holds everything: a killed run goes on where it was.
    """
    config = run.config
    steps = int(len(epoch(0)) * config.epochs)
    rates = {"": config.learning_rate, "head.": config.head_learning_rate}
    optimiser = adamw(run.model, rates, config.weight_decay)
    schedule = rising_then_falling(optimiser, config.warmup_steps, steps)
    plan = Plan(run.out, steps, config.checkpoint_steps, config.seed, json.dumps(run.identity, sort_keys=True))
    stream = itertools.chain.from_iterable(epoch(number) for number in itertools.count())
    return run_loop(plan, run.model, optimiser, schedule, stream, loss_at, run.dev_metrics)


def finish(run: EncoderRun, finished: Finished, **extra: Any) -> None:
    """Writes the weights and, last, the record of the run. `extra`: more fields of the record."""
    encoder.save(run.model, run.out)
    stage = run.base / "run.json"  # of a stage before this one, which knows what all began with
    named = run.config.base if run.config.base in ("mini", "minilm") else run.base.name
    origin = json.loads(stage.read_text(encoding="utf-8"))["base"] if stage.exists() else named
    write_run(
        run.out,
        kind="mini",
        config=run.config,
        policy=run.rules.digest,
        data_digest=run.data,
        seed=run.config.seed,
        metrics={"history": finished.history},
        extra={
            "digests": run.inputs,
            "base": origin,
            "tokens_per_s": finished.tokens_per_s,
            **extra,
        },
    )
    print(f"{run.out}: done; next: guard export {run.out} BUNDLE")  # noqa: T201
