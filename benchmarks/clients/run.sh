#!/usr/bin/env bash
# Every client against one `guard serve` with the fake guard: PYTHON=client-environment/bin/python ./run.sh
set -euo pipefail
cd "$(dirname "$0")"
out=$(mktemp)
guard serve --model fake --port 0 --rest-port 0 >"$out" &
server=$!
trap 'kill $server; rm -f "$out"' EXIT
until [ -s "$out" ]; do sleep 0.1; done
url=$(grep -o 'http://[^ ]*' "$out")
export LITELLM_LOCAL_MODEL_COST_MAP=True
for client in with_*.py; do
    "${PYTHON:-python}" "$client" "$url"
done
