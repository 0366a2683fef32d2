"""Requests: conversations to judge, and the options that they are judged under."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from guard.calibration import Mode
from guard.conversation import Conversation
from guard.errors import InvalidInput
from guard.policy import Policy


@dataclass(frozen=True, slots=True)
class PolicyText:
    """A whole policy document, in YAML or JSON."""

    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Options:
    """policy: the name of one that the service knows, a document, or a value; None: its own. mode None: its own."""

    policy: str | PolicyText | Policy | None = None
    exclude: tuple[str, ...] = ()
    mode: Mode | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """Conversations to judge under the same options; an error stands for an invalid one, and is its answer.

    seconds: how long the caller waits; the service may time out sooner.
    """

    conversations: tuple[Conversation | InvalidInput, ...] = field(repr=False)
    options: Options = Options()
    seconds: float = math.inf
