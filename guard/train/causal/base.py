"""The model that a causal guard starts from, and the machine that it is to be trained on; checked before any work."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from transformers import AutoConfig, PreTrainedTokenizerFast
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils.hub import cached_file

from guard.errors import BundleError, ConfigError, nearest
from guard.policy import Detail
from guard.prompts.chat_template import CONFIG, JINJA
from guard.prompts.prompt import Prompt, load_prompt
from guard.prompts.released import ReleasedPrompt
from guard.train.causal.adapter import check_adapter
from guard.train.causal.checkpoint import Checkpoint, model_folder, unreachable
from guard.train.causal.config import Device
from guard.train.causal.hollow import described, empty_model, stored_as
from guard.train.causal.rows import DETAILS

# Options of TRL's trainer that keys of the recipe take the place of.
REPLACED = {"per_device_train_batch_size": "batch_rows and batch_tokens", "bf16": "precision", "fp16": "precision"}
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")


def tokenizer_of(base: str) -> Path:
    """The `tokenizer.json` of a base that can become a guard. ConfigError if it is not a causal LM that is there."""
    where = f"base {base!r}"
    if Path(base).is_dir() and not any(True for kind in _WEIGHTS for _ in Path(base).glob(kind)):
        ggufs = sorted(path.name for path in Path(base).glob("*.gguf"))
        instead = f"; give the file itself: base={Path(base) / ggufs[0]}" if ggufs else ""
        raise ConfigError(f"{where}: the folder holds no weights ({' or '.join(_WEIGHTS)}){instead}")
    try:
        config = AutoConfig.from_pretrained(base)
    except (OSError, ValueError) as problem:
        if not Path(base).exists():
            raise ConfigError(unreachable(base, problem)) from None
        raise ConfigError(f"{where}: no model can be loaded there: {str(problem).splitlines()[0]}") from None
    kinds = [name for name in config.architectures or () if name not in set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values())]
    if kinds or config.model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        kind = ", ".join(kinds) or config.model_type
        raise ConfigError(f"{where}: is a {kind}, not a causal language model; `guard train encoder` takes encoders")
    try:
        found = cached_file(base, "tokenizer.json")
    except OSError:
        raise ConfigError(
            f"{where}: has no tokenizer.json; AutoTokenizer.from_pretrained(base).save_pretrained(base) writes one"
        ) from None
    for file in (CONFIG, JINJA):  # what makes a released guard one; not every base has them
        cached_file(base, file, _raise_exceptions_for_missing_entries=False)
    return Path(str(found))


def prompts_of(tokenizer: Path, base: str, max_tokens: int, overlap: int, most: Detail) -> dict[Detail, Prompt]:
    """The one renderer for each detail up to `most`. BundleError if the tokenizer is not one that it can use."""
    prompt = load_prompt(tokenizer, max_tokens, overlap, most)
    if isinstance(prompt, ReleasedPrompt) and not prompt.guard.names_categories:
        raise ConfigError(
            f"base {base!r}: {prompt.guard.name} names no categories in its verdict, so it is not trained; use it as "
            "it is, or train it on guard's own prompt in a folder without its chat template"
        )
    text = AutoConfig.from_pretrained(base).get_text_config()
    size = prompt.chat.tokenizer.get_vocab_size()
    if size > text.vocab_size:
        raise BundleError(
            f"{tokenizer}: has {size} tokens, more than the {text.vocab_size} that the model of base {base!r} knows; "
            "the two do not belong together"
        )
    return {detail: prompt.with_detail(detail) for detail in DETAILS[: DETAILS.index(most) + 1]}


def check_graph(config: Any, where: str, error: type[BundleError | ConfigError]) -> None:
    """`error` if a model keeps of the past what an exported graph, of keys and values, has no place for."""
    if empty_model(config)._is_stateful:
        told = "keeps a state beside keys and values, which no exported graph holds"
        raise error(f"{where}: a {config.model_type} {told}; take a base whose layers all are attention")


def check_exportable(base: str, options: Mapping[str, Any], adapter: LoraConfig | None, frozen_layers: int = 0) -> Path:
    """The folder of a base, from which what is trained can be exported afterwards. ConfigError or BundleError if not.

    options: what it is loaded with, beside its name. adapter: None where all weights are trained. frozen_layers: of
    which at least one must be left to learn.
    """
    folder = model_folder(base, options)
    config = described(base, options)
    if frozen_layers >= (layers := config.get_text_config().num_hidden_layers):
        raise ConfigError(f"frozen_layers={frozen_layers}: the base has {layers} layers; at least one must be left")
    check_graph(config, f"base {base!r}", ConfigError)
    if adapter is not None:  # else all weights will be written anew
        check_adapter(adapter, config, "lora")
        stored_as(empty_model(config), Checkpoint(folder))
    return folder


def fast_tokenizer(tokenizer: Path, prompt: Prompt) -> PreTrainedTokenizerFast:
    """What TRL asks for; it pads with it and tokenises nothing."""
    end = prompt.chat.family.end
    return PreTrainedTokenizerFast(tokenizer_file=str(tokenizer), eos_token=end, pad_token=end)  # type: ignore[no-untyped-call]


def on_cuda(device: Device, processes: int, sharded: bool, where: str) -> bool:
    """Whether to train on GPUs. ConfigError if GPUs or processes that are asked for are missing."""
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "cuda" and not there:
        raise ConfigError(
            f"{where}: device=cuda, and there is no GPU that torch can use; `guard train cpu-tiny` shows the pipeline "
            "on a CPU, and device=cpu trains this configuration there (slowly, unless the base is tiny)"
        )
    if sharded and not (device != "cpu" and there):
        raise ConfigError(f"{where}: trainer.fsdp shards over GPUs, and none is in use; leave it out")
    here = int(os.environ.get("LOCAL_WORLD_SIZE", processes))
    if device != "cpu" and 0 < there < here:
        raise ConfigError(
            f"{where}: processes={here}, but this machine has {there} GPU(s); set processes={there}, or use lora-1gpu "
            "(80 GB) or lora-24gb"
        )
    return device != "cpu" and there > 0


def spread(processes: int, where: str) -> None:
    """Starts this program again as so many processes and does not return; or does nothing, inside one of them.

    ConfigError if others started another number of processes.
    """
    started = os.environ.get("WORLD_SIZE")
    if started is not None and int(started) != processes:
        raise ConfigError(f"{where}: processes={processes}, but {started} were started; set processes={started}")
    if started is None and processes > 1:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        os.environ["PYTHONSAFEPATH"] = "1"  # nothing beside the recipe can take a package's place
        os.execv(sys.executable, [sys.executable, *launcher, *sys.argv])


def counted(model: Any) -> tuple[int, int]:
    """Parameters that are trained, and all of them; those in 4 bits, of which a byte holds two, by their number."""
    if isinstance(model, PeftModel):
        trained, every = model.get_nb_trainable_parameters()
        return int(trained), int(every)
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return sum(size for size, learns in sizes if learns), sum(size for size, _ in sizes)


def passed_through(
    options: Mapping[str, Any], cls: type, section: str, instead: Mapping[str, str] | None = None, **ours: Any
) -> Any:
    """A `cls` of the options of a section and of `ours`, which may not be given. Unknown options are errors.

    instead: by options of `cls` that may not be given, the keys of the recipe that take their place.
    """
    replaced = instead or {}
    allowed = {known.name for known in dataclasses.fields(cls) if known.init} - set(ours) - set(replaced)
    for key in options:
        if key in replaced:
            raise ConfigError(f"{section}.{key} is set by this recipe; give {replaced[key]}, outside of {section}")
        if key in ours:
            raise ConfigError(f"{section}.{key} is set by this recipe")
        if key not in allowed:
            near = nearest(key, allowed)
            raise ConfigError(
                f"{section}.{key} is no option of {cls.__name__}{f'; did you mean {near}?' if near else ''}"
            )
    try:
        return cls(**options, **ours)
    except (TypeError, ValueError) as problem:
        raise ConfigError(f"{section}: {cls.__name__} refuses it: {problem}") from None
