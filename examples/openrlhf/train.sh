#!/usr/bin/env bash
# OpenRLHF with rewards of a running service: MODEL=… PROMPTS=prompts.jsonl GUARD=http://127.0.0.1:8080 examples/openrlhf/train.sh
#
#     pip install openrlhf[vllm]
#     guard serve --rest-port 8080 --reward helpful=runs/reward-bt &
#
# In place of the URL: examples/openrlhf/reward.py, which loads the guard into the rollout workers; or, in place of the
# option, `--train.agent_func_path examples/openrlhf/agent.py`. Rows of PROMPTS: {"input": "How do I boil an egg?"}.
set -euo pipefail
options=(
    --actor.model_name_or_path "$MODEL"
    --data.prompt_dataset "$PROMPTS"
    --data.input_key input
    --data.apply_chat_template
    --reward.remote_url "${GUARD:-http://127.0.0.1:8080}/get_reward"
    --algo.advantage.estimator group_norm
    --rollout.n_samples_per_prompt 8
    --ckpt.output_dir "${OUT:-out}"
)
exec python3 -m openrlhf.cli.train_ppo_ray "${options[@]}" "$@"
