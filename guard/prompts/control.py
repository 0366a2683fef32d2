"""Control tokens of a chat tokenizer, and text that cannot become one.

A released chat model marks turns with reserved tokens. Here they are ids that only `ChatTokens` places; all text, ours
and the caller's, is encoded so that none of them can come out of it.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property

from tokenizers import Tokenizer

from guard.errors import BundleError, InvalidInput


@dataclass(frozen=True, slots=True)
class Family:
    """How a family of models writes a conversation: `bos`, then for each turn start HEADING heading_end gap TEXT end.

    Fields are token texts, except `gap` (between heading and text) and `after` (between two turns), which are plain
    text; `bos` and `heading_end` are None where the family has none.
    """

    name: str
    bos: str | None
    start: str
    heading_end: str | None
    gap: str
    end: str
    after: str

    @property
    def tokens(self) -> tuple[str, ...]:
        return tuple(token for token in (self.bos, self.start, self.heading_end, self.end) if token is not None)


FAMILIES = (
    Family("llama3", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "\n\n", "<|eot_id|>", ""),
    Family("llama4", "<|begin_of_text|>", "<|header_start|>", "<|header_end|>", "\n\n", "<|eot|>", ""),
    Family("chatml", None, "<|im_start|>", None, "\n", "<|im_end|>", "\n"),
    Family("gemma", "<bos>", "<start_of_turn>", None, "\n", "<end_of_turn>", "\n"),
    Family("granite", None, "<|start_of_role|>", "<|end_of_role|>", "", "<|end_of_text|>", "\n"),
)


def copied(tokenizer: Tokenizer, specials: bool) -> Tokenizer:
    """A copy that neither cuts nor pads; `specials`: whether text of a special token becomes that token."""
    copy = Tokenizer.from_str(tokenizer.to_str())
    copy.no_truncation()
    copy.no_padding()
    copy.encode_special_tokens = not specials
    return copy


def control_ids(tokenizer: Tokenizer) -> frozenset[int]:
    """Ids that no text may hold: all added tokens, special or not, that are more than one visible character."""
    added = tokenizer.get_added_tokens_decoder().items()
    return frozenset(index for index, token in added if token.special or len(token.content.strip()) > 1)


@dataclass(frozen=True, eq=False)
class ChatTokens:
    """A tokenizer of a known family. All its results are token ids."""

    tokenizer: Tokenizer
    family: Family

    @classmethod
    def of(cls, tokenizer: Tokenizer, where: str) -> ChatTokens:
        """Finds the family by its tokens; BundleError if there is none, or if text could spell one of them. Works on a
        copy of `tokenizer`."""
        own = copied(tokenizer, specials=False)
        for family in FAMILIES:
            if all(own.token_to_id(token) is not None for token in family.tokens):
                controls = control_ids(own)
                for token in family.tokens:
                    if own.token_to_id(token) not in controls:
                        raise BundleError(
                            f"{where}: {token} is an ordinary token of the vocabulary, which any text can spell; "
                            "declare it in `added_tokens` with special=true"
                        )
                return cls(own, family)
        known = "; ".join(f"{family.name} ({' '.join(family.tokens)})" for family in FAMILIES)
        raise BundleError(
            f"{where}: the tokenizer has the control tokens of no known chat family: {known}; take the chat version of "
            "the base (Instruct, -it), or add a family's tokens to the tokenizer, resize the embeddings and train them"
        )

    def _id(self, token: str | None) -> tuple[int, ...]:
        index = None if token is None else self.tokenizer.token_to_id(token)
        return () if index is None else (index,)

    @cached_property
    def bos(self) -> tuple[int, ...]:
        return self._id(self.family.bos)

    @cached_property
    def end(self) -> tuple[int, ...]:
        """Ends a turn, and with it a verdict."""
        return self._id(self.family.end)

    @cached_property
    def after(self) -> tuple[int, ...]:
        return self.text(self.family.after)

    def opening(self, heading: str) -> tuple[int, ...]:
        """What stands before the text of a turn."""
        return (
            *self._id(self.family.start),
            *self.text(heading),
            *self._id(self.family.heading_end),
            *self.text(self.family.gap),
        )

    @cached_property
    def control_ids(self) -> frozenset[int]:
        """Ids that no text may hold."""
        return control_ids(self.tokenizer)

    def text(self, text: str) -> tuple[int, ...]:
        """Ids of plain text, none of them in `control_ids`."""
        return self.encode(text)[0]

    def encode(self, text: str) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
        """Ids of plain text and the characters (start, end) that each stands for.

        A tokenizer still matches added tokens that are not marked special, and a normaliser may turn other characters
        into one. Where that happens the text is cut in the middle of the match and its parts are encoded apart, until
        nothing matches. Raises InvalidInput if a single character is a control token, which no cut can undo.
        """
        ids: list[int] = []
        offsets: list[tuple[int, int]] = []
        parts = [(0, text)]
        while parts:
            start, part = parts.pop()
            encoded = self.tokenizer.encode(part, add_special_tokens=False)
            matches = [
                offset for index, offset in zip(encoded.ids, encoded.offsets, strict=True) if index in self.control_ids
            ]
            if not matches:
                ids += encoded.ids
                offsets += [(start + first, start + last) for first, last in encoded.offsets]
                continue
            cuts = sorted({0, *((first + last) // 2 for first, last in matches), len(part)})
            if len(cuts) == 2:
                raise InvalidInput(
                    f"the character at {start + matches[0][0]} is a control token of the model; remove it"
                )
            parts += [(start + first, part[first:last]) for first, last in reversed(list(itertools.pairwise(cuts)))]
        return tuple(ids), tuple(offsets)
