"""An agent of the OpenAI Agents SDK with guard as its input, output and tool guardrails.

    pip install -c constraints.txt . && pip install openai-agents
    guard serve --port 50051 &
    OPENAI_API_KEY=… CHAT_MODEL=gpt-x python examples/openai_agents.py 127.0.0.1:50051 "What's the weather in Oslo?"

OPENAI_BASE_URL: any server that speaks OpenAI's API.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

from agents import (
    Agent,
    GuardrailFunctionOutput,
    InputGuardrailTripwireTriggered,
    OutputGuardrailTripwireTriggered,
    RunContextWrapper,
    Runner,
    ToolGuardrailFunctionOutput,
    ToolOutputGuardrailData,
    TResponseInputItem,
    function_tool,
    input_guardrail,
    output_guardrail,
    set_default_openai_api,
    set_tracing_disabled,
    tool_output_guardrail,
)

from guard import AsyncGuardClient, Conversation, Message

Context = RunContextWrapper[AsyncGuardClient]


# Not in parallel: else the model already works on, and tools already act for, a prompt that is then refused.
@input_guardrail(run_in_parallel=False)
async def prompts(context: Context, agent: Any, given: str | list[TResponseInputItem]) -> GuardrailFunctionOutput:
    conversation = Conversation.of(given) if isinstance(given, str) else Conversation.from_messages(given)
    blocked = await context.context.blocks(conversation)
    return GuardrailFunctionOutput(output_info=None, tripwire_triggered=blocked)


@output_guardrail
async def replies(context: Context, agent: Any, reply: str) -> GuardrailFunctionOutput:
    blocked = await context.context.blocks(Conversation((Message("assistant", reply),)))
    return GuardrailFunctionOutput(output_info=None, tripwire_triggered=blocked)


@tool_output_guardrail
async def results(data: ToolOutputGuardrailData) -> ToolGuardrailFunctionOutput:
    if await data.context.context.blocks(Conversation((Message("tool", str(data.output)),))):
        return ToolGuardrailFunctionOutput.reject_content("The tool's result was withheld.")
    return ToolGuardrailFunctionOutput.allow()


@function_tool(tool_output_guardrails=[results])
def weather(city: str) -> str:
    """The weather in a city."""
    return f"It is sunny in {city} today."


async def main(target: str, text: str) -> None:
    set_tracing_disabled(True)  # it would send what is said to OpenAI
    set_default_openai_api("chat_completions")
    agent = Agent(
        name="assistant",
        model=os.environ.get("CHAT_MODEL", "gpt-x"),
        tools=[weather],
        input_guardrails=[prompts],
        output_guardrails=[replies],
    )
    # `blocks` fails closed: what is INCOMPLETE, or has an error in place of a verdict, is blocked.
    async with AsyncGuardClient(target, timeout_s=10, on_error="block") as guard:
        try:
            print((await Runner.run(agent, text, context=guard)).final_output)
        except InputGuardrailTripwireTriggered:
            print("[the prompt was refused]")
        except OutputGuardrailTripwireTriggered:
            print("[the reply was refused]")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
