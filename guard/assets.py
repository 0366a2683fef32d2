"""The shipped data: under `guard/_assets` in a wheel, or beside the package in a checkout."""

from __future__ import annotations

import os
import re
from pathlib import Path

from guard.errors import DISTRIBUTION, AssetError

_PACKAGE = Path(__file__).resolve().parent
_ROOTS = (_PACKAGE / "_assets", _PACKAGE.parent)
DEFAULT_BUNDLE = "mini-en"
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def asset(relative: str) -> Path:
    """The path of a shipped file or folder such as `taxonomy/policies`; AssetError lists the searched places."""
    for root in _ROOTS:
        path = root / relative
        if path.exists():
            return path
    looked = " and ".join(str(root / relative) for root in _ROOTS)
    raise AssetError(f"shipped file {relative!r} is not at {looked}; reinstall {DISTRIBUTION}")


def names(relative: str, suffix: str) -> list[str]:
    """Sorted stems of the shipped files with `suffix` in the folder `relative`."""
    return sorted(path.stem for path in asset(relative).glob(f"*{suffix}"))


def default_bundle() -> Path:
    """The folder of the shipped guard."""
    return asset(f"bundles/{DEFAULT_BUNDLE}")


def is_bundle_name(model: str) -> bool:
    """Whether a guard may be called that: lower-case letters, digits and hyphens, and no file or folder here."""
    return _NAME.fullmatch(model) is not None and not Path(model).exists()


def bundle_folders() -> tuple[Path, ...]:
    """Where guards lie by name: those of the package, of a checkout, and those that `guard fetch` got."""
    return (*(root / "bundles" for root in _ROOTS), _ROOTS[-1] / "models", fetched_bundles())


def fetched_bundles() -> Path:
    """$XDG_DATA_HOME/guard/models, or that of ~/.local/share."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "guard" / "models"


def bundle_names() -> list[str]:
    """Sorted names of the guards that there are."""
    return sorted({path.parent.name for folder in bundle_folders() for path in folder.glob("*/guard.json")})


def named_bundle(name: str) -> Path:
    """The folder of a guard by its name; AssetError names those that there are."""
    for folder in bundle_folders():
        if (folder / name / "guard.json").is_file():
            return folder / name
    there = ", ".join(bundle_names())
    raise AssetError(
        f"no folder and no guard {name!r} (there are: {there}); give a bundle folder, or get the guard with "
        f"`guard fetch {name} --from URL_OR_FOLDER`"
    )
