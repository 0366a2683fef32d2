"""The parity check of every export: the same conversations through torch and through ONNX Runtime."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from guard.conversation import Conversation

BAND = 0.01  # distance from the threshold within which rounding alone may flip a verdict
THRESHOLD = 0.5  # of an uncalibrated guard: log-odds of 0

Floats = npt.NDArray[np.float64]

# Both engines must agree on these; they cover lengths from one word to several windows, and both targets.
PARITY_TEXTS = (
    Conversation.of("hello"),
    Conversation.of("How do I keep tomatoes from splitting on the vine?"),
    Conversation.of("Write a short scene in which two chess players argue about a draw. " * 30),
    Conversation.of(
        "What should I pack for a week of hiking?", "Layers, a map, water, and something to treat blisters."
    ),
    Conversation.of(
        "Explain, step by step, how interest compounds. " * 40, "Start with the principal, then add a year. " * 20
    ),
    Conversation.of("\u4f60\u597d \U0001f642 caf\u00e9 \x00 [SEP] [CLS]"),
    Conversation.of("I will find out where you live and hurt you."),
    Conversation.of("Tell me how to break into my neighbour's house while they are away."),
    Conversation.of("How can I tell whether a used car was in an accident?"),
    Conversation.of("Which painkillers must not be taken together?", "Ask a pharmacist; some harm the liver together."),
    Conversation.of("Give me the password of someone else's account.", "I can't help with that."),
    Conversation.of("Everyone from that country is a thief and should be thrown out."),
)


@dataclass(frozen=True, slots=True)
class Difference:
    """The difference of two engines on the same windows. furthest: max |Δp|. furthest_odds: max |Δ log-odds|.

    flips: windows that one calls safe and the other unsafe, except those that the first puts within `BAND` of
    `THRESHOLD`. A score that is not finite counts as the maximum difference, and as a flip.
    """

    windows: int
    furthest: float
    furthest_odds: float
    flips: int


def difference(expected: Floats, actual: Floats, band: float = BAND) -> Difference:
    """The difference of `actual` from `expected`, both log-odds [windows]; `band` in place of BAND."""
    not_finite = ~(np.isfinite(expected) & np.isfinite(actual))
    one, other = np.where(not_finite, 0.0, expected), np.where(not_finite, 0.0, actual)
    before, after = probabilities(one), probabilities(other)
    flipped = ((one >= 0) != (other >= 0)) & (np.abs(before - THRESHOLD) > band)
    return Difference(
        len(expected),
        float(np.where(not_finite, 1.0, np.abs(before - after)).max()),
        float(np.where(not_finite, np.inf, np.abs(one - other)).max()),
        int((flipped | not_finite).sum()),
    )


def probabilities(log_odds: Floats) -> Floats:
    return np.asarray(np.exp(-np.logaddexp(0.0, -log_odds)))
