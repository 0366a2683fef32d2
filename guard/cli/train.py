"""`guard train`: run a recipe with a config; a recipe is a script that users may copy and edit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from guard import assets, document
from guard.errors import ConfigError, check_installed

CUSTOM = "encoder-custom"
CUSTOM_CAUSAL = "custom-policy"
ENCODERS = ("mini", "minilm")
# glibc hands a step's large tensors back to the system and maps them anew at each operation, page by page. Kept, and in
# huge pages, a step of 135M parameters on a CPU takes a quarter less time.
_TUNABLES = {"hugetlb": 1, "mmap_threshold": 1 << 33, "trim_threshold": 1 << 34}
ALLOCATOR = {"GLIBC_TUNABLES": ":".join(f"glibc.malloc.{name}={value}" for name, value in _TUNABLES.items())}


def train(
    config: Annotated[str | None, typer.Argument(help="A shipped config's name or a YAML file.")] = None,
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value, for example learning_rate=5e-5")] = None,
    policy: Annotated[str | None, typer.Option(help="A shipped policy's name or a policy file.")] = None,
    data: Annotated[
        Path | None, typer.Option(help="A folder made by `guard data build`, or a file of your own.")
    ] = None,
    columns: Annotated[
        Path | None, typer.Option(help="A mapping file: the columns and the label values of your own rows.")
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(help="The base: mini (the shipped guard), minilm, a folder, a .gguf file, or a hub name."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder.")] = None,
) -> None:
    """Train a guard; `guard export RUN BUNDLE` follows. Without CONFIG: fine-tune the shipped guard on your policy.

    A killed run resumes from its last checkpoint when the same command is run again.
    """
    changes = list(overrides or [])
    if config is not None and "=" in config:
        changes.insert(0, config)
        config = None
    path = _config(config or (CUSTOM_CAUSAL if is_causal(base) else CUSTOM))
    changes += [
        f"{key}={json.dumps(str(value))}"  # a string even where the name looks like a number
        for key, value in (("policy", policy), ("data", data), ("columns", columns), ("base", base), ("out", out))
        if value is not None
    ]
    plain, _ = document.parse(document.read_text(path, ConfigError), str(path), ConfigError)
    recipe = plain.get("recipe") if isinstance(plain, dict) else None
    recipes = assets.names("training/recipes", ".py")
    if recipe not in recipes:
        raise ConfigError(f"{path}: key `recipe` must name a recipe; allowed: {', '.join(recipes)}")
    for package in ("torch", "safetensors"):  # torch is often installed without the rest
        check_installed(package, "train")
    # -P keeps the recipe's folder off sys.path, so that no file beside it can shadow a package.
    command = [sys.executable, "-P", str(assets.asset(f"training/recipes/{recipe}.py")), str(path), *changes]
    raise typer.Exit(_run(command))


def _run(command: list[str]) -> int:
    """The exit code of a command that ends when this process is asked to end; 130 after an interrupt."""
    with subprocess.Popen(command, env={**ALLOCATOR, **os.environ, "HF_HUB_DISABLE_TELEMETRY": "1"}) as started:
        before = signal.signal(signal.SIGTERM, lambda *_: started.terminate())
        try:
            return started.wait()
        except KeyboardInterrupt:
            started.terminate()
            return 130
        finally:
            signal.signal(signal.SIGTERM, before)


def is_causal(base: str | None) -> bool:
    """Whether a base is a causal language model: a hub name, a GGUF file, or a folder whose config says so."""
    if base is None or base in ENCODERS:
        return False
    if Path(base).suffix.lower() == ".gguf":
        return True
    config = Path(base) / "config.json"
    if not config.is_file():
        return not Path(base).exists()
    try:
        architectures = json.loads(config.read_text(encoding="utf-8")).get("architectures") or ()
    except (ValueError, AttributeError):
        raise ConfigError(f"{config}: must be the JSON object of a model configuration") from None
    return any(
        "ForCausalLM" in str(architecture) or "ForConditionalGeneration" in str(architecture)
        for architecture in architectures
    )


def _config(name: str) -> Path:
    shipped = assets.names("training/configs", ".yaml")
    if name in shipped:
        return assets.asset(f"training/configs/{name}.yaml")
    path = Path(name)
    if not path.is_file():
        raise ConfigError(f"no config {name!r}: must be a file or one of {', '.join(shipped)}")
    return path
