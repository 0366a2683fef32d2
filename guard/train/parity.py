"""What every export is compared on: the same conversations through torch and through ONNX Runtime."""

from __future__ import annotations

from guard.conversation import Conversation

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
)
