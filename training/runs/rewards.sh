#!/usr/bin/env bash
# Every reward system on a small chat model and human preferences: training/runs/rewards.sh ROOT BASE OUT [SYSTEM...]
#
#   ROOT    the folder that holds raw/ and the fingerprints of held-out benchmarks (guard data fetch --root ROOT)
#   BASE    HuggingFaceTB/SmolLM2-135M-Instruct: a name on the hub, or a folder
#   OUT     gets data/, rows/, runs/SYSTEM/, measured/SYSTEM.json and table.md
#   SYSTEM  of docs/rewards.md, or length, guard or prompted, which need no training; without one all of them
#
# STEPS in the environment is the most steps of a stage (default: all rows once). The systems that sample judgements learn
# from 300 pairs, as they write twelve or more texts of each. May be stopped or killed at any moment: the same command goes
# on, and what is measured stays. On one core the whole takes days; STEPS=50 a few hours.
set -euo pipefail
[ $# -ge 3 ] || { sed -n '2,7p' "$0" >&2; exit 2; }
root=$1 base=$2 out=$3
shift 3
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} # as many as there are cores to spare
guard=(python -m guard)
systems=("$@")
[ $# -gt 0 ] || systems=(length guard prompted bt-encoder bt helpsteer2 steerlm armorm cloud verifier pair genrm kto dpo
    guard-kto guard-dpo verifier-cot cot-genrm con-j djpo)
mkdir -p "$out"

settings() { # configuration, rows, and changes to the configuration
    local judged=(reply_tokens=96 judgements=2)
    case $1 in
        length | guard | prompted) echo none pairs ;;
        bt-encoder) echo reward-mini pairs ;;
        bt) echo reward-bt pairs ;;
        helpsteer2) echo reward-bt rated attribute=preferred ;;
        steerlm) echo reward-bt rated 'attributes=["preferred","verbosity"]' 'attribute_weights=[1.0,0.0]' ;;
        armorm) echo reward-bt both ;;
        cloud) echo reward-bt some reply_tokens=64 ;;
        verifier | pair | genrm) echo reward-pair pairs ;;
        kto | dpo) echo reward-dpo pairs ;;
        guard-kto | guard-dpo) echo reward-dpo verdicts policy=mlcommons detail=names ;;
        verifier-cot) echo reward-judge pairs reply_tokens=96 ;;
        cot-genrm | con-j | djpo) echo reward-judge some "${judged[@]}" ;;
        *) echo "$1: no such system; see docs/rewards.md" >&2; exit 2 ;;
    esac
}

for system in "${systems[@]}"; do settings "$system" >/dev/null; done
[ -f "$out/data/manifest.json" ] || "${guard[@]}" data build training/configs/data-rewards.yaml --root "$root" --out "$out/data"
[ -f "$out/rows/verdicts.jsonl" ] || python benchmarks/rewards.py rows "$out/data" "$out/rows"
for system in "${systems[@]}"; do
    measured=$out/measured/$system.json
    if [ -f "$measured" ]; then continue; fi
    read -r config rows changes <<<"$(settings "$system")"
    run=$out/runs/$system
    case $system in
        length | guard) run=$system ;;
        prompted) run=prompted:$base ;;
        bt-encoder) # shellcheck disable=SC2086 # changes are words
            "${guard[@]}" train "$config" data="$out/rows/$rows.jsonl" out="$run" held_out=0.25 $changes ;;
        *) # shellcheck disable=SC2086
            "${guard[@]}" train "$config" system="$system" base="$base" data="$out/rows/$rows.jsonl" out="$run" held_out=0.25 \
                max_tokens=512 least_label_mass=0 $changes ${STEPS:+trainer.max_steps="$STEPS"} ;;
    esac
    python benchmarks/rewards.py measure "$run" "$out/rows/$rows.jsonl" "$measured"
done
python benchmarks/rewards.py table "$out/measured" --out "$out/table.json" | tee "$out/table.md"
