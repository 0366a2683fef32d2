"""A causal language model with any number of adapters: hidden states, log-probabilities and samples of token ids."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, set_peft_model_state_dict
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM, LogitsProcessor

from guard.errors import BundleError
from guard.prompts.window import Ids
from guard.train.causal.step import padded_left

HEAD = "score"  # the scalar head that peft keeps beside an adapter
WEIGHTS = "adapter_model.safetensors"
BATCH_TOKENS = 8192


class Drawn(LogitsProcessor):
    """Gumbel noise on the logits, so that the greatest one is drawn with its probability (Gumbel 1954): each sequence
    by a generator of its own, on the CPU, so that neither its batch nor the device changes what is drawn."""

    def __init__(self, seeds: Sequence[int], heat: float) -> None:
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.heat = heat

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        exponential = torch.stack([torch.empty(scores.shape[1]).exponential_(generator=g) for g in self.generators])
        return scores.float() / self.heat - exponential.log().to(scores.device)


class Base:
    """Rows are grouped by length, padded on the left and read at their last positions; a score does not depend on its
    batch. Calls are serialised, because an adapter is switched on for all of the model."""

    def __init__(self, model: Any, pad: int, batch_tokens: int = BATCH_TOKENS) -> None:
        self.model = model.eval()
        self.pad, self.batch_tokens = pad, batch_tokens
        self._lock = threading.RLock()

    @classmethod
    def open(cls, folder: Path | str, pad: int, batch_tokens: int = BATCH_TOKENS) -> Base:
        """In fp32 on a CPU, in bf16 on a GPU."""
        cuda = torch.cuda.is_available()
        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16 if cuda else torch.float32)
        return cls(model.to("cuda" if cuda else "cpu"), pad, batch_tokens)

    @property
    def device(self) -> Any:
        return self.model.device

    @property
    def width(self) -> int:
        return int(self.model.config.get_text_config().hidden_size)

    @property
    def precision(self) -> str:
        """Of its weights, like `float32`."""
        return str(self.model.dtype).removeprefix("torch.")

    def attach(self, name: str, folder: Path) -> None:
        """Loads an adapter beside those that are there. BundleError if it does not fit the base."""
        config = LoraConfig.from_pretrained(str(folder))
        config.task_type, config.modules_to_save, config.inference_mode = "CAUSAL_LM", None, True
        weights = {key: value for key, value in load_file(folder / WEIGHTS).items() if f".{HEAD}." not in key}
        with self._lock:
            if isinstance(self.model, PeftModel):
                self.model.add_adapter(name, config)
            else:
                self.model = get_peft_model(self.model, config, adapter_name=name)
            try:
                told: Any = set_peft_model_state_dict(self.model, weights, adapter_name=name)
            except RuntimeError:  # torch's message lists the shapes of every layer
                raise BundleError(f"{folder}: this adapter was made for a base of other sizes") from None
            if told.unexpected_keys:
                raise BundleError(
                    f"{folder}: {len(told.unexpected_keys)} weights of this adapter fit no layer of the base"
                )
            self.model.eval()

    @contextlib.contextmanager
    def using(self, adapter: str | None) -> Iterator[Any]:
        """The model with one adapter; None: as it was before any."""
        with self._lock, torch.no_grad():
            if not isinstance(self.model, PeftModel):
                yield self.model
            elif adapter is None:
                with self.model.disable_adapter():
                    yield self.model
            else:
                self.model.set_adapter(adapter)
                yield self.model

    # -- forward passes -------------------------------------------------------------------------------------------

    def hidden(self, rows: Sequence[Ids], adapter: str | None) -> Tensor:
        """[rows, width], fp32: the last layer's state at the last token of each row."""
        found = torch.empty(len(rows), self.width)
        with self.using(adapter) as model:
            backbone: Any = (model.get_base_model() if isinstance(model, PeftModel) else model).base_model
            for batch in self.batches(rows):
                states = backbone(**self._inputs([rows[index] for index in batch])).last_hidden_state
                found[batch] = states[:, -1].float().cpu()
        return found

    def next_word(self, rows: Sequence[Ids], words: Ids, adapter: str | None) -> Tensor:
        """[rows, words], fp32: the log-probability that the model goes on with each word's first token."""
        found = torch.empty(len(rows), len(words))
        with self.using(adapter) as model:
            for batch in self.batches(rows):
                logits = model(**self._inputs([rows[index] for index in batch]), logits_to_keep=1).logits[:, -1]
                found[batch] = torch.log_softmax(logits.float(), -1)[:, list(words)].cpu()
        return found

    def completion(self, prompts: Sequence[Ids], completions: Sequence[Ids], adapter: str | None) -> Tensor:
        """[rows], fp32: the log-probability of each completion behind its prompt."""
        rows = [(*prompt, *completion) for prompt, completion in zip(prompts, completions, strict=True)]
        found = torch.empty(len(rows))
        with self.using(adapter) as model:
            for batch in self.batches(rows):
                longest = max(len(completions[index]) for index in batch)
                inputs = self._inputs([rows[index] for index in batch])
                logits = model(**inputs, logits_to_keep=longest + 1).logits[:, :-1].float()
                ids = inputs["input_ids"][:, -longest:]
                logp = torch.log_softmax(logits, -1).gather(-1, ids[..., None])[..., 0]
                lengths = torch.tensor([len(completions[index]) for index in batch], device=logp.device)
                inside = torch.arange(longest, device=logp.device)[None] >= longest - lengths[:, None]
                found[batch] = (logp * inside).sum(1).cpu()
        return found

    def sample(
        self,
        rows: Sequence[Ids],
        count: int,
        tokens: int,
        seeds: Sequence[int],
        ends: Sequence[int],
        adapter: str | None,
        heat: float = 1.0,
    ) -> list[list[Ids]]:
        """`count` continuations of each row, at most `tokens` ids each, without their end. heat: 0 gives the most
        probable one.

        A row has a seed of its own, so that its continuations depend on it alone, whatever is sampled beside it.
        """
        each, stops = count if heat else 1, {self.pad, *ends}
        found: list[list[Ids]] = [[] for _ in rows]
        with self.using(adapter) as model:
            for batch in self.batches(rows, each, tokens):
                ids, mask = padded_left([rows[index] for index in batch for _ in range(each)], self.device)
                drawn = Drawn([seeds[index] + copy for index in batch for copy in range(each)], heat)
                written = model.generate(
                    input_ids=ids,
                    attention_mask=mask,
                    max_new_tokens=tokens,
                    pad_token_id=self.pad,
                    eos_token_id=list(ends),
                    do_sample=False,
                    logits_processor=[drawn] if heat else [],
                )[:, ids.shape[1] :].tolist()
                for place, reply in enumerate(written):
                    end = next((at for at, index in enumerate(reply) if index in stops), len(reply))
                    found[batch[place // each]].append(tuple(reply[:end]))
        return found if heat else [replies * count for replies in found]

    def batches(self, rows: Sequence[Ids], copies: int = 1, more: int = 0) -> Iterator[list[int]]:
        """Indices of rows of near lengths, at most `batch_tokens` a batch with padding, of so many copies of each row
        and so many more tokens."""
        order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
        batch: list[int] = []
        for index in order:
            if batch and (len(rows[index]) + more) * copies * (len(batch) + 1) > self.batch_tokens:
                yield batch
                batch = []
            batch.append(index)
        if batch:
            yield batch

    def _inputs(self, rows: Sequence[Ids]) -> Mapping[str, Any]:
        ids, mask = padded_left(rows, self.device)
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        return {"input_ids": ids, "attention_mask": mask, "position_ids": positions, "use_cache": False}
