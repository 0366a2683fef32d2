"""Changes of turns and roles under which the label is still known.

- Earlier turns: the judged message stays, and unrelated benign turns do not change its label.
- A prompt as tool output: tool output is input to the model, judged like a prompt.
- A prompt with a plain refusal: the refusal is judged now, and it violates nothing.

Not done, because the label would be unknown: a prompt in the role of the assistant (requesting harm is not providing
it); judging the prompt of a response example (it is unlabelled, or another example); harmful turns before a safe
message (which may then continue them).
"""

from __future__ import annotations

import dataclasses
import random

from guard.conversation import Conversation, Example, Message
from guard.train.augment.padding import Pool

REPLIES = (  # to a benign message without a known response
    "Happy to help. Is there anything that I should know before I begin?",
    "Good question. Let me think about it for a moment.",
    "Sure. Here is a first draft; tell me what you would change.",
    "Thanks, I have noted that.",
    "That depends a little on what you prefer, so let us start with the basics.",
    "Of course. What would you like to have first?",
)
REFUSALS = (
    "I can't help with that.",
    "Sorry, but I won't do this.",
    "I have to decline this request. I can help with something else.",
    "That is not something I can assist with.",
    "No. I would rather not answer this.",
    "I'm unable to help here, but feel free to ask me another question.",
)


def history(pool: Pool, turns: int, rng: random.Random) -> tuple[Message, ...]:
    """The given number of benign exchanges, each a user message and a reply; none if the pool is empty."""
    messages: list[Message] = []
    for _ in range(turns if pool.texts else 0):
        if pool.exchanges and rng.random() < 0.5:
            prompt, reply = rng.choice(pool.exchanges)
        else:
            prompt, reply = rng.choice(pool.texts), rng.choice(REPLIES)
        messages += [Message("user", prompt), Message("assistant", reply)]
    return tuple(messages)


def preceded(conversation: Conversation, earlier: tuple[Message, ...]) -> Conversation:
    """The conversation with earlier messages inserted after its leading system messages."""
    messages = conversation.messages
    opening = next((index for index, message in enumerate(messages) if message.role != "system"), 0)
    return Conversation((*messages[:opening], *earlier, *messages[opening:]))


def as_tool_output(example: Example) -> Example:
    """The example with its judged prompt as the output of a tool; other examples are returned unchanged."""
    judged = example.conversation.judged
    if judged.role != "user":
        return example
    messages = (*example.conversation.context, Message("tool", judged.content))
    return dataclasses.replace(example, conversation=Conversation(messages))


def refused(example: Example, refusal: str) -> Example:
    """A prompt example as a safe response example that refuses it; other examples are returned unchanged."""
    if example.kind != "prompt" or example.conversation.judged.role != "user":
        return example
    return dataclasses.replace(
        example,
        conversation=Conversation((*example.conversation.messages, Message("assistant", refusal))),
        label="safe",
        categories=frozenset(),
        undecided=frozenset(),
        kind="response",
    )
