"""verl's `compute_score`: `reward.custom_reward_function.path=examples/verl/reward.py`.

verl passes no prompt, so each row needs it in `extra_info`: `{"extra_info": {"question": "…"}, "data_source": "…", …}`.
`safe` and `not_refusal` are the guard's. REWARD_MODEL: the folder of a reward model, without which a policy learns only
to do no harm. GUARD_MODEL: a bundle; without it the shipped guard. It is opened once in each reward worker.
"""

import os

from guard.rewards import make_reward

reward = make_reward(os.environ.get("GUARD_MODEL"), policy="mlcommons", helpful=os.environ.get("REWARD_MODEL"))
compute_score = reward.verl
