"""Recipes and their configs: each shipped config is one that its recipe reads, and recipes stay short."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

import guard
from guard import document
from guard.assets import asset
from guard.data.build.config import BuildConfig
from guard.data.build.config import load as load_build
from guard.evaluate.transfer import config as transfer
from tests.fixtures import warm

RECIPES = sorted(asset("training/recipes").glob("*.py"))
CONFIGS = sorted(asset("training/configs").glob("*.yaml"))
ROOT = Path(guard.__file__).parent.parent
DATA = [path for path in CONFIGS if path.name.startswith("data-")]
TRANSFER = asset("training/configs/transfer.yaml")
TRAINING = [path for path in CONFIGS if path not in (*DATA, TRANSFER)]
# Loads a recipe as a user's copy would be, reads every config of it, then one with a mistake in a key.
LOAD = """
import importlib.util, sys
from pathlib import Path
from guard import schema
from guard.errors import ConfigError
recipe, key, *configs = sys.argv[1:]
spec = importlib.util.spec_from_file_location("recipe", recipe)
module = sys.modules["recipe"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
for path in configs:
    config = schema.load(Path(path), module.Config, ConfigError)
    assert config.recipe == Path(recipe).stem
    print(path)
    try:
        schema.load(Path(path), module.Config, ConfigError, [f"{key}=1"])
    except ConfigError as problem:
        print(problem)
"""


def name(path: Path) -> str:
    return path.stem


def plain(path: Path) -> dict[str, Any]:
    found = document.parse(path.read_text(encoding="utf-8"), str(path))[0]
    assert isinstance(found, dict)
    return found


def keys(recipe: Path) -> dict[str, bool]:
    """The keys of a recipe's Config, and whether each is required; read without running it."""
    return _keys(recipe, "Config")


def _keys(module: Path, name: str) -> dict[str, bool]:
    """Those of a class that stands in the module, or that it imports from the package."""
    for node in ast.parse(module.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            shared = [_keys(module, ast.unparse(base)) for base in node.bases]
            fields = [entry for entry in node.body if isinstance(entry, ast.AnnAssign)]
            own = {ast.unparse(field.target): field.value is None for field in fields}
            return {key: required for part in (*shared, own) for key, required in part.items()}
        if isinstance(node, ast.ImportFrom) and node.module and any(each.name == name for each in node.names):
            return _keys(ROOT / f"{node.module.replace('.', '/')}.py", name)
    raise AssertionError(f"{module} has no {name}")


def test_there_are_recipes_and_configs() -> None:
    assert {"encoder", "sft"} <= {path.stem for path in RECIPES}
    assert {"encoder", "encoder-custom", "cpu-tiny", "data-default"} <= {path.stem for path in CONFIGS}
    assert DATA
    assert TRAINING


@pytest.mark.parametrize("path", RECIPES, ids=name)
def test_a_recipe_fits_on_a_few_screens_and_tells_how_to_start_it(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 300
    told = ast.get_docstring(ast.parse(text)) or ""
    assert "Launch:" in told
    assert any(plain(config)["recipe"] == path.stem for config in TRAINING), "no config ships for it"


@pytest.mark.parametrize("path", TRAINING, ids=name)
def test_a_config_has_the_keys_of_its_recipe(path: Path) -> None:
    given = plain(path)
    allowed = keys(asset(f"training/recipes/{given['recipe']}.py"))
    assert {key for key, required in allowed.items() if required} <= set(given) <= set(allowed)


@pytest.mark.parametrize("path", TRAINING, ids=name)
def test_a_config_starts_with_how_to_use_it(path: Path) -> None:
    assert "guard train" in path.read_text(encoding="utf-8").splitlines()[0]


@pytest.mark.parametrize("path", DATA, ids=name)
def test_a_data_config_is_one(path: Path) -> None:
    assert isinstance(load_build(path), BuildConfig)


def test_the_folds_of_transfer_are_seven_groups() -> None:
    assert len(transfer.load(TRANSFER).folds) == 7


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES, ids=name)
def test_a_recipe_reads_its_configs_and_tells_the_nearest_key(recipe: Path) -> None:
    own = [str(path) for path in TRAINING if plain(path)["recipe"] == recipe.stem]
    done = warm.python("-P", "-c", LOAD, recipe, "sedd", *own)
    assert done.returncode == 0, done.stderr[-3000:]
    told = done.stdout.splitlines()
    assert told[::2] == own
    assert all("unknown key `sedd`; did you mean `seed`?" in line for line in told[1::2])
    assert len(told) == 2 * len(own)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES, ids=name)
def test_a_recipe_without_a_config_tells_its_usage(recipe: Path) -> None:
    done = warm.python("-P", recipe)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"usage: {recipe.name} CONFIG.yaml [key=value ...]"
    assert "Traceback" not in done.stderr
