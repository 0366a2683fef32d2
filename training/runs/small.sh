#!/usr/bin/env bash
# The causal guard `small`, from raw data to a bundle: training/runs/small.sh ROOT BASE OUT [key=value ...]
#
#   ROOT  the folder that holds raw/ and the fingerprints of held-out benchmarks (guard data fetch --root ROOT)
#   BASE  HuggingFaceTB/SmolLM2-135M-Instruct: a name on the hub, or a folder
#   OUT   gets data/, run/ and bundle/, and pid while it works
#   key=value  changes to training/configs/small.yaml, such as trainer.max_steps=2000 for a longer run
#
# May be stopped or killed at any moment: the same command goes on. Data that is built stays; the training goes on from
# its last checkpoint; the bundle appears whole. One core with AMX does it in about three hours, most of them training.
set -euo pipefail
[ $# -ge 3 ] || { sed -n '2,7p' "$0" >&2; exit 2; }
root=$1 base=$2 out=$3
shift 3
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} # as many as there are cores to spare
mkdir -p "$out"
echo $$ >"$out/pid"
trap 'rm -f "$out/pid"' EXIT
guard=(python -m guard)

[ -f "$out/data/manifest.json" ] || "${guard[@]}" data build training/configs/data-default.yaml --root "$root" --out "$out/data"
"${guard[@]}" train small base="$base" data="$out/data" out="$out/run" "$@"
[ -f "$out/bundle/guard.json" ] || "${guard[@]}" export "$out/run" "$out/bundle" --form int4 --head verdict --data "$out/data"
echo "$out/bundle: done; next: guard check --model $out/bundle"
