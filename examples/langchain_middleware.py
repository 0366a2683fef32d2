"""A LangChain agent whose prompts, tool results, tool calls and answers are judged by guard.

    pip install -c constraints.txt . && pip install langchain langchain-openai
    OPENAI_API_KEY=… CHAT_MODEL=gpt-x python examples/langchain_middleware.py "What's the weather in Oslo?"

OPENAI_BASE_URL: any server that speaks OpenAI's API. GUARD_SERVER: host:port of a `guard serve`; without it the shipped
guard (or the bundle GUARD_MODEL) judges in this process.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, AgentState, hook_config
from langchain_core.messages import AIMessage, AnyMessage, convert_to_openai_messages
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

from guard import Conversation, open_guard
from guard.moderator import Guard
from guard.serve.client import is_blocked

REFUSAL = "I can't help with that."
WITHHELD = "[withheld by the guard]"


class GuardMiddleware(AgentMiddleware):
    """Ends the run with a refusal unless every new message has a verdict of SAFE; failures and INCOMPLETE block, too.

    A blocked message is replaced, so that no later turn of the same thread reads it.
    """

    def __init__(self, guard: Guard) -> None:
        super().__init__()
        self.guard = guard

    @hook_config(can_jump_to=["end"])
    def before_model(self, state: AgentState, runtime: Any) -> dict[str, Any] | None:
        """Judges what came since the model wrote last: the user's message, or results of tools."""
        messages = state["messages"]
        written = [place for place, message in enumerate(messages) if message.type == "ai"]
        new = range(written[-1] + 1 if written else 0, len(messages))
        outside = [place for place in new if messages[place].type in ("human", "tool")]
        if not (blocked := self.blocked(messages, outside)):
            return None
        withheld = [message.model_copy(update={"content": WITHHELD}) for message in blocked]
        return {"messages": [*withheld, AIMessage(REFUSAL)], "jump_to": "end"}

    @hook_config(can_jump_to=["end"])
    def after_model(self, state: AgentState, runtime: Any) -> dict[str, Any] | None:
        """Judges the model's message with its tool calls, before any of them is made."""
        messages = state["messages"]
        if not (blocked := self.blocked(messages, [len(messages) - 1])):
            return None
        return {"messages": [AIMessage(REFUSAL, id=blocked[0].id)], "jump_to": "end"}

    def blocked(self, messages: Sequence[AnyMessage], places: Sequence[int]) -> list[AnyMessage]:
        """The messages at these places that do not pass, each judged in the context of those before it."""
        asked = [Conversation.from_messages(convert_to_openai_messages(messages[: place + 1])) for place in places]
        answers = self.guard.moderate_each(asked)
        return [messages[place] for place, answer in zip(places, answers, strict=True) if is_blocked(answer)]


@tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"It is sunny in {city} today."


def main() -> None:
    with open_guard(os.environ.get("GUARD_MODEL"), os.environ.get("GUARD_SERVER")) as guard:
        model = ChatOpenAI(model=os.environ.get("CHAT_MODEL", "gpt-x"))
        agent = create_agent(model, tools=[weather], middleware=[GuardMiddleware(guard)])
        answer = agent.invoke({"messages": [{"role": "user", "content": sys.argv[1]}]})
        for message in answer["messages"]:
            print(f"{message.type}: {message.text}")


if __name__ == "__main__":
    main()
