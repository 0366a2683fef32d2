"""OpenAI's client with a guard before and after the model: what is refused ends with `content_filter`.

    pip install -c constraints.txt '.[rest]' openai
    OPENAI_API_KEY=… CHAT_MODEL=gpt-x python examples/openai_wrapper.py "How do I bake bread?"

OPENAI_BASE_URL: any server that speaks OpenAI's API. GUARD_SERVER: host:port of a `guard serve`; without it the shipped
guard (or the bundle GUARD_MODEL) judges in this process.
"""

from __future__ import annotations

import os
import sys

from openai import APIError, OpenAI

from guard import GuardError, open_guard
from guard.chat import ChatOptions, guarded

MODEL = os.environ.get("CHAT_MODEL", "gpt-x")
messages = [{"role": "user", "content": sys.argv[1]}]

with open_guard(os.environ.get("GUARD_MODEL"), os.environ.get("GUARD_SERVER")) as guard, OpenAI() as client:
    chat = guarded(client, guard, ChatOptions(refusal="I can't help with that."))
    try:
        (choice,) = chat.chat.completions.create(model=MODEL, messages=messages).choices
        print(choice.message.content)
        print(f"[{choice.finish_reason}]")

        for chunk in chat.chat.completions.create(model=MODEL, messages=messages, stream=True):
            for piece in chunk.choices:
                print(piece.delta.content or "", end="", flush=True)
                if piece.finish_reason:
                    print(f"\n[{piece.finish_reason}]")
    except GuardError as error:  # the guard failed: there is no verdict, so that nothing more is shown
        sys.exit(f"\nnot checked: {type(error).__name__}")
    except APIError as error:
        sys.exit(f"\nthe model failed: {type(error).__name__}")
