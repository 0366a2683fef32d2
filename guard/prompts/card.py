"""A prompt that a model's card gives as text, with the places of the request and the response, as a chat template.

Some guards come without a chat template: WildGuard's prompt stands in its README.md, which lies beside the weights.
"""

from __future__ import annotations

import re
from pathlib import Path

from guard.errors import BundleError
from guard.prompts.chat_template import ChatTemplate, load_template

CARD = "README.md"
_PLACES = re.compile(r"\{(prompt|response)\}")
# A triple-quoted string, or a fenced block that is nothing but the prompt.
_BLOCKS = (re.compile(r"(?s)(\"{3}|'{3})(.*?)\1"), re.compile(r"(?s)(```)[a-z]*\n(.*?)```"))
_JINJA = {
    "prompt": "{{ messages[0]['content'] }}",
    "response": "{{ messages[1]['content'] if messages | length > 1 else '' }}",
}


def card_template(folder: Path, mark: str) -> ChatTemplate | None:
    """The prompt of a folder's card that holds `mark`, as a template of at most two messages; None if there is none.

    BundleError if the card cannot be read.
    """
    path = folder / CARD
    try:
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
    except (OSError, UnicodeError) as problem:
        raise BundleError(f"{path}: cannot be read: {type(problem).__name__}; restore the file") from None
    blocks = (block for kind in _BLOCKS for _, block in kind.findall(text))
    found = next((b for b in blocks if mark in b and set(_PLACES.findall(b)) == {"prompt", "response"}), None)
    if found is None:
        return None
    other = load_template(folder)  # of the model that it was trained from; its tokens are the same
    parts = _PLACES.split(found)
    source = "".join(_JINJA[part] if index % 2 else _literal(part) for index, part in enumerate(parts))
    return ChatTemplate(source, {} if other is None else other.tokens)


def _literal(text: str) -> str:
    return f"{{% raw %}}{text}{{% endraw %}}"
