"""A reward model's training run: its rows, its stages in order, and the folder that it ends as.

Every stage leaves its adapter under stages/, and what a model wrote for it. A killed run goes on with the stage that it
was in, from that stage's last checkpoint.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from guard import policy
from guard.errors import DataError
from guard.policy import Policy
from guard.prompts.prompt import Prompt, load_prompt
from guard.reward import folder as files
from guard.reward.config import FREE, Config
from guard.reward.items import drawn, margin_unit, pairs_of
from guard.reward.load import held_out, lacking, load_rows, require
from guard.reward.prompts import RewardPrompts
from guard.reward.row import RewardRow
from guard.reward.supervision import Item, Supervision
from guard.reward.systems import Stage, System
from guard.reward.template import template
from guard.train.causal import run_folder
from guard.train.causal.base import on_cuda, tokenizer_of
from guard.train.causal.checkpoint import loadable, model_folder
from guard.train.common.identity import base_digest, contents, made_of
from guard.train.common.precision import trains_in_bf16

COST = "cost.json"  # of a stage
USUAL = "helpfulness"  # the attribute that is learnt where one is, unless another is named


@dataclass(frozen=True, eq=False)
class RewardRun:
    """What all stages of a run share. `train` and `apart` are of different prompts."""

    config: Config
    system: System
    base: Path
    tokenizer: Path
    prompts: RewardPrompts
    rules: Policy | None
    train: Sequence[RewardRow]
    apart: Sequence[RewardRow]
    inputs: Mapping[str, str]
    cuda: bool
    bf16: bool

    @property
    def out(self) -> Path:
        return Path(self.config.out)

    def stage_folder(self, stage: Stage) -> Path:
        return self.out / "stages" / f"{self.system.stages.index(stage) + 1}-{stage.name}"

    def costs(self) -> dict[str, Any]:
        """By stage: its rows, items and steps, and its seconds, what the model wrote first included; those of the last
        session alone where it was `resumed`."""
        files = {stage.name: self.stage_folder(stage) / COST for stage in self.system.stages}
        return {name: json.loads(file.read_text(encoding="utf-8")) for name, file in files.items() if file.is_file()}

    @cached_property
    def guard(self) -> tuple[Prompt, Policy] | None:
        if self.rules is None:
            return None
        most, detail = self.config.max_tokens, self.config.detail
        return load_prompt(self.tokenizer, most, min(files.OVERLAP, most // 8), detail), self.rules

    @cached_property
    def attribute(self) -> str | None:
        """The attribute by which answers are rated; None: the mean of all. DataError if no row has it, or if a system
        that learns one cannot tell which."""
        given, names = self.config.attribute, self._rated
        if given is not None and names and given not in names:
            raise DataError(f"{self.config.data}: no row has the attribute {given!r}; they have: {', '.join(names)}")
        if given is not None or not self.system.rates_one or not names:
            return given
        usual = names if len(names) == 1 else [name for name in names if name == USUAL]
        if not usual:
            raise DataError(
                f"{self.config.data}: {self.system.name} learns one attribute, and its rows have {', '.join(names)}; "
                "give attribute=NAME"
            )
        return usual[0]

    @cached_property
    def attributes(self) -> tuple[str, ...]:
        """The names of a scalar head's outputs. DataError if no row has one of them."""
        if self.system.rates_one:
            return (self.attribute or USUAL,)
        if strange := [name for name in self.config.attributes if self._rated and name not in self._rated]:
            raise DataError(
                f"{self.config.data}: no row has the attribute {strange[0]!r}; they have: {', '.join(self._rated)}"
            )
        return self.config.attributes or self._rated or ("reward",)

    @cached_property
    def _rated(self) -> tuple[str, ...]:
        return tuple(sorted({name for row in self.train for name in row.attributes}))

    def supervision(self, judgements: Mapping[str, Any] | None = None, margin: float = 0.0) -> Supervision:
        return Supervision(self.prompts, self.system.question, self.attributes, judgements or {}, self.guard, margin)

    def rows(self, stage: Stage) -> list[RewardRow]:
        """The rows that a stage learns from. DataError, with the shape of one, if none has what it needs.

        Rows without what any stage needs are an error, too; optional stages may have none.
        """
        rows = list(self.train)
        if stage.derives:
            rows += pairs_of([row for row in rows if row.attributes], self.attribute)
        found = [row for row in rows if not lacking(row, stage.needs)]
        if "attributes" in stage.needs:
            found = [row for row in found if any(name in row.attributes for name in self.attributes)]
        if not found and not stage.optional:
            require(rows[:1], stage.needs, f"{self.config.data}: the stage {stage.name} of {self.system.name}")
        return found

    def check_rows(self) -> None:
        """DataError if a row has what no stage needs, or no row an attribute that is asked for."""
        _ = self.attribute, self.attributes
        needs = [stage.needs for stage in self.system.stages]
        for row in (*self.train, *self.apart):
            if all(lacking(row, each) for each in needs):
                require([row], needs[-1], f"{self.config.data}: {self.system.name}")

    def items(self, stage: Stage, rows: Sequence[RewardRow], judgements: Mapping[str, Any]) -> list[Item]:
        """The items of a stage over all epochs, in the order in which they are learnt."""
        made = stage.build(self.supervision(judgements, self._margin_unit(stage, rows)), rows)
        cut = sum(item.coverage < 1 for item in made)
        epochs = self.config.stages.get(stage.name, {}).get("epochs", self.config.epochs)
        shown = [item for epoch in range(epochs) for item in drawn(made, epoch, self.config.seed)]
        print(  # noqa: T201
            f"{stage.name}: {len(rows)} rows, {len(made)} items ({cut} cut to {self.config.max_tokens} tokens), "
            f"{len(shown)} draws",
            flush=True,
        )
        return shown

    def _margin_unit(self, stage: Stage, rows: Sequence[RewardRow]) -> float:
        """DataError if a stage weighs pairs by their margins and all of them are 0."""
        weighs = stage.trainer == "scaled-bradley-terry"
        unit = margin_unit(rows, 1.0 if weighs else self.config.margin)
        if weighs and not unit:
            raise DataError(
                f"{self.config.data}: the margins of all {len(rows)} pairs are 0; {stage.name} needs others"
            )
        return unit


