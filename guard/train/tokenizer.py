"""The encoder's tokenizer, made safe for hostile text before training and shipping."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer, pre_tokenizers


def encoder_tokenizer(source: Path, target: Path) -> None:
    """Writes `source` to `target` without truncation or padding, and with words cut every 100 characters.

    WordPiece reads a longer word as one unknown token, which would hide anything written without spaces.
    """
    tokenizer = Tokenizer.from_file(str(source))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    if not isinstance(tokenizer.pre_tokenizer, pre_tokenizers.Sequence):
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [tokenizer.pre_tokenizer, pre_tokenizers.FixedLength(length=100)]
        )
    tokenizer.save(str(target))
