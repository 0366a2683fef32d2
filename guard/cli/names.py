"""Names that a shell completes: of policies, bundles, configs and recipes. A name that matches none may be a file's."""

from __future__ import annotations

from guard import assets
from guard.mode import MODES


def policies(incomplete: str) -> list[str]:
    return _matching(assets.names("taxonomy/policies", ".yaml"), incomplete)


def bundles(incomplete: str) -> list[str]:
    return _matching(assets.bundle_names(), incomplete)


def configs(incomplete: str) -> list[str]:
    return _matching(assets.names("training/configs", ".yaml"), incomplete)


def recipes_and_configs(incomplete: str) -> list[str]:
    recipes = [f"{name}.py" for name in assets.names("training/recipes", ".py")]
    return _matching([*recipes, *(f"{name}.yaml" for name in assets.names("training/configs", ".yaml"))], incomplete)


def sources(incomplete: str) -> list[str]:
    return _matching(assets.names("taxonomy/sources", ".yaml"), incomplete)


def modes(incomplete: str) -> list[str]:
    return _matching(MODES, incomplete)


def _matching(names: list[str] | tuple[str, ...], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
