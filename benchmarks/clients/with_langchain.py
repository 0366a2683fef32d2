"""LangChain's OpenAIModerationMiddleware, unmodified: `python with_langchain.py URL`."""

from __future__ import annotations

import asyncio
import sys
from importlib.metadata import version

import openai
from langchain.agents import create_agent
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_openai.middleware import OpenAIModerationMiddleware

client = openai.OpenAI(base_url=f"{sys.argv[1]}/v1", api_key="none")
CASES = (
    ("hello", "bye", "bye"),
    ("violates:S10", "bye", "flagged for hate"),
    ("hi", "violates:S12", "flagged for sexual"),
)


def agent(reply: str, middleware: OpenAIModerationMiddleware):  # type: ignore[no-untyped-def]
    return create_agent(GenericFakeChatModel(messages=iter([AIMessage(reply)])), tools=[], middleware=[middleware])


async def main() -> None:
    asynchronous = openai.AsyncOpenAI(base_url=f"{sys.argv[1]}/v1", api_key="none")
    for text, reply, told in CASES:
        asked = {"messages": [{"role": "user", "content": text}]}
        answer = agent(reply, OpenAIModerationMiddleware(client=client)).invoke(asked)
        assert told in answer["messages"][-1].content
        answer = await agent(reply, OpenAIModerationMiddleware(async_client=asynchronous)).ainvoke(asked)
        assert told in answer["messages"][-1].content


asyncio.run(main())
print("langchain-openai", version("langchain-openai"), "OpenAIModerationMiddleware: ok")
