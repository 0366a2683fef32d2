"""Fine-tune a chat model into a guard: policy in, `safe` or `unsafe` and the violated codes out.

What it does: every epoch shows each row anew (disguised, padded), in groups under a random view of a policy that the
labels follow and that the model reads once for the group, as token ids by the renderer that serving uses
(guard.prompts), with a loss on the verdict and its end alone. TRL trains an adapter (LoRA) or all weights, or those of
the upper layers, on them and tokenises nothing. At every checkpoint the guard is judged as it will be
used, by the logits where its verdict begins, on a fixed sample of the dev rows; the best checkpoint is what is kept.
A run that was killed goes on from its last checkpoint when the same command is given again.

Departs from Llama Guard (Inan et al. 2023, arXiv:2312.06674), whose category dropping and shuffling it borrows: it
trains an adapter instead of all weights unless told otherwise, marks the quoted turns by control tokens, and of an
unsafe row whose categories nobody knows it learns only the word `unsafe`.

Launch:  guard train cpu-tiny --base FOLDER --data DIR     a tiny model on the CPU: a test of the pipeline
         guard train small --base FOLDER --data DIR        the upper layers of a 135M model on one core
         guard train lora-1gpu                             8B in bf16 on one GPU of 80 GB
         guard train lora-24gb                             8B in 4 bits (QLoRA) on one GPU of 24 GB
         guard train lora-8gpu-fsdp                        8B, sharded over 8 GPUs
         guard train full-ft                               all weights of an 8B, sharded over 8 GPUs
         guard train custom-policy --policy my.yaml --data my.jsonl     your own policy and rows
         python -P training/recipes/sft.py CONFIG.yaml [key=value …]    this file as it stands
         accelerate launch --num_processes 8 training/recipes/sft.py CONFIG.yaml    … and its 8 processes by hand
"""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # TRL reports its use otherwise
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # rows are rendered one by one, in workers that are forks

import dataclasses
import time
from pathlib import Path

from guard import policy, schema
from guard.errors import ConfigError, DataError
from guard.train.causal.config import FREE, Config, check, free_trainer
from guard.train.common.identity import digests, made_of, resolved
from guard.train.common.run_folder import data_digest, run_recipe, write_run


