"""A chat through NeMo Guardrails, with guard as its input and output rails (config/config.yml).

    pip install nemoguardrails langchain-openai
    guard serve --rest-port 8080 &
    OPENAI_API_KEY=… python examples/nemo_guardrails/chat.py "How do I bake bread?"

OPENAI_BASE_URL, CHAT_MODEL, GUARD_URL, GUARD_ENGINE (vllm or fms): in place of what config.yml says.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from nemoguardrails import LLMRails, RailsConfig

config = RailsConfig.from_path(str(Path(__file__).with_name("config")))
guard, chat = config.rails.config.hf_classifier["guard"], config.models[0]
guard.base_url = os.environ.get("GUARD_URL", guard.base_url)
guard.engine = os.environ.get("GUARD_ENGINE", guard.engine)
chat.model = os.environ.get("CHAT_MODEL", chat.model)
if url := os.environ.get("OPENAI_BASE_URL"):
    chat.parameters["base_url"] = url


async def main(*texts: str) -> None:
    rails = LLMRails(config)
    for text in texts:
        messages = [{"role": "user", "content": text}]
        print((await rails.generate_async(messages=messages))["content"])
        print((await rails.check_async(messages)).status.value)  # the input rail alone, without a model


asyncio.run(main(*sys.argv[1:]))
