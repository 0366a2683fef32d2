"""The encoder's input: `[CLS] role content … [SEP] role judged [SEP]`, as token ids. The only place that builds it.

Control tokens are ids that the vocabulary reserves ([CLS], [SEP], [unusedN]); content is encoded with special-token
parsing off, so that no text can become one of them. Segment 0 is the judged message, segment 1 what came before it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from guard.conversation import ROLES, Conversation
from guard.errors import BundleError
from guard.policy import Category, Policy
from guard.prompts.layout import CONTEXT_SHARE, layout
from guard.prompts.tokenizer import load_tokenizer
from guard.prompts.unread import unread
from guard.prompts.window import TokenizedConversation, Window

# What a training input depends on besides the tokenizer (which the bundle's digest covers). The digest travels in the
# bundle, and a bundle with another digest is refused.
LAYOUT: dict[str, Any] = {
    "version": 1,
    "roles": {role: f"[unused{index}]" for index, role in enumerate(ROLES, 1)},
    "category": "[unused5]",
    "judged_segment": 0,
    "context_share": CONTEXT_SHARE,
    "category_tokens": 160,
}
LAYOUT_DIGEST = hashlib.sha256(json.dumps(LAYOUT, sort_keys=True).encode()).hexdigest()


def category_text(category: Category) -> str:
    """The text of a category for the encoder: name, definition, then what it includes."""
    return " ".join(
        [f"{category.name}: {category.definition}", *(f"{line.rstrip('.')}." for line in category.includes)]
    )


@dataclass(frozen=True)
class EncoderInput:
    """Makes windows of at most `max_tokens` ids (control tokens included), neighbours sharing `overlap`."""

    tokenizer: Tokenizer
    max_tokens: int
    overlap: int

    @classmethod
    def load(cls, path: Path, max_tokens: int, overlap: int) -> EncoderInput:
        """From a `tokenizer.json`; BundleError if it cannot be read, its vocabulary lacks a control token, or text can
        spell one."""
        tokenizer = load_tokenizer(path)
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True  # a literal "[SEP]" in content is read as plain characters
        renderer = cls(tokenizer, max_tokens, overlap)
        missing = [token for token in renderer._control_tokens if tokenizer.token_to_id(token) is None]
        if missing:
            raise BundleError(
                f"{path}: vocabulary lacks the control tokens {', '.join(missing)}; use a BERT vocabulary"
            )
        # The pieces of a Unigram vocabulary are not guarded by `encode_special_tokens`.
        spelt = [
            token
            for token in renderer._control_tokens
            if renderer._id(token) in tokenizer.encode(token, add_special_tokens=False).ids
        ]
        if spelt:
            raise BundleError(
                f"{path}: text can spell the control tokens {', '.join(spelt)}; take them out of the pieces and append "
                "them as added tokens"
            )
        return renderer

    @property
    def _control_tokens(self) -> list[str]:
        return ["[CLS]", "[SEP]", "[PAD]", *LAYOUT["roles"].values(), LAYOUT["category"]]

    @cached_property
    def control_ids(self) -> frozenset[int]:
        """Ids that content can never hold."""
        return frozenset(self._id(token) for token in self._control_tokens)

    def _id(self, token: str) -> int:
        index = self.tokenizer.token_to_id(token)
        assert index is not None  # `load` has checked them
        return index

    @cached_property
    def _cls(self) -> int:
        return self._id("[CLS]")

    @cached_property
    def _sep(self) -> int:
        return self._id("[SEP]")

    @cached_property
    def pad(self) -> int:
        return self._id("[PAD]")

    @cached_property
    def _unk(self) -> int | None:
        unknown: int | None = self.tokenizer.token_to_id("[UNK]")
        return unknown

    @cached_property
    def _roles(self) -> dict[str, int]:
        return {role: self._id(token) for role, token in LAYOUT["roles"].items()}

    def category_ids(self, text: str) -> tuple[int, ...]:
        """Ids of a category's words (see `category_text`), at most `category_tokens` of them."""
        encoded = self.tokenizer.encode(text, add_special_tokens=False)
        return (self._cls, self._id(LAYOUT["category"]), *encoded.ids[: LAYOUT["category_tokens"]], self._sep)

    def tokenize(self, conversation: Conversation, policy: Policy) -> TokenizedConversation:
        """All windows of a conversation. The judged message slides beside the end of its context, then, where the
        context did not fit, the rest of the context slides beside the start of the judged message."""
        text = conversation.judged.content
        judged = self.tokenizer.encode(text, add_special_tokens=False)
        role = self._roles[conversation.judged.role]
        ids, offsets = judged.ids, judged.offsets
        context, speakers = self._context(conversation)
        room = self.max_tokens - (5 if context else 3)  # [CLS] role … [SEP] role … [SEP]
        windows = []
        unknown: set[int] = set()
        for (start, end), (first, last) in layout(len(ids), len(context), room, self.overlap):
            input_ids = [self._cls]
            if last > first:
                if context[first] != speakers[first]:  # the window starts inside a turn
                    input_ids.append(speakers[first])
                input_ids += [*context[first:last], self._sep]
            segments = [1] * len(input_ids) if last > first else []
            input_ids += [role, *ids[start:end], self._sep]
            segments += [0] * (len(input_ids) - len(segments))
            span = (offsets[start][0], offsets[end - 1][1]) if end > start else (0, 0)
            windows.append(Window(policy, tuple(input_ids), tuple(segments), *span))
            words = {index: text[slice(*offsets[index])] for index in range(start, end) if ids[index] == self._unk}
            unknown |= unread(words, text[slice(*span)])
        total = len(ids) + len(context) - len(conversation.context)
        # A judged message of which nothing can be tokenized (only control characters, say) counts as one token unseen.
        return TokenizedConversation(tuple(windows), total - len(unknown), total + (not ids), len(unknown))

    def _context(self, conversation: Conversation) -> tuple[list[int], list[int]]:
        """Ids of everything before the judged message, each turn opened by its role, and the role at each id."""
        ids: list[int] = []
        speakers: list[int] = []
        for message in conversation.context:
            role = self._roles[message.role]
            turn = [role, *self.tokenizer.encode(message.content, add_special_tokens=False).ids]
            ids += turn
            speakers += [role] * len(turn)
        return ids, speakers