def begin(config: Config, system: System, where: str) -> RewardRun | None:
    """The run with its rows read and its folder claimed; None if it is finished already."""
    cuda = on_cuda(config.device, 1, False, where)
    tokenizer = tokenizer_of(loadable(config.base))
    base = model_folder(config.base, config.model)
    prompts = RewardPrompts.load(tokenizer, config.max_tokens, config.reply_tokens)
    if system.question:
        prompts.check_reply(template().questions[system.question])
    rules = None if config.policy is None else policy.load(config.policy)
    data = Path(config.data)
    inputs = {
        **({"data": contents(data)} if data.exists() else {}),
        "base": base_digest(base),
        "template": template().digest,
        **({"policy": rules.digest, "renderer": load_prompt(tokenizer, config.max_tokens, 0).digest} if rules else {}),
    }
    train, apart = held_out(load_rows(data, config.split), config.held_out, config.seed)
    if not train:
        raise DataError(f"{data}: held_out={config.held_out:g} leaves no rows to learn from")
    bf16 = trains_in_bf16(config.precision, cuda)
    run = RewardRun(config, system, base, tokenizer, prompts, rules, train, apart, inputs, cuda, bf16)
    run.check_rows()
    run_folder.begin(run.out, made_of(config, FREE, inputs))
    if run_folder.is_finished(run.out):
        print(f"{run.out}: is finished already; next: guard reward eval {run.out} ROWS")  # noqa: T201
        return None
    print(f"{system.name}: {len(train)} rows to learn from, {len(apart)} held out by prompt", flush=True)  # noqa: T201
    return run


def begin_finish(run: RewardRun) -> Path:
    """The staged folder with all parts that are no weights."""
    staged = run_folder.stage(run.out)
    shutil.copyfile(run.tokenizer, staged / files.TOKENIZER)
    if run.rules is not None:
        assert run.guard is not None
        run.guard[0].save(staged)
        (staged / files.POLICY).write_text(policy.dump(run.rules), encoding="utf-8")
    return staged
