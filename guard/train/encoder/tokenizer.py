"""The encoder's tokenizer, hardened against hostile text before training and export."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers

WORD = 100  # characters


def encoder_tokenizer(source: Path, target: Path) -> None:
    """Writes `source` to `target` without truncation or padding; WordPiece gets words cut every `WORD` characters.

    It reads a longer word as one unknown token, which would hide anything written without spaces. Unigram has no such
    limit, and a cut would part the words of Chinese, Japanese and Thai, which are written without spaces.
    """
    tokenizer = Tokenizer.from_file(str(source))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    own = tokenizer.pre_tokenizer
    whole = own is None or len(own.pre_tokenize_str("a" * (WORD + 1))) == 1
    if whole and not isinstance(tokenizer.model, models.Unigram):
        cut = pre_tokenizers.FixedLength(length=WORD)
        tokenizer.pre_tokenizer = cut if own is None else pre_tokenizers.Sequence([own, cut])
    tokenizer.save(str(target), pretty=False)
