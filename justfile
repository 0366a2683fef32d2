# Developer commands; `just check` is what CI runs.

python := "python"

# lint, types, fast tests
check: lint types test

lint:
    ruff check .
    ruff format --check .

types:
    mypy

test *args:
    pytest {{args}}

# tests that take minutes
slow:
    pytest -m slow

# the examples of frameworks that the extra `dev` does not bring, in environments of their own under FOLDER
clients FOLDER:
    {{python}} -m venv {{FOLDER}}/frameworks
    {{FOLDER}}/frameworks/bin/pip install . -r tests/examples/requirements.txt
    {{python}} -m venv {{FOLDER}}/litellm
    {{FOLDER}}/litellm/bin/pip install -r tests/examples/requirements-litellm.txt
    {{python}} -m pip install --no-deps --target {{FOLDER}}/rl -r tests/examples/requirements-rl.txt
    {{python}} -m pip install --target {{FOLDER}}/rl-needs aiohttp hydra-core orjson pylatexenc pyvers
    GUARD_CLIENTS_PYTHON={{FOLDER}}/frameworks/bin/python:{{FOLDER}}/litellm/bin/python pytest -m slow tests/examples
    PYTHONPATH={{FOLDER}}/rl:{{FOLDER}}/rl-needs pytest -m slow tests/examples/test_rl.py

# regenerate committed files that are made from others; tests fail when one is stale
gen:
    {{python}} -m grpc_tools.protoc -I proto -I "$({{python}} -c 'from google.rpc import status_pb2 as s; print(s.__file__.removesuffix("google/rpc/status_pb2.py"))')" \
        --python_out=. --pyi_out=. --grpc_python_out=. guard/v1/moderation.proto guard/v1/admin.proto \
        guard/v1/reward.proto
    guard policy schema > taxonomy/schema.json
    {{python}} -m tests.architecture
    {{python}} -m tests.deploy.helm_schema
    {{python}} -m tests.docs.reference

# the default guard, from raw data to bundle (DATA holds raw/ and fingerprints/)
default DATA:
    guard data build training/configs/data-default.yaml --root {{DATA}} --out data/default
    guard train encoder
    guard train encoder-finish
    guard export runs/mini-finish guard/_assets/bundles/mini-en --name mini-en

# every kind of trouble at full size: hours
soak:
    {{python}} benchmarks/reliability.py --scale 1

ci:
    bash .ci/run
