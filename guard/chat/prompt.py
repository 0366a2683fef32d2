"""What is judged of a request, and what of it is forwarded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from guard.chat.completion import CALLS
from guard.conversation import Conversation, Message, Role
from guard.errors import InvalidInput
from guard.message import parse_messages

MOST_CHOICES = 128  # as at OpenAI's; the refusal of a prompt has as many
_FROM_OUTSIDE = ("user", "tool")
# Fields besides `messages` that a model reads, with the role as which their text is judged.
JUDGED: Mapping[str, Role] = {
    "tools": "system",
    "functions": "system",
    "tool_choice": "system",
    "function_call": "system",
    "response_format": "system",
    "prediction": "user",
    "documents": "tool",
}
# Fields that no model reads, though they may hold text.
SETTINGS = (
    "model",
    "stream",
    "stream_options",
    "n",
    "stop",
    "logit_bias",
    "user",
    "safety_identifier",
    "metadata",
    "store",
    "prompt_cache_key",
    "prompt_cache_retention",
    "service_tier",
    "reasoning_effort",
    "verbosity",
    "modalities",
    "moderation",
)
# What is known to be neither, and may be named in an error.
_REFUSED = (
    "audio",
    "chat_template",
    "chat_template_kwargs",
    "guided_choice",
    "guided_grammar",
    "guided_json",
    "guided_regex",
    "prompt",
    "reasoning",
    "structured_outputs",
    "thinking",
    "web_search_options",
)
# Of a message what parse_messages renders, and names that only the API reads; everything else in it is judged by
# itself.
_RENDERED = ("role", "content", "refusal", "tool_calls", "function_call", "audio", "tool_call_id")
_RENDERED_PARTS = ("type", "text", "refusal", "data", "image_url", "input_audio", "file")
# The words of JSON Schema and of the API itself, which say nothing.
_WORDS = (
    "type function functions name description parameters strict properties required items "
    "additionalProperties enum const default anyOf oneOf allOf $ref $defs definitions title format object "
    "array string number integer boolean null json_schema json_object text schema content custom grammar "
    "syntax definition lark regex auto none allowed_tools mode tools minimum maximum minLength maxLength "
    "minItems maxItems pattern examples id cache_control ephemeral"
)
_GRAMMAR = frozenset(_WORDS.split(" "))


@dataclass(frozen=True, slots=True)
class Prompt:
    """The messages of a request, and `others`, what else of it a model reads: each a message by itself.

    asked: whether it asks for a `moderation` field. blocking: whether that, by its modes, asks to block though the
    options may not.
    """

    messages: tuple[Message, ...] = field(repr=False)
    others: tuple[Message, ...] = field(default=(), repr=False)
    choices: int = 1
    stream: bool = False
    asked: bool = False
    blocking: bool = False

    @property
    def conversations(self) -> tuple[Conversation, ...]:
        """What to judge: the last message in its context, and by itself what reached the model from outside before."""
        if not self.messages:
            return ()
        earlier = (each for each in self.messages[:-1] if each.role in _FROM_OUTSIDE and each.content.strip())
        return (*(Conversation((each,)) for each in (*earlier, *self.others)), Conversation(self.messages))


def parse(body: Mapping[str, Any]) -> Prompt:
    """The prompt of a request's body. Raises InvalidInput, which names the place and never the text."""
    messages = parse_messages(body.get("messages"))
    if not messages:
        raise InvalidInput("messages is empty; send at least one message")
    choices = body.get("n")
    if choices is not None and not 1 <= _number(choices) <= MOST_CHOICES:
        raise InvalidInput(f"n must be a whole number >= 1 and <= {MOST_CHOICES}")
    stream = body.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise InvalidInput("stream must be true or false")
    asked = body.get("moderation")
    if asked is not None and not isinstance(asked, Mapping):
        raise InvalidInput("moderation must be an object")
    others = (*_fields(body), *_beside(body["messages"]))
    prompt = Prompt(messages, others, choices or 1, bool(stream), asked is not None, _blocking(asked))
    _ = prompt.conversations  # refuses an empty last message
    return prompt


def unjudged(body: Mapping[str, Any]) -> Prompt:
    """The prompt of a body that `parse` refuses, where it is forwarded all the same: nothing of it is judged."""
    choices, asked = body.get("n"), body.get("moderation")
    return Prompt(
        (),
        choices=min(max(1, _number(choices)), MOST_CHOICES),
        stream=body.get("stream") is True,
        asked=asked is not None,
        blocking=_blocking(asked),
    )


def _number(value: object) -> int:
    """A whole number; 0 for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def forwarded(body: Mapping[str, Any]) -> dict[str, Any]:
    """The body for the model: without what is asked of the guard."""
    return {key: value for key, value in body.items() if key != "moderation"}


def _blocking(asked: object) -> bool:
    policy = asked.get("policy") if isinstance(asked, Mapping) else None
    sides: Sequence[Any] = [policy.get(side) for side in ("input", "output")] if isinstance(policy, Mapping) else []
    return any(isinstance(side, Mapping) and side.get("mode") == "block" for side in sides)


def _fields(body: Mapping[str, Any]) -> Iterator[Message]:
    """The texts of the fields beside `messages`. Raises InvalidInput for a text that nobody would judge."""
    for key, value in body.items():
        if key == "messages" or key in SETTINGS:
            continue
        if not (text := "\n".join(_texts(value))):
            continue
        if key not in JUDGED:
            known = f"`{key}`" if key in _REFUSED else f"an unknown field ({len(key)} characters)"
            raise InvalidInput(
                f"{known} holds text that is not judged, and does not pass; leave it out. Judged besides `messages`: "
                + ", ".join(JUDGED)
            )
        yield Message(JUDGED[key], text)


def _beside(messages: Sequence[Mapping[str, Any]]) -> Iterator[Message]:
    """What messages hold in fields that are not rendered, such as the `name` of who speaks, or reasoning sent back."""
    for message in messages:
        others = _rest([message], _RENDERED)
        if isinstance(content := message.get("content"), list):
            others += _rest(content, _RENDERED_PARTS)
        calls = message.get("tool_calls") or ()
        others += _rest(calls, ("id", "type", "index", *CALLS))
        for kind, payload in CALLS.items():
            others += _rest([call[kind] for call in calls if call.get(kind)], ("name", payload))
        if text := "\n".join(_texts(others)):
            yield Message("user", text)


def _rest(values: Sequence[Mapping[str, Any]], rendered: Sequence[str]) -> list[Any]:
    return [each for value in values for key, each in value.items() if key not in rendered]


def _texts(value: object) -> Iterator[str]:
    """The strings of a JSON value, its keys included, that say something, in order."""
    left = [value]
    while left:
        match left.pop():
            case str() as text if text.strip() and text not in _GRAMMAR:
                yield text
            case Mapping() as entries:
                left += reversed([part for entry in entries.items() for part in entry])
            case list() | tuple() as parts:
                left += reversed(parts)
