"""guard.filter.scoring: how texts are put into batches."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as some

from guard.conversation import Conversation
from guard.filter.scoring import BATCH, BATCH_CHARACTERS, batches


@given(some.lists(some.integers(1, BATCH_CHARACTERS // 3), max_size=3 * BATCH), some.data())
def test_the_rest_of_the_texts_are_in_the_same_batches(lengths, data):
    """A job that was killed when some of its batches were done scores the others as they would have been."""
    texts = {f"{number:04}": Conversation.of("x" * length) for number, length in enumerate(lengths)}
    planned = batches(texts)
    assert sorted(digest for batch in planned for digest in batch) == sorted(texts)
    done = data.draw(some.lists(some.booleans(), min_size=len(planned), max_size=len(planned)))
    left = [batch for batch, finished in zip(planned, done, strict=True) if not finished]
    rest = {digest: texts[digest] for batch in reversed(left) for digest in reversed(batch)}
    assert batches(rest) == left
