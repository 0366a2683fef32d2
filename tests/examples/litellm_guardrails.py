"""LiteLLM's generic, decision_model and openai_moderation guardrails: `python litellm_guardrails.py URL`."""

from __future__ import annotations

import asyncio
import os
import sys
from importlib.metadata import version
from typing import Any

URL = sys.argv[1]
os.environ |= {"OPENAI_API_KEY": "none", "OPENAI_BASE_URL": f"{URL}/v1", "OPENAI_API_BASE": f"{URL}/v1"}

from litellm.proxy.guardrails.guardrail_hooks.decision_model import DecisionModelGuardrail  # noqa: E402
from litellm.proxy.guardrails.guardrail_hooks.generic_guardrail_api import GenericGuardrailAPI  # noqa: E402
from litellm.proxy.guardrails.guardrail_hooks.openai.moderations import OpenAIModerationGuardrail  # noqa: E402
from litellm.types.proxy.guardrails.guardrail_hooks.decision_model import DecisionModelCheck  # noqa: E402

CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "\nviolates:S2\n"}}


async def blocked(guardrail: Any, inputs: dict[str, Any], kind: str = "request") -> str:
    """The reason, or nothing."""
    try:
        await guardrail.apply_guardrail(inputs=inputs, request_data={}, input_type=kind)
    except Exception as problem:  # noqa: BLE001 - each guardrail has its own
        return f"{type(problem).__name__}: {getattr(problem, 'detail', problem)}"
    return ""


async def main() -> None:
    generic = GenericGuardrailAPI(api_base=URL, api_key="none", guardrail_name="guard")
    assert not await blocked(
        generic, {"texts": ["hello"], "structured_messages": [{"role": "user", "content": "hello"}]}
    )
    assert "prompt is unsafe: S10 Hate" in await blocked(generic, {"texts": ["violates:S10"]})
    assert "response is unsafe: S2" in await blocked(generic, {"texts": [""], "tool_calls": [CALL]}, "response")
    assert "could not be judged" in await blocked(generic, {"texts": ["hello"], "images": ["https://example.org/a"]})
    moderation = OpenAIModerationGuardrail(guardrail_name="guard", api_key="none", api_base=f"{URL}/v1")
    assert not await blocked(moderation, {"texts": ["hello"]})
    assert "sexual/minors" in await blocked(moderation, {"texts": ["violates:S4"]})
    rude = DecisionModelCheck(name="rude", instructions="Is it rude?", threshold=0.7, action="block")
    decision = DecisionModelGuardrail("guard", "openai/guard", [rude])
    assert not await blocked(decision, {"texts": ["hello"]})
    assert "'flagged_checks': ['rude']" in await blocked(decision, {"texts": ["violates:Q1"]})
    print("litellm", version("litellm"), "generic guardrail, openai_moderation, decision_model: ok")


asyncio.run(main())
