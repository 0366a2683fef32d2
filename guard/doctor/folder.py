"""Checks of the folder of a base model or a released guard: configuration, tokenizer, template, weights."""

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
from guard.prompts.chat_template import load_template
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
        yield fail("model", f"{root} is an adapter without its base", "merge it into its base (guard export does that)")
        return
    if not (root / "config.json").is_file() and (ggufs := sorted(root.glob("*.gguf"))):
        detail = f"{root} holds no config.json, but {len(ggufs)} GGUF file(s)"
        yield fail("model", detail, f"run: guard doctor {ggufs[0]}")
        return
    config, finding = _config(root)
    yield finding
    tokenizer = root / "tokenizer.json"
    if not tokenizer.is_file():
        advice = "load it with transformers and call save_pretrained, which writes tokenizer.json"
        yield fail("tokenizer", "no tokenizer.json", advice)
        return
    try:
        prompt = load_prompt(tokenizer, MAX_TOKENS, OVERLAP)
        rules = rules or (prompt.template.policy if isinstance(prompt, ReleasedPrompt) else policies.load("mlcommons"))
        yield from _fits(prompt, config)
        if not isinstance(prompt, ReleasedPrompt) and load_template(root) is None:
            detail = "none; guard's own prompt needs only the tokens that mark turns, which the tokenizer has"
            advice = "prefer the chat version (Instruct, -it): a model that never learnt turns needs more training"
            yield warn("chat template", detail, advice)
        yield from prompt_checks.checks(prompt, rules, root if weights else None)
    except GuardError as problem:
        yield fail("template", str(problem))
        return
    files, finding = _weights(root)
    yield finding
    if weights and files and finding.status == "ok":
        yield mass.check(root, prompt, rules, sum(file.stat().st_size for file in files))


def _config(root: Path) -> tuple[dict[str, Any], Check]:
    try:
        config = json.loads((root / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        advice = "give the folder of a Hugging Face model, or a bundle"
        return {}, fail("configuration", f"no readable config.json ({type(problem).__name__})", advice)
    architectures = [str(architecture) for architecture in config.get("architectures") or []]
    described = f"{', '.join(architectures) or config.get('model_type')}"
    if not any(architecture.endswith(("ForCausalLM", "ForConditionalGeneration")) for architecture in architectures):
        advice = "use a causal language model: its architecture ends in ForCausalLM"
        return config, fail("configuration", f"{described}: not a causal language model", advice)
    text = config.get("text_config", config)
    if config.get("model_type", "").startswith("llama4") and text.get("attention_chunk_size") is None:
        advice = "set attention_chunk_size in config.json to 8192; transformers cannot run it otherwise"
        return config, warn("configuration", f"{described}: attention_chunk_size is null", advice)
    longest = text.get("max_position_embeddings")
    if isinstance(longest, int) and longest < MAX_TOKENS:
        advice = f"train with max_tokens={longest} or less"
        limit = f"context of {longest} tokens; the default is {MAX_TOKENS}"
        return config, warn("configuration", f"{described}, {limit}", advice)
    return config, ok("configuration", f"{described}, context of {longest} tokens")


def _fits(prompt: Prompt, config: dict[str, Any]) -> Iterator[Check]:
    """Whether the tokenizer fits the model: vocabulary size and end-of-text token."""
    size = config.get("text_config", config).get("vocab_size")
    highest = max(prompt.chat.tokenizer.get_vocab(with_added_tokens=True).values())
    if isinstance(size, int) and highest >= size:
        advice = "use tokenizer and weights of the same release, or resize the embeddings"
        yield fail("tokenizer", f"highest id {highest}, but the model has {size} embedding rows", advice)
    else:
        yield ok("tokenizer", f"{highest + 1} ids, the model has {size or 'an unknown number of'} embedding rows")
    ends = config.get("eos_token_id")
    ends = ends if isinstance(ends, list) else [ends]
    if ends != [None] and prompt.chat.end[0] not in ends:
        yield warn(
            "end of text",
            f"verdicts end with token {prompt.chat.end[0]}, config.json says {', '.join(map(str, ends))}",
            "scoring is unaffected, but a server that generates will not stop: set eos_token_id",
        )


def _weights(root: Path) -> tuple[list[Path], Check]:
    """The weight files (empty if some are missing) and the check of them."""
    if (root / INDEX).is_file():
        names = sorted(set(json.loads((root / INDEX).read_text(encoding="utf-8"))["weight_map"].values()))
        files = [root / name for name in names]
        if absent := [file.name for file in files if not file.is_file()]:
            detail = f"{len(absent)} of {len(files)} files are missing: {', '.join(absent[:3])}"
            return [], fail("weights", detail, "download them again")
    else:
        files = sorted([*root.glob("model*.safetensors"), *root.glob("pytorch_model*.bin")])
    if not files:
        return [], warn("weights", "no weight files", "label mass not measured, so the template is unverified")
    size = sum(file.stat().st_size for file in files)
    return files, ok("weights", f"{len(files)} files, {size / 1e9:.2f} GB")
