"""Guardrails of the OpenAI Agents SDK, by moderations and decisions: `python with_agents.py URL`."""

from __future__ import annotations

import asyncio
import sys
from importlib.metadata import version
from typing import Any

import openai
from agents import (
    Agent,
    GuardrailFunctionOutput,
    InputGuardrailTripwireTriggered,
    ModelResponse,
    OutputGuardrailTripwireTriggered,
    Runner,
    Usage,
    input_guardrail,
    output_guardrail,
    set_tracing_disabled,
)
from agents.models.interface import Model
from openai.types.responses import ResponseOutputMessage, ResponseOutputText

client = openai.AsyncOpenAI(base_url=f"{sys.argv[1]}/v1", api_key="none")


class Fixed(Model):
    def __init__(self, text: str) -> None:
        self.text = text

    async def get_response(self, *_: Any, **__: Any) -> ModelResponse:
        text = ResponseOutputText(text=self.text, type="output_text", annotations=[])
        message = ResponseOutputMessage(id="1", type="message", role="assistant", status="completed", content=[text])
        return ModelResponse(output=[message], usage=Usage(), response_id=None)

    def stream_response(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError


@input_guardrail(run_in_parallel=False)
async def prompts(_: Any, __: Any, given: Any) -> GuardrailFunctionOutput:
    question = {"type": "predicate", "instructions": "policy:mlcommons"}
    (answer,) = (await client.decisions.create(model="guard", input=given, questions=[question])).answers
    return GuardrailFunctionOutput(answer, answer.type == "refusal" or answer.probability >= 0.5)


@output_guardrail
async def replies(_: Any, __: Any, given: str) -> GuardrailFunctionOutput:
    (result,) = (await client.moderations.create(input=given)).results
    return GuardrailFunctionOutput(result, result.flagged)


async def main() -> None:
    set_tracing_disabled(True)
    for text, reply, ends in (
        ("hello", "bye", None),
        ("violates:S10", "bye", InputGuardrailTripwireTriggered),
        ("hello", "violates:S4", OutputGuardrailTripwireTriggered),
    ):
        agent = Agent(name="a", model=Fixed(reply), input_guardrails=[prompts], output_guardrails=[replies])
        end: type[Exception] | None = None
        try:
            assert (await Runner.run(agent, text)).final_output == reply
        except (InputGuardrailTripwireTriggered, OutputGuardrailTripwireTriggered) as tripped:
            end = type(tripped)
        assert end is ends
    print("openai-agents", version("openai-agents"), "input and output guardrails: ok")


asyncio.run(main())
