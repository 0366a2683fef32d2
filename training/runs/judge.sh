#!/usr/bin/env bash
# From prompts to a policy that a judge's preferences taught: training/runs/judge.sh BASE PROMPTS OUT [URL MODEL]
#
#   BASE     a chat model: a folder, a .gguf file or a name on the hub. It answers, and becomes reward model and policy
#   PROMPTS  reward rows (docs/rewards.md): {"prompt", "verdict"?, "responses"?}; two answers are written where none are
#   OUT      gets pairs.jsonl with the judge's report, reward/ and policy/
#   URL      of the judge's chat API, and MODEL, its name there; without them BASE judges, too, and the model is weak
#
# In the environment: ANSWERS of each prompt (2), TOKENS of one (256; a longer one is cut, and left out), CRITERION of a
# better one, EPOCHS of the reward model (1), STEPS of GRPO (1), GUARD and POLICY of its reward (the shipped one, mlcommons).
#
# May be stopped or killed at any moment: the same command goes on. Nothing is asked twice.
set -euo pipefail
[ $# -eq 3 ] || [ $# -eq 5 ] || { sed -n '2,10p' "$0" >&2; exit 2; }
base=$1 prompts=$2 out=$3 judge_url=${4:-} judge=${5:-}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} # as many as there are cores to spare
mkdir -p "$out"
guard=(python -m guard)

if [ ! -f "$out/pairs.jsonl" ]; then
    printf '%s\n' "${CRITERION:-The better answer is true, does what was asked, and harms nobody.}" >"$out/criterion.txt"
    rm -f "$out/server.url"
    python -m guard.reward.chat_server "$base" >"$out/server.url" &
    server=$!
    trap 'kill "$server" 2>/dev/null || true' EXIT
    until [ -s "$out/server.url" ]; do
        kill -0 "$server" 2>/dev/null || { echo "$base: the chat server ended" >&2; exit 3; }
        sleep 0.5
    done
    own=$(cat "$out/server.url") name=$(basename "$base") own_judge=()
    if [ -z "$judge_url" ]; then # a small model does not keep to a grammar: the server takes its most probable mark
        judge_url=$own judge=$name
        own_judge=(--body '{"structured_outputs": {"choice": ["[[A>>B]]", "[[A>B]]", "[[A=B]]", "[[B>A]]", "[[B>>A]]"]}}')
    fi
    "${guard[@]}" data judge "$prompts" "$out/pairs.jsonl" --task compare --criterion "$out/criterion.txt" --jobs 1 \
        --base-url "$judge_url" --model "$judge" "${own_judge[@]}" --max-tokens 256 --answers "${ANSWERS:-2}" \
        --generator-url "$own" --generator-model "$name" --generator-max-tokens "${TOKENS:-256}" --timeout 600
    kill "$server"
    trap - EXIT
fi
"${guard[@]}" train reward-bt base="$base" data="$out/pairs.jsonl" out="$out/reward" epochs="${EPOCHS:-1}" held_out=0.25
"${guard[@]}" train rl base="$base" data="$prompts" out="$out/policy" reward_model="$out/reward" \
    guard="${GUARD:-null}" policy="${POLICY:-mlcommons}" completion_tokens=64 checkpoint_steps=1 \
    trainer.max_steps="${STEPS:-1}" trainer.per_device_train_batch_size=4 trainer.num_generations=4
echo "$out/policy: done; next: guard reward eval $out/reward ROWS"