def main(path: str, overrides: list[str]) -> None:
    config = resolved(schema.load(Path(path), Config, ConfigError, overrides))
    check(config, path)

    # A mistake in the configuration was told by now; torch and TRL take seconds to import.
    import torch
    from peft import LoraConfig
    from transformers import EarlyStoppingCallback
    from trl import SFTConfig

    from guard.data.dataset.examples import load_examples, load_rules, of_languages
    from guard.policy.route import between
    from guard.train.augment.padding import benign
    from guard.train.causal import base as bases
    from guard.train.causal import run_folder as folder
    from guard.train.causal.checkpoint import loadable
    from guard.train.causal.dev_eval import dev_sample
    from guard.train.causal.group import Sizes
    from guard.train.causal.groups import EpochBatches
    from guard.train.causal.other_policies import OtherPolicies
    from guard.train.causal.qlora import four_bits
    from guard.train.causal.rows import check_codes, count_windowed, replay_rows, rule_rows, training_rows
    from guard.train.causal.trainer import DevSet, VerdictTrainer
    from guard.train.common.plot import draw_history
    from guard.train.common.precision import trains_in_bf16
    from guard.train.common.replay import replayed

    base_model = loadable(config.base)  # before there are several processes
    cuda = bases.on_cuda(config.device, config.processes, bool(config.trainer.get("fsdp")), path)
    bf16 = trains_in_bf16(config.precision, cuda)
    quantized = four_bits(config.qlora, cuda)
    bases.spread(config.processes, path)
    out, data = Path(config.out), Path(config.data)

    # The options, before anything takes long. The rows will be ready, so TRL must neither prepare, cut nor order them.
    best = config.keep == "best"
    judging = {
        "eval_strategy": "steps",
        "eval_steps": config.judge_steps or config.checkpoint_steps,
        "load_best_model_at_end": best,
    }
    usual = {"activation_checkpointing": False} if config.share_prefix else {}
    arguments = bases.passed_through(
        {"report_to": "none", "logging_steps": 10, "ddp_find_unused_parameters": False, **usual, **config.trainer},
        SFTConfig,
        "trainer",
        instead=bases.REPLACED,
        output_dir=str(out / "checkpoints"),
        seed=config.seed,
        use_cpu=not cuda,
        bf16=bf16,
        max_length=None,
        packing=False,  # a batch is made whole
        per_device_train_batch_size=1,  # a batch of groups
        remove_unused_columns=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        train_sampling_strategy="sequential",
        # Weights that learn are kept in fp32, also to be computed in bf16; a base below an adapter does not learn.
        model_init_kwargs={"dtype": "bfloat16" if bf16 and config.lora is not None else "float32", **config.model},
        save_strategy="steps",
        save_steps=config.checkpoint_steps,
        metric_for_best_model="auprc",
        greater_is_better=True,
        restore_callback_states_from_checkpoint=True,
        disable_tqdm=True,
        **(judging if config.dev_rows else {}),
    )
    adapter = None
    if config.lora is not None:
        adapter = bases.passed_through(
            {"target_modules": "all-linear", **config.lora}, LoraConfig, "lora", task_type="CAUSAL_LM"
        )

    # The policy and the one renderer.
    rules = policy.load(config.policy)
    tokenizer = bases.tokenizer_of(base_model)
    prompts = bases.prompts_of(tokenizer, base_model, config.max_tokens, config.overlap, config.detail)
    prompt = prompts[config.detail]
    family = prompt.chat.family.name
    base = bases.check_exportable(base_model, config.model, adapter, config.frozen_layers)

    # The data.
    told_by = digests(config, rules, base) | {"renderer": prompt.digest}
    data_name = data_digest(data)
    examples = of_languages(load_examples(data, "train", rules, config.columns), config.languages, config.data)
    if config.foreign == "error":
        check_codes(examples, rules, data)
    taught, left = training_rows(examples, rules, config.data)
    base_rules, again = replayed(config.replay)
    own = tuple(taught)
    judged_by_rules = load_rules(data, "train") if config.rules else []
    judged_by_rules = [pair for pair in judged_by_rules if not config.languages or pair[0].language in config.languages]
    if config.rules and not judged_by_rules:
        raise DataError(f"{data}: rules={config.rules:g}, but there are no rows of rules; build them, or set rules=0")
    taught += rule_rows(judged_by_rules, own, config.rules, config.seed)
    taught += replay_rows(again, base_rules, own, config.replay.share)
    dev_set = None
    if config.dev_rows:
        dev = of_languages(load_examples(data, "dev", rules, config.columns), config.languages, config.data)
        held_out = dev_sample(dev, prompt, rules, config.dev_rows, config.seed, config.data)
        dev_set = DevSet(held_out, prompt.prefix_ids(rules), prompt)
    group_rows = min(config.group_rows or config.batch_rows, config.batch_rows)
    sizes = Sizes(config.batch_rows, group_rows, config.batch_tokens, config.row_tokens, config.share_prefix)
    routes = tuple(between(rules, policy.load(name)) for name in config.other_policies)
    other = OtherPolicies(rules, routes, config.other_policy)
    pool = benign(examples)
    batches = EpochBatches(taught, prompts, config.detail, config.augmentation, pool, config.seed, sizes, other)
    a_step = arguments.gradient_accumulation_steps * arguments.world_size
    if arguments.max_steps < 1:
        arguments.max_steps = max(1, round(arguments.num_train_epochs * batches.per_epoch() / a_step))
    batches.count = arguments.max_steps * a_step

    # The folder.
    made = made_of(config, FREE, told_by)
    made["trainer"] = {key: value for key, value in made["trainer"].items() if key not in free_trainer(config.trainer)}
    with arguments.main_process_first():
        checkpoint = folder.begin(out, made)
        finished = folder.is_finished(out)
    if finished:
        print(f"{out}: is finished already; next: guard export {out} BUNDLE")
        return

    # The trainer.
    stopping = [EarlyStoppingCallback(config.patience)] if config.patience and config.dev_rows else []
    trainer = VerdictTrainer(
        batches=batches,
        dev_set=dev_set,
        share_prefix=config.share_prefix,
        frozen_layers=config.frozen_layers,
        first_token_weight=config.first_token_weight,
        model=base_model,
        args=arguments,
        processing_class=bases.fast_tokenizer(tokenizer, prompt),
        quantization_config=quantized,
        peft_config=adapter,
        callbacks=stopping,
    )
    master = trainer.is_world_process_zero()
    if master:
        verdict = prompt.chat.tokenizer.decode(list(batches[0][0].rows[0][1]), skip_special_tokens=False)
        print(f"prompt family {family}; the policy takes {len(prompt.prefix_ids(rules))} tokens of {config.max_tokens}")
        print(f"kept {left.kept} of {left.read} rows ({left.foreign} not under it, {left.weightless} of no weight)")
        print(
            f"an epoch makes {batches.draws} draws; {count_windowed(own, prompt)} rows need windows, a draw shows one"
        )
        print(f"of the first row the loss sees {verdict!r}; training in {'bf16' if bf16 else 'fp32'}", flush=True)
        if checkpoint:
            print(f"going on from {checkpoint}", flush=True)

    # The training.
    started = time.time()
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    seconds = time.time() - started - trainer.seconds_judging

    # The run: all of it appears at once, run.json last.
    staged = folder.stage(out)
    trainer.save_model(str(staged / ("adapter" if adapter else "model")))
    if not master:
        return
    prompt.save(staged)
    (staged / "policy.yaml").write_text(policy.dump(rules), encoding="utf-8")
    history = trainer.state.log_history
    draw_history(history, staged / "history.png")
    losses = [entry["loss"] for entry in history if "loss" in entry]
    model = trainer.accelerator.unwrap_model(trainer.model)
    trained, parameters = bases.counted(model)
    write_run(
        staged,
        kind="causal",
        config=config,
        policy=rules.digest,
        data_digest=data_name,
        seed=config.seed,
        metrics={
            "first_loss": losses[0] if losses else None,
            "last_loss": losses[-1] if losses else None,
            "best_auprc": trainer.state.best_metric,
            "best_step": trainer.state.best_global_step if dev_set else trainer.state.global_step,
            "kept_step": trainer.state.best_global_step if dev_set and best else trainer.state.global_step,
            "steps": trainer.state.global_step,
            "history": history,
            "tokens_per_s": round(trainer.tokens / seconds) if trainer.tokens else None,  # none if resumed at the end
            "peak_device_mb": round(torch.cuda.max_memory_allocated() / 2**20) if cuda else None,
        },
        extra={
            "digests": told_by,
            "renderer": prompt.digest,
            "family": family,
            "rows": dataclasses.asdict(left) | {"draws": batches.draws, "dev": len(dev_set.rows) if dev_set else 0},
            "parameters": parameters,
            "trained_parameters": trained,
            "device": torch.cuda.get_device_name() if cuda else "cpu",
        },
    )
    folder.publish(out)
    print(f"{out}: done; next: guard export {out} BUNDLE")


if __name__ == "__main__":
    run_recipe(main)
