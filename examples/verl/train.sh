#!/usr/bin/env bash
# GRPO by verl with guard's reward: MODEL=… ROWS=rows.parquet examples/verl/train.sh
#
#     pip install verl
#     pip install -c constraints.txt .        # guard, in the environment of verl's workers
#
# Rows: {"data_source": "mine", "prompt": [{"role": "user", "content": "…"}], "reward_model": {"ground_truth": ""},
# "extra_info": {"question": "…"}}: the question again, because verl hands a reward no prompt.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
options=(
    algorithm.adv_estimator=grpo
    actor_rollout_ref.model.path="$MODEL"
    actor_rollout_ref.rollout.n=8
    data.train_files="$ROWS"
    data.val_files="${HELD_OUT:-$ROWS}"
    reward.custom_reward_function.path="$here/reward.py"
    reward.custom_reward_function.name=compute_score
    reward.num_workers=2 # each opens a guard
)
exec python3 -m verl.trainer.main_ppo "${options[@]}" "$@"
