"""A byte-level BPE tokenizer of our own for a guard that is trained from scratch, with Llama 3's control tokens.

A prompt's fixed sentences may become single tokens, so that a small model spends its time on what is said. They are
plain text all the same: a message that quotes one holds that token, and none of a turn's control tokens.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from guard.errors import ConfigError
from guard.policy import Policy
from guard.prompt import TEMPLATE
from guard.text.control import FAMILIES
from guard.verdict import SAFE_WORD, UNSAFE_WORD

FAMILY = FAMILIES[0]
# Llama 3's: a run of letters with one mark before it, digits apart from letters, line breaks alone.
SPLIT = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SMALLEST = 512  # tokens: the bytes, the control tokens and some merges
_LONGEST_CODE = 64  # categories whose codes S1, S2 … are whole tokens after their letter


def fixed_phrases() -> tuple[str, ...]:
    """The sentences that every prompt holds, cut where a role's name stands in them; the longest first."""
    before, after = TEMPLATE.question.split("{role}")
    lines = (*TEMPLATE.opening.splitlines(), *TEMPLATE.closing.splitlines(), before, after, TEMPLATE.cue)
    return tuple(sorted({line for line in lines if line.strip()}, key=lambda line: (-len(line), line)))


def train_bpe(texts: Iterable[str], policies: Sequence[Policy], vocabulary: int) -> Tokenizer:
    """A tokenizer of at most `vocabulary` tokens made of `texts`, and of what the prompts under the policies say.

    ConfigError if that is too few for the bytes and the fixed parts of a prompt.
    """
    if vocabulary < SMALLEST:
        raise ConfigError(f"vocabulary: {vocabulary} tokens are too few; give at least {SMALLEST}")
    phrases = fixed_phrases()
    made = Tokenizer(models.BPE())
    pattern = "|".join([*map(re.escape, phrases), SPLIT])
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    made.decoder = decoders.ByteLevel()
    counted = Counter(texts)
    # As often as there are texts, since every one of them stands in a prompt: so they are merged whole.
    said = [*phrases, SAFE_WORD, UNSAFE_WORD, *TEMPLATE.roles.values(), *TEMPLATE.headings.values()]
    said += [TEMPLATE.message.format(role=role) for role in TEMPLATE.roles.values()]
    said += [f"\n{number}" for number in range(1, _LONGEST_CODE + 1)]
    said += [f"{category.code}: {category.name}" for policy in policies for category in policy.categories]
    repeats = max(1, counted.total())
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(FAMILY.tokens),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(_stream(counted, said, repeats), trainer)
    return made


def _stream(counted: Counter[str], said: Sequence[str], repeats: int) -> Iterable[list[str]]:
    yield from ([text] * times for text, times in counted.items())
    yield from ([phrase] * repeats for phrase in said)
