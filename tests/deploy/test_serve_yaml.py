"""The settings file to copy from holds every setting, with its default."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from guard import document
from guard.errors import ConfigError
from guard.serve.config import Settings, keys, settings

FILE = Path(__file__).parents[2] / "deploy" / "serve.yaml"


def test_it_is_the_defaults() -> None:
    assert settings(FILE, []) == Settings()


def test_it_holds_every_setting() -> None:
    plain, _ = document.parse(FILE.read_text(), str(FILE), ConfigError)
    assert {*leaves(plain)} == {key for key, _ in keys(Settings)}


def leaves(plain: dict[str, Any], prefix: str = "") -> list[str]:
    found = []
    for key, value in plain.items():
        inner = isinstance(value, dict) and value
        found += leaves(value, f"{prefix}{key}.") if inner else [prefix + key]
    return found
