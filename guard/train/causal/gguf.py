"""A `.gguf` file as a base: converted once, by transformers' own loader, to the folder that everything else reads.

The weights become fp32, exactly the values that the file's blocks stand for; tokenizer and chat template come from the
file's metadata. The folder lies in the user's cache under a name of the file's contents, so that a changed file, or
another version of the loader, is converted anew. It may be removed at any time.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from guard.digest import file_digest
from guard.errors import BundleError, need

SUFFIX = ".gguf"
_FOLDER = "take the base's own folder of safetensors instead (hf download OWNER/NAME --local-dir FOLDER)"


def is_gguf(base: str) -> bool:
    """Whether a base is named by a GGUF file, there or not."""
    return base.lower().endswith(SUFFIX)


def cache_folder() -> Path:
    """Where converted bases lie: $XDG_CACHE_HOME/guard/bases, or that of ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "guard" / "bases"


def converted(path: Path) -> Path:
    """The Hugging Face folder of a GGUF file: config.json, model.safetensors, tokenizer.json, the chat template.

    Raises MissingExtra without the package gguf, BundleError if the file is missing, broken, one part of several, or
    of an architecture that transformers does not load as a causal language model.
    """
    need("gguf", "gguf")
    if not path.is_file():
        raise BundleError(f"{path}: no such file; download it (hf download OWNER/NAME FILE.gguf --local-dir FOLDER)")
    status = path.stat()
    return _converted(path.resolve(), status.st_size, status.st_mtime_ns)


@cache
def _converted(path: Path, size: int, changed_ns: int) -> Path:
    """size, changed_ns: of the file, so that it is not hashed twice unless it was written to."""
    name = f"{path.stem}-{file_digest(path)[:16]}-transformers-{version('transformers')}"
    folder = cache_folder() / name
    if folder.is_dir():
        return folder
    architecture, tokens = _described(path)
    try:
        cache_folder().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache_folder(), prefix=f".{path.stem}-") as scratch:
            made = Path(scratch) / "base"
            _write(path, architecture, tokens, made)
            with contextlib.suppress(OSError):  # another process was faster
                made.rename(folder)
    except (OSError, SafetensorError) as problem:
        reason = getattr(problem, "strerror", None) or type(problem).__name__
        raise BundleError(
            f"{path}: cannot be converted to {cache_folder()} ({reason}), which "
            "takes 4 bytes a parameter; free space there, or set XDG_CACHE_HOME to another folder"
        ) from None
    return folder


def _described(path: Path) -> tuple[str, int]:
    """The architecture that a whole file names, and how many tokens it lists."""
    from gguf import GGUFReader

    try:
        reader = GGUFReader(path)  # maps every tensor, so that a file that ends too early is found here
        field = reader.get_field("general.architecture")
        tokens = reader.get_field("tokenizer.ggml.tokens")
        parts = reader.get_field("split.count")
    except Exception as problem:  # noqa: BLE001 - on a broken file the reader may fail in any way
        raise BundleError(f"{path}: not a whole GGUF file ({type(problem).__name__}); download it again") from None
    if parts is not None and int(parts.contents()) > 1:
        raise BundleError(f"{path}: one of {int(parts.contents())} parts; join them first: llama-gguf-split --merge")
    if field is None or tokens is None:
        raise BundleError(f"{path}: names no architecture or no tokens, so it holds no language model; {_FOLDER}")
    return str(field.contents()), len(tokens.data)


def _write(path: Path, architecture: str, tokens: int, folder: Path) -> None:
    import torch
    from accelerate import init_empty_weights
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    place: dict[str, Any] = {"gguf_file": path.name, "local_files_only": True}
    try:
        config = AutoConfig.from_pretrained(str(path.parent), **place)
        found: Any = AutoModelForCausalLM.from_pretrained(
            str(path.parent), config=config, dtype=torch.float32, output_loading_info=True, **place
        )
        tokenizer: Any = AutoTokenizer.from_pretrained(str(path.parent), **place)
    except Exception as problem:
        if isinstance(problem, OSError) and problem.errno is not None:
            raise  # of the system, not of what the file holds; the loader has no error of its own for that
        told = next(iter(str(problem).splitlines()), "")[:200]
        raise BundleError(
            f"{path}: a GGUF of architecture {architecture!r}, which transformers {version('transformers')} does not "
            f"load as a causal language model ({type(problem).__name__}: {told}); {_FOLDER}"
        ) from None
    loaded, report = found
    if missing := sorted(report["missing_keys"]):
        raise BundleError(f"{path}: holds no tensor for {missing[0]} ({len(missing)} such are missing); {_FOLDER}")
    # The loaded model counts as quantized, which transformers does not write; the values are plain numbers by now.
    plain = {key: value for key, value in loaded.config.to_dict().items() if key != "quantization_config"}
    plain["_name_or_path"] = path.name
    with init_empty_weights(include_buffers=False):
        made: Any = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
            type(loaded.config)(**plain), dtype=torch.float32
        )
    made.load_state_dict(loaded.state_dict(), assign=True)
    made.tie_weights()
    made.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _keep_tokens(folder / "tokenizer.json", tokens)


def _keep_tokens(path: Path, count: int) -> None:
    """Removes what the tokenizer's class added to the tokens of the file, for which the model has no embedding."""
    plain = json.loads(path.read_text(encoding="utf-8"))
    plain["added_tokens"] = [token for token in plain["added_tokens"] if token["id"] < count]
    path.write_text(json.dumps(plain, ensure_ascii=False, indent=2), encoding="utf-8")
