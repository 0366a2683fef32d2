#!/usr/bin/env bash
# The multilingual guard, from raw data to a bundle: training/runs/multi.sh ROOT BASE OUT
#
#   ROOT  the folder that holds raw/ and the fingerprints of held-out benchmarks (guard data fetch --root ROOT)
#   BASE  folder of intfloat/multilingual-e5-small: config.json, model.safetensors, tokenizer.json
#   OUT   gets data/, base/ (pruned), run/, finish/, again/ and bundle/
#
# May be stopped or killed at any moment: the same command goes on. Two cores with AMX do it in about two hours.
set -euo pipefail
[ $# -eq 3 ] || { sed -n '2,6p' "$0" >&2; exit 2; }
root=$1 base=$2 out=$3
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-2} # as many as there are cores to spare
mkdir -p "$out"
guard=(python -m guard)

[ -f "$out/data/manifest.json" ] || "${guard[@]}" data build training/configs/data-default.yaml --root "$root" --out "$out/data"
[ -f "$out/base/model.safetensors" ] || python -m guard.train.encoder.prune "$base" "$out/base" --data "$out/data"
"${guard[@]}" train multi base="$out/base" data="$out/data" out="$out/run"
"${guard[@]}" train multi-finish base="$out/run" data="$out/data" out="$out/finish"
"${guard[@]}" train multi-again base="$out/finish" data="$out/data" out="$out/again"
[ -f "$out/bundle/guard.json" ] || "${guard[@]}" export "$out/again" "$out/bundle" --form int4 --data "$out/data"
echo "$out/bundle: done; next: guard check --model $out/bundle"
