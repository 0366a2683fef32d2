"""An agent whose episodes are one answer, rewarded by guard: `--train.agent_func_path examples/openrlhf/agent.py`.

For episodes of several turns give `environment_feedback` and `done` of your own; each turn is rewarded by itself.
"""

import asyncio
import os

import torch
from openrlhf.utils.agent import AgentInstanceBase, MultiTurnAgentExecutor

from guard.rewards import make_reward

reward = make_reward(os.environ.get("GUARD_MODEL"), policy="mlcommons", helpful=os.environ.get("REWARD_MODEL"))


class Episode(AgentInstanceBase):
    def __init__(self):
        """An episode has no state."""

    async def step(self, states, **_):
        told = await asyncio.to_thread(reward.step, states["observation_text"], states["action_text"])
        return {**told, "rewards": torch.tensor(told["rewards"])}


class AgentExecutor(MultiTurnAgentExecutor):
    def __init__(self):
        super().__init__(Episode)
