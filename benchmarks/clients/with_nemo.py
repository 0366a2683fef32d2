"""NeMo Guardrails' hf_classifier, unmodified, over vLLM's and FMS's formats: `python with_nemo.py URL`."""

from __future__ import annotations

import asyncio
import sys
from importlib.metadata import version

from nemoguardrails import LLMRails, RailsConfig

CONFIG = """
models: []
rails:
  config:
    hf_classifier:
      guard: {{engine: {engine}, model: guard, base_url: {url}, blocked_labels: [unsafe]}}
  input: {{flows: ["hf classifier check input $classifier=guard"]}}
  output: {{flows: ["hf classifier check output $classifier=guard"]}}
"""


async def main() -> None:
    for engine in ("vllm", "fms"):
        rails = LLMRails(RailsConfig.from_content(yaml_content=CONFIG.format(engine=engine, url=sys.argv[1])))
        for turns, status in (
            (["hello"], "passed"),
            (["violates:S1"], "blocked"),
            (["hello", "bye"], "passed"),
            (["hello", "violates:S2"], "blocked"),
        ):
            roles = ("user", "assistant")
            messages = [{"role": role, "content": text} for role, text in zip(roles, turns, strict=False)]
            assert (await rails.check_async(messages)).status.value == status, (engine, turns)
    print("nemoguardrails", version("nemoguardrails"), "hf_classifier (vllm, fms): ok")


asyncio.run(main())
