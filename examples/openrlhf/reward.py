"""The reward of OpenRLHF's `.py` mode: `--reward.remote_url examples/openrlhf/reward.py`.

`safe` and `not_refusal` are the guard's. REWARD_MODEL: the folder of a reward model, without which a policy learns only
to do no harm. GUARD_MODEL: a bundle; without it the shipped guard. It is opened once in each rollout worker.
"""

import os

from guard.rewards import make_reward

reward = make_reward(os.environ.get("GUARD_MODEL"), policy="mlcommons", helpful=os.environ.get("REWARD_MODEL"))
reward_func = reward.openrlhf
