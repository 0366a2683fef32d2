"""LangChain's own moderation middleware, unmodified, before a `guard serve`.

    pip install langchain langchain-openai
    guard serve --rest-port 8080 &
    OPENAI_API_KEY=… CHAT_MODEL=gpt-x python examples/langchain_moderation.py http://127.0.0.1:8080 "Hello"

OPENAI_BASE_URL: any server that speaks OpenAI's API.
"""

from __future__ import annotations

import os
import sys

from langchain.agents import create_agent
from langchain_openai import ChatOpenAI
from langchain_openai.middleware import OpenAIModerationMiddleware
from openai import OpenAI

url, text = sys.argv[1:]
guard = OpenAI(base_url=f"{url}/v1", api_key="none")  # or the key of `guard serve --api-keys`
moderation = OpenAIModerationMiddleware(client=guard, check_tool_results=True, exit_behavior="end")
agent = create_agent(ChatOpenAI(model=os.environ.get("CHAT_MODEL", "gpt-x")), tools=[], middleware=[moderation])
print(agent.invoke({"messages": [{"role": "user", "content": text}]})["messages"][-1].text)
