"""TRL's trainers on token ids, one for each kind of supervision, and how items become their columns.

TRL tokenizes, cuts and filters what it is given. Here its trainers get ids that fit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import Trainer, TrainingArguments
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.kto_config import KTOConfig
from trl.trainer.kto_trainer import KTOTrainer
from trl.trainer.reward_config import RewardConfig
from trl.trainer.reward_trainer import RewardTrainer
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from guard.reward.supervision import Item
from guard.train.causal.rows import IGNORED

LM_WEIGHT = 1.25  # of the review's loss beside the reward's, as in the paper of CLoud


@dataclass(frozen=True, slots=True)
class Kind:
    """A trainer with its configuration. head: whether it learns a scalar head, and not the language model."""

    trainer: type[Any]
    arguments: type[Any]
    head: bool = False


class OnIds(DPOTrainer):
    """DPO on rows that are ready."""

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        return dataset


class UnpairedOnIds(KTOTrainer):
    """KTO on rows that are ready. The completions of a batch, each moved on to the next prompt, estimate the KL."""

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, name: str) -> Any:
        if not self.calculate_KL:
            return dataset
        size, ids = args.per_device_train_batch_size, dataset["completion_ids"]
        batches = [list(ids[at : at + size]) for at in range(0, len(ids), size)]
        moved = [completion for batch in batches for completion in (batch[-1], *batch[:-1])]
        return dataset.add_column("KL_completion_ids", moved)


class ScaledBradleyTerry(RewardTrainer):
    """The loss of a pair counts as often as its margin says (HelpSteer2-Preference), which stays outside of the log.
    Margins have a mean of 1, so that their scale is no learning rate."""

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        scale = inputs.pop("margin")
        outputs = model(**inputs, use_cache=False)
        chosen, rejected = outputs.logits.squeeze(-1).chunk(2)
        loss = (scale * -nn.functional.logsigmoid(chosen - rejected)).mean()
        return (loss, outputs) if return_outputs else loss


class Attributes(Trainer):
    """The squared error of the attributes that are known."""

    def __init__(self, *, processing_class: Any, **options: Any) -> None:
        super().__init__(
            data_collator=lambda rows: attribute_batch(rows, processing_class.pad_token_id),
            processing_class=processing_class,
            **options,
        )
        scored: Any = self.model
        scored.config.get_text_config().pad_token_id = processing_class.pad_token_id

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        values = inputs.pop("values")
        outputs = model(**inputs, use_cache=False)
        known = ~torch.isnan(values)
        loss = ((outputs.logits - values.nan_to_num()) ** 2 * known).sum() / known.sum().clamp(min=1)
        return (loss, outputs) if return_outputs else loss


class Critic(Trainer):
    """Bradley-Terry on rewards that are read behind reviews, and the language model's loss on the reviews.

    The model has a `score` head, which takes the state of the last token.
    """

    def __init__(self, *, processing_class: Any, **options: Any) -> None:
        super().__init__(
            data_collator=lambda rows: review_batch(rows, processing_class.pad_token_id),
            processing_class=processing_class,
            **options,
        )
        self.model_accepts_loss_kwargs = False

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        last = inputs.pop("last")
        outputs = model(**inputs, use_cache=False, output_hidden_states=True)
        states = outputs.hidden_states[-1][torch.arange(len(last), device=last.device), last].float()
        rewards, _ = self.accelerator.unwrap_model(model).get_base_model().score(states, states)
        chosen, rejected = rewards.chunk(2)
        loss = -nn.functional.logsigmoid(chosen - rejected).mean() + LM_WEIGHT * outputs.loss
        return (loss, outputs) if return_outputs else loss


KINDS: Mapping[str, Kind] = {
    "sft": Kind(SFTTrainer, SFTConfig),
    "dpo": Kind(OnIds, DPOConfig),
    "kto": Kind(UnpairedOnIds, KTOConfig),
    "bradley-terry": Kind(RewardTrainer, RewardConfig, head=True),
    "scaled-bradley-terry": Kind(ScaledBradleyTerry, RewardConfig, head=True),
    "attributes": Kind(Attributes, TrainingArguments, head=True),
    "critic": Kind(Critic, TrainingArguments),
}
# Rows are ready and in order, whatever trainer takes them.
READY: Mapping[str, Mapping[str, Any]] = {
    "sft": {"max_length": None, "packing": False, "dataset_kwargs": {"skip_prepare_dataset": True}},
    "dpo": {"max_length": None},
    "kto": {"max_length": None},
    "bradley-terry": {"max_length": None},
    "scaled-bradley-terry": {"max_length": None},
    "attributes": {"remove_unused_columns": False, "label_names": ["values"]},
    "critic": {"remove_unused_columns": False},
}


def dataset(kind: str, items: Sequence[Item]) -> Dataset:
    """The columns that a trainer of this kind takes."""
    return Dataset.from_list([_columns(kind, item) for item in items])


def _columns(kind: str, item: Item) -> dict[str, Any]:
    prompt, chosen, rejected = list(item.prompt), list(item.chosen), list(item.rejected)
    match kind:
        case "sft":
            return {"input_ids": prompt + chosen, "labels": [IGNORED] * len(prompt) + chosen}
        case "dpo":
            return {"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected}
        case "kto":
            return {"prompt_ids": prompt, "completion_ids": chosen, "label": item.label}
        case "attributes":
            values = [math.nan if value is None else value for value in item.values]
            return {"input_ids": prompt + chosen, "values": values}
        case "critic":
            sides = ((prompt, chosen), (list(item.rejected_prompt), rejected))
            return {
                "ids": [before + reply for before, reply in sides],
                "labels": [[IGNORED] * len(before) + reply for before, reply in sides],
            }
    return {"chosen_ids": prompt + chosen, "rejected_ids": prompt + rejected, "margin": item.margin}


def attribute_batch(rows: Sequence[Mapping[str, Any]], pad: int) -> dict[str, Tensor]:
    """input_ids and attention_mask [rows, tokens], padded at the end, and values [rows, attributes]."""
    ids, mask = _padded([row["input_ids"] for row in rows], pad)
    return {"input_ids": ids, "attention_mask": mask, "values": torch.tensor([row["values"] for row in rows])}


def review_batch(rows: Sequence[Mapping[str, Any]], pad: int) -> dict[str, Tensor]:
    """[2 × rows, tokens], the chosen ones first; `last` [2 × rows] is where each row ends."""
    ids, mask = _padded([row["ids"][side] for side in (0, 1) for row in rows], pad)
    labels, _ = _padded([row["labels"][side] for side in (0, 1) for row in rows], IGNORED)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels, "last": mask.sum(1) - 1}


def _padded(rows: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[pad] * (width - len(row))] for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    return ids, mask
