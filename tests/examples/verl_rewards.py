"""Rewards by verl's own reward manager under the options of the example: `python verl_rewards.py OPTION=VALUE...`.

Prints a line of JSON for each answer.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
import verl
from omegaconf import OmegaConf
from verl import DataProto
from verl.experimental.reward_loop.reward_manager.naive import NaiveRewardManager
from verl.trainer.ppo.reward import get_custom_reward_fn

ANSWERS = ("Hello there!", "violates:S1", "")


class Bytes:
    def decode(self, ids, **_):
        return bytes(ids.tolist()).decode()


config = OmegaConf.load(Path(verl.__file__).parent / "trainer" / "config" / "_generated_ppo_trainer.yaml")
OmegaConf.set_struct(config, True)  # an option that verl does not have is an error
config = OmegaConf.merge(config, OmegaConf.from_dotlist(sys.argv[1:]))
manager = NaiveRewardManager(config, Bytes(), get_custom_reward_fn(config))


async def main():
    for answer in ANSWERS:
        ids = torch.tensor([list(answer.encode()) or [32]])
        data = DataProto.from_dict(
            tensors={"responses": ids, "attention_mask": torch.ones_like(ids)},
            non_tensors={
                "data_source": np.array(["mine"], dtype=object),
                "reward_model": np.array([{"ground_truth": ""}], dtype=object),
                "extra_info": np.array([{"question": "Hi"}], dtype=object),
            },
        )
        print(json.dumps(await manager.run_single(data)))


manager.loop.run_until_complete(main())
