"""The chat template of a model's folder: loaded, stored and rendered in a sandbox, as transformers does it.

A template is third-party code. It sees plain text and lists, and can neither import nor mutate anything.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from guard.errors import BundleError, InvalidInput

JINJA = "chat_template.jinja"
CONFIG = "tokenizer_config.json"
_OLDER = "chat_template.json"  # where models with a processor keep it


@dataclass(frozen=True)
class ChatTemplate:
    """`source` is Jinja; `tokens` are the special tokens that it may name, like `bos_token`."""

    source: str
    tokens: Mapping[str, str]

    @cached_property
    def digest(self) -> str:
        """sha256 (hex) of everything that its output depends on."""
        parts = {"source": self.source, "tokens": dict(self.tokens)}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    @cached_property
    def _compiled(self) -> Any:
        from jinja2 import TemplateError
        from jinja2.ext import loopcontrols
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        def refuse(reason: str) -> None:
            raise TemplateError(reason)

        def tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None) -> str:
            return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)

        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
        environment.filters["tojson"] = tojson
        environment.globals["raise_exception"] = refuse
        try:
            return environment.from_string(self.source)
        except TemplateError as problem:
            raise BundleError(f"the chat template cannot be compiled: {problem}; restore {JINJA}") from None

    def render(self, messages: Sequence[Mapping[str, Any]], **arguments: Any) -> str:
        """The text before the model's turn. InvalidInput, without user text, where the template fails."""
        template = self._compiled
        try:
            rendered: str = template.render(
                messages=list(messages),
                tools=None,
                documents=None,
                add_generation_prompt=True,
                **self.tokens,
                **arguments,
            )
        except Exception as problem:  # noqa: BLE001 - a template is a program: it may fail in any way
            raise InvalidInput(
                f"the model's chat template rejects {len(messages)} messages with the roles "
                f"{', '.join(str(message['role']) for message in messages[:8])} ({type(problem).__name__})"
            ) from None
        return rendered

    def write(self, folder: Path) -> None:
        """Writes it where `load_template` and transformers look for it."""
        (folder / JINJA).write_text(self.source, encoding="utf-8")
        (folder / CONFIG).write_text(json.dumps(dict(self.tokens), indent=2, sort_keys=True) + "\n", encoding="utf-8")


def load_template(folder: Path) -> ChatTemplate | None:
    """The template of a model's folder, if there is one; BundleError if a file that should hold it cannot be read."""
    config = _json(folder / CONFIG)
    sources = [
        _text(folder / JINJA),
        config.get("chat_template"),
        _json(folder / _OLDER).get("chat_template"),
    ]
    source = next((candidate for candidate in map(_default, sources) if candidate), None)
    if source is None:
        return None
    settings = {**_json(folder / "special_tokens_map.json"), **config}
    tokens = {key: _content(value) for key, value in settings.items() if key.endswith("_token")}
    return ChatTemplate(source, {key: text for key, text in tokens.items() if text is not None})


def _default(source: object) -> str | None:
    """The template of that name, where a model has several."""
    if isinstance(source, list):
        source = {entry.get("name"): entry.get("template") for entry in source if isinstance(entry, dict)}
    if isinstance(source, dict):
        source = source.get("default")
    return source if isinstance(source, str) else None


def _content(value: object) -> str | None:
    content = value.get("content") if isinstance(value, dict) else value
    return content if isinstance(content, str) else None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8") if path.is_file() else None
    except (OSError, UnicodeError) as problem:
        raise BundleError(f"{path}: cannot be read: {type(problem).__name__}; restore the file") from None


def _json(path: Path) -> dict[str, Any]:
    text = _text(path)
    try:
        plain = {} if text is None else json.loads(text)
    except ValueError:
        raise BundleError(f"{path}: not JSON; restore the file") from None
    if not isinstance(plain, dict):
        raise BundleError(f"{path}: holds a {type(plain).__name__}, not an object; restore the file")
    return plain
