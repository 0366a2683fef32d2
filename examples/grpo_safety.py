"""GRPO on your prompts with a guard's reward: `python examples/grpo_safety.py prompts.jsonl out --base MODEL`.

Needs `pip install -c constraints.txt '.[train]'` in a checkout of guard.
Rows: {"prompt": [{"role": "user", "content": "..."}]}.
"""

import argparse

import torch
from datasets import load_dataset
from trl import GRPOConfig, GRPOTrainer

from guard.rewards import make_reward


def answers(prompts, completions, **columns):
    """A stand-in for your own helpfulness reward, without which a guard's reward teaches to refuse everything."""
    return [min(len(completion[-1]["content"]), 200) / 100 for completion in completions]


parser = argparse.ArgumentParser()
parser.add_argument("prompts")
parser.add_argument("out")
parser.add_argument("--base", required=True, help="the model to train")
parser.add_argument("--guard", help="a bundle; without it the guard that ships in the package")
parser.add_argument("--policy", help="a shipped policy or a file; without it the bundle's own")
parser.add_argument("--steps", type=int, default=100)
parser.add_argument("--tokens", type=int, default=256, help="of one completion")
options = parser.parse_args()

on_cpu = not torch.cuda.is_available()
batch = {"per_device_train_batch_size": 4, "num_generations": 4, "max_completion_length": options.tokens}
device = {"use_cpu": on_cpu, "bf16": not on_cpu}
config = GRPOConfig(options.out, max_steps=options.steps, logging_steps=1, report_to="none", **batch, **device)
rows = load_dataset("json", data_files=options.prompts, split="train")
rewards = [make_reward(options.guard, policy=options.policy, weights={"safe": 1.0}).trl, answers]
trainer = GRPOTrainer(options.base, rewards, config, rows)
trainer.train()
trainer.save_model()
trainer.save_state()
