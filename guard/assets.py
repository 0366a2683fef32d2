"""The shipped data: under `guard/_assets` in a wheel, or beside the package in a checkout."""

from __future__ import annotations

from pathlib import Path

from guard.errors import DISTRIBUTION, AssetError

_PACKAGE = Path(__file__).resolve().parent
_ROOTS = (_PACKAGE / "_assets", _PACKAGE.parent)
DEFAULT_BUNDLE = "mini-en"


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
