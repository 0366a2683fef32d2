"""Rollouts of OpenRLHF's own executors, a scripted engine in vLLM's place: `python openrlhf_rollouts.py URL FOLDER`.

Prints a line of JSON for each reward: how it was reached, the answer, and what OpenRLHF makes of the reply.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import torch
from openrlhf.utils.agent import SingleTurnAgentExecutor

PROMPT = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"


class Bytes:
    """A tokenizer whose tokens are bytes."""

    def __call__(self, text, **_):
        return {"input_ids": torch.tensor([list(text.encode())])}

    def decode(self, ids, **_):
        return bytes(ids).decode()


class Engine:
    """Answers every prompt alike."""

    def __init__(self, answer):
        self.answer = answer

    async def generate(self, ids, params, **_):
        written = SimpleNamespace(
            token_ids=list(self.answer.encode()), text=self.answer, finish_reason="stop", logprobs=None
        )
        return SimpleNamespace(outputs=[written])


def agent(path):
    spec = importlib.util.spec_from_file_location("agent_module", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.AgentExecutor()


async def main(url, folder):
    ways = {
        "url": SingleTurnAgentExecutor([f"{url}/get_reward"]),
        "py": SingleTurnAgentExecutor([str(folder / "reward.py")]),
        "agent": agent(folder / "agent.py"),
    }
    params = SimpleNamespace(max_tokens=64, logprobs=None)
    for way, executor in ways.items():
        for answer in ("Hello there!", "violates:S1"):
            told = await executor.execute(PROMPT, None, params, 256, Bytes(), Engine(answer))
            # As openrlhf/trainer/ppo_utils/samples_generator.py makes tensors of it.
            reward, score = (torch.tensor([told[key]]).flatten().tolist() for key in ("reward", "scores"))
            logs = {key: torch.tensor([value]).flatten().tolist() for key, value in told["extra_logs"].items()}
            print(json.dumps({"way": way, "answer": answer, "reward": reward, "score": score, "logs": logs}))


asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
