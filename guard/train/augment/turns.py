"""Turns around a judged message whose label is known all the same.

What changes who is judged, or in which role, is left out unless the label follows by itself:

- Turns before the first one: the judged message stays, and unrelated benign talk does not make it better or worse.
- A prompt as tool output: tool output is read as input to the model, under the same question as a prompt.
- A prompt and a plain refusal: the refusal is now what is judged, and it violates nothing.

Left out: a prompt in the assistant's role (to ask for harm is not to give it); the prompt of a response example (its
label is not known, or is that of another example); harmful talk before a safe message (which may then go on with it).
"""

from __future__ import annotations

import dataclasses
import random

from guard.conversation import Conversation, Example, Message
from guard.train.augment.padding import Pool

REPLIES = (  # to a benign message of which no reply is known
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
    """So many benign exchanges, each a message of the user's and a reply; none if the pool is empty."""
    messages: list[Message] = []
    for _ in range(turns if pool.texts else 0):
        if pool.exchanges and rng.random() < 0.5:
            asked, replied = rng.choice(pool.exchanges)
        else:
            asked, replied = rng.choice(pool.texts), rng.choice(REPLIES)
        messages += [Message("user", asked), Message("assistant", replied)]
    return tuple(messages)


def preceded(conversation: Conversation, earlier: tuple[Message, ...]) -> Conversation:
    """The conversation with earlier messages, which come after its opening system messages."""
    messages = conversation.messages
    opening = next((index for index, message in enumerate(messages) if message.role != "system"), 0)
    return Conversation((*messages[:opening], *earlier, *messages[opening:]))


def as_tool_output(example: Example) -> Example:
    """The example with its judged prompt as a tool's output; any other example as it is."""
    judged = example.conversation.judged
    if judged.role != "user":
        return example
    messages = (*example.conversation.context, Message("tool", judged.content))
    return dataclasses.replace(example, conversation=Conversation(messages))


def refused(example: Example, refusal: str) -> Example:
    """A prompt example as a safe response example, in which the prompt is refused; any other example as it is."""
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
