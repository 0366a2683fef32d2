"""`guard train`: run a recipe with a config; a recipe is a script that users may copy and edit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from guard import assets
from guard.cli import names
from guard.errors import ConfigError, check_installed, nearest

RECIPES, CONFIGS = "training/recipes", "training/configs"
CUSTOM = "encoder-custom"
CUSTOM_CAUSAL = "custom-policy"
ENCODERS = ("mini", "minilm")
# glibc hands a step's large tensors back to the system and maps them anew at each operation, page by page. Kept, and in
# huge pages, a step of 135M parameters on a CPU takes a quarter less time.
_TUNABLES = {"hugetlb": 1, "mmap_threshold": 1 << 33, "trim_threshold": 1 << 34}
ALLOCATOR = {"GLIBC_TUNABLES": ":".join(f"glibc.malloc.{name}={value}" for name, value in _TUNABLES.items())}


def train(
    config: Annotated[
        str | None,
        typer.Argument(
            metavar="CONFIG",
            help="A shipped config's name or a YAML file; before it, a recipe of your own, RECIPE.py. Of --copy: the "
            "folder.",
            autocompletion=names.configs,
            show_default=False,
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Changes, for example learning_rate=5e-5", show_default=False),
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="A policy's name or file; default: the config's.",
            autocompletion=names.policies,
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="A folder made by `guard data build`, or a file of your own.", show_default=False),
    ] = None,
    columns: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A mapping file: the columns and the label values of your own rows.",
            show_default=False,
        ),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            help="The base: mini (the shipped guard), minilm, a folder, a .gguf file, or a hub name.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder.", show_default=False)] = None,
    copy: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Train nothing: copy this shipped recipe or config into a folder, to make it your own.",
            autocompletion=names.recipes_and_configs,
            show_default=False,
        ),
    ] = None,
) -> None:
    """Train a guard; `guard export RUN BUNDLE` follows. Without CONFIG: fine-tune the shipped guard on your policy.

    A killed run resumes from its last checkpoint when the same command is run again.

    Example: guard train --policy my.yaml --data my.jsonl --out runs/mine
    """
    changes = list(overrides or [])
    options = {"policy": policy, "data": data, "columns": columns, "base": base, "out": out}
    given = {key: value for key, value in options.items() if value is not None}
    if copy is not None:
        if changes or given:
            raise ConfigError("--copy NAME [FOLDER] trains nothing; give no other options or changes with it")
        typer.echo(_copy(copy, Path(config or ".")))
        return
    recipe = None
    if config is not None and config.endswith(".py"):
        recipe, config = Path(config), changes.pop(0) if changes and "=" not in changes[0] else None
        if not recipe.is_file():
            raise ConfigError(f"{recipe}: no such recipe; copy a shipped one: guard train --copy NAME.py")
        if config is None:
            raise ConfigError(f"{recipe}: a recipe needs a config; run: guard train {recipe} CONFIG [KEY=VALUE …]")
    if config is not None and "=" in config:
        changes.insert(0, config)
        config = None
    path = config_file(config or (CUSTOM_CAUSAL if is_causal(base) else CUSTOM))
    # a string even where the name looks like a number
    changes += [f"{key}={json.dumps(str(value))}" for key, value in given.items()]
    recipe = recipe or _recipe(path)
    for package in ("torch", "safetensors"):  # torch is often installed without the rest
        check_installed(package, "train")
    # -P keeps the recipe's folder off sys.path, so that no file beside it can shadow a package.
    raise typer.Exit(_run([sys.executable, "-P", str(recipe), str(path), *changes]))


def _recipe(config: Path) -> Path:
    """The shipped recipe that a config names."""
    from guard import document

    plain, _ = document.parse(document.read_text(config, ConfigError), str(config), ConfigError)
    named = plain.get("recipe") if isinstance(plain, dict) else None
    shipped = assets.names(RECIPES, ".py")
    if named not in shipped:
        raise ConfigError(
            f"{config}: key `recipe` names no shipped recipe{_hint(str(named), shipped)} must be one of "
            f"{', '.join(shipped)}; a recipe of your own is run by: guard train RECIPE.py CONFIG"
        )
    return assets.asset(f"{RECIPES}/{named}.py")


def _copy(name: str, folder: Path) -> str:
    """Copies a shipped recipe or config, and tells what to do with it. ConfigError where it cannot be."""
    recipes, configs = assets.names(RECIPES, ".py"), assets.names(CONFIGS, ".yaml")
    shipped = {f"{each}.py": RECIPES for each in recipes} | {f"{each}.yaml": CONFIGS for each in configs}
    files = [name] if name in shipped else [each for each in shipped if Path(each).stem == name]
    if len(files) > 1:
        raise ConfigError(f"--copy {name}: is a recipe and a config; give {' or '.join(files)}")
    if not files:
        raise ConfigError(
            f"--copy {name[:80]}: no such recipe or config{_hint(name, [*recipes, *configs, *shipped])} must be "
            f"a recipe ({', '.join(recipes)}) or a config ({', '.join(configs)})"
        )
    (file,) = files
    if not folder.is_dir():
        raise ConfigError(f"{folder}: there is no such folder; create it first")
    target = folder / file
    try:
        with target.open("xb") as copied:
            copied.write(assets.asset(f"{shipped[file]}/{file}").read_bytes())
    except FileExistsError:
        raise ConfigError(f"{target}: already exists; move it away, or give another folder") from None
    except OSError as problem:
        raise ConfigError(f"{target}: cannot be written: {problem.strerror}") from None
    return f"wrote {target}\n{_advice(target)}"


def _advice(copied: Path) -> str:
    """What to edit in a copied recipe or config, and how it is run."""
    if copied.suffix == ".py":
        configs = [each for each in assets.names(CONFIGS, ".yaml") if f"recipe: {copied.stem}\n" in _shipped(each)]
        return (
            "edit: its main(), to be read from top to bottom, and Config, whose fields are the keys of its configs\n"
            f"run: guard train {copied} CONFIG [KEY=VALUE …]; its configs: {', '.join(configs)}"
        )
    if "\nrecipe: " in _shipped(copied.stem):
        keys = "`base`, `policy`, `data` and `out`"
        return f"edit: {keys}; the other keys are explained beside them\nrun: guard train {copied} [KEY=VALUE …]"
    if copied.stem.startswith("data-"):
        keys = "`sources` and `policy`"
        return f"edit: {keys}; docs/data.md has all keys\nrun: guard data build {copied} --root DIR --out DIR"
    return f"edit: its folds and candidates\nrun: guard eval transfer {copied} [KEY=VALUE …]"


def _shipped(config: str) -> str:
    return assets.asset(f"{CONFIGS}/{config}.yaml").read_text(encoding="utf-8")


def _hint(name: str, known: Iterable[str]) -> str:
    near = nearest(name, known)
    return f"; did you mean {near}? It" if near else "; it"


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


def config_file(name: str) -> Path:
    """The file of a shipped config by its name, or of a path; ConfigError names the nearest and all."""
    shipped = assets.names(CONFIGS, ".yaml")
    if name in shipped:
        return assets.asset(f"{CONFIGS}/{name}.yaml")
    path = Path(name)
    if not path.is_file():
        raise ConfigError(f"no config {name!r}{_hint(name, shipped)} must be a file or one of {', '.join(shipped)}")
    return path
