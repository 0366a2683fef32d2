"""Loads tokenizers from `tokenizer.json` files."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer

from guard.errors import BundleError


def load_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of a file; BundleError if it is not one."""
    try:
        return Tokenizer.from_file(str(path))
    except Exception as problem:  # noqa: BLE001 - the library raises nothing more special
        raise BundleError(f"{path}: not a tokenizer: {problem}; export the bundle again") from None
