"""Moderated chat completions: what is forwarded, shown and refused, as a proxy and as a wrapper of OpenAI's client.

from openai import OpenAI
from guard import open_guard
from guard.chat import guarded

client = guarded(OpenAI(), open_guard())  # or open_guard(server="127.0.0.1:50051")
client.chat.completions.create(model=..., messages=[...], stream=True)
"""

from guard.chat.options import ChatOptions
from guard.chat.wrapper import AsyncGuarded, Guarded, guarded

__all__ = ["AsyncGuarded", "ChatOptions", "Guarded", "guarded"]
