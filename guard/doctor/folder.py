"""A base model's or a released guard's folder: its configuration, its tokenizer, its weights and what they say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from guard import policy as policies
from guard.doctor import mass
from guard.doctor import prompt as prompt_checks
from guard.doctor.check import Check, fail, ok, warn
from guard.errors import GuardError
from guard.prompts.prompt import Prompt, load_prompt
from guard.prompts.released import ReleasedPrompt

MAX_TOKENS, OVERLAP = 4096, 256  # those of the shipped configurations
INDEX = "model.safetensors.index.json"


def checks(root: Path, policy: str | None, weights: bool) -> Iterator[Check]:
    rules = None if policy is None else policies.load(policy)
    if (root / "run.json").is_file():
        yield fail("model", f"{root} is a training run", f"run: guard export {root} BUNDLE, then guard doctor BUNDLE")
        return
    if (root / "adapter_config.json").is_file():
        yield fail("model", f"{root} is an adapter without its base", "merge it into its base; guard export does that")
        return
    config, finding = _config(root)
    yield finding
    tokenizer = root / "tokenizer.json"
    if not tokenizer.is_file():
        advice = "load it with transformers and save_pretrained it: that writes tokenizer.json"
        yield fail("tokenizer", "no tokenizer.json", advice)
        return
    try:
        made = load_prompt(tokenizer, MAX_TOKENS, OVERLAP)
        rules = rules or (made.template.policy if isinstance(made, ReleasedPrompt) else policies.load("mlcommons"))
        yield from _fits(made, config)
        yield from prompt_checks.checks(made, rules, root if weights else None)
    except GuardError as problem:
        yield fail("template", str(problem))
        return
    files, finding = _weights(root)
    yield finding
    if weights and files and finding.status == "ok":
        yield mass.check(root, made, rules, sum(file.stat().st_size for file in files))


def _config(root: Path) -> tuple[dict[str, Any], Check]:
    try:
        config = json.loads((root / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        advice = "give the folder of a Hugging Face model, or a bundle"
        return {}, fail("configuration", f"no readable config.json ({type(problem).__name__})", advice)
    kinds = [str(kind) for kind in config.get("architectures") or []]
    told = f"{', '.join(kinds) or config.get('model_type')}"
    if not any(kind.endswith(("ForCausalLM", "ForConditionalGeneration")) for kind in kinds):
        advice = "take a causal language model: its architecture ends in ForCausalLM"
        return config, fail("configuration", f"{told}: not a causal language model", advice)
    text = config.get("text_config", config)
    if config.get("model_type", "").startswith("llama4") and text.get("attention_chunk_size") is None:
        advice = "set attention_chunk_size in config.json to 8192, or transformers will not run it"
        return config, warn("configuration", f"{told}: attention_chunk_size is null", advice)
    longest = text.get("max_position_embeddings")
    if isinstance(longest, int) and longest < MAX_TOKENS:
        advice = f"train with max_tokens={longest} or less"
        return config, warn("configuration", f"{told}, reads {longest} tokens; the default is {MAX_TOKENS}", advice)
    return config, ok("configuration", f"{told}, reads {longest} tokens")


def _fits(made: Prompt, config: dict[str, Any]) -> Iterator[Check]:
    """The tokenizer against the model that it came with."""
    size = config.get("text_config", config).get("vocab_size")
    highest = max(made.chat.tokenizer.get_vocab(with_added_tokens=True).values())
    if isinstance(size, int) and highest >= size:
        advice = "take tokenizer and weights from the same release, or resize the embeddings"
        yield fail("tokenizer", f"its highest id is {highest}, the model has {size} rows", advice)
    else:
        yield ok("tokenizer", f"{highest + 1} ids, the model has {size or 'an unknown number of'} rows")
    ends = config.get("eos_token_id")
    ends = ends if isinstance(ends, list) else [ends]
    if ends != [None] and made.chat.end[0] not in ends:
        yield warn(
            "end of text",
            f"verdicts end with {made.chat.end[0]}, config.json names {', '.join(map(str, ends))}",
            "scoring does not mind; a server that generates will not stop: set eos_token_id",
        )


def _weights(root: Path) -> tuple[list[Path], Check]:
    """The files of the weights, if they are all there."""
    if (root / INDEX).is_file():
        names = sorted(set(json.loads((root / INDEX).read_text(encoding="utf-8"))["weight_map"].values()))
        files = [root / name for name in names]
        if absent := [file.name for file in files if not file.is_file()]:
            told = f"{len(absent)} of {len(files)} files are missing: {', '.join(absent[:3])}"
            return [], fail("weights", told, "download them again")
    else:
        files = sorted([*root.glob("model*.safetensors"), *root.glob("pytorch_model*.bin")])
    if not files:
        return [], warn("weights", "none here", "the label mass was not measured: nothing proves the template right")
    size = sum(file.stat().st_size for file in files)
    return files, ok("weights", f"{len(files)} files, {size / 1e9:.2f} GB")
