"""The `openai` client, unmodified: `python with_openai.py URL` of a `guard serve --model fake --rest-port`."""

from __future__ import annotations

import sys
from importlib.metadata import version

import openai

client = openai.OpenAI(base_url=f"{sys.argv[1]}/v1", api_key="none", max_retries=0)

one, two = client.moderations.create(input=["hello", "violates:S4"], model="omni-moderation-latest").results
assert (one.flagged, two.flagged, two.categories.sexual_minors) == (False, True, True)
(parts,) = client.moderations.create(input=[{"type": "text", "text": "violates:S4"}]).results
assert parts.category_scores.sexual_minors > 0.9
assert parts.category_applied_input_types.harassment == []

decision = client.decisions.create(
    model="guard",
    input=[{"role": "user", "content": "violates:Q1"}],
    questions=[
        {"type": "predicate", "name": "rude", "instructions": "Is it rude?"},
        {"type": "choice", "instructions": "Who asks?", "choices": [{"value": True}, {"value": "other"}]},
        {"type": "score", "instructions": "How bad?", "levels": [{"label": "fine"}, {"label": "bad"}]},
        {"type": "predicate", "instructions": "policy:mlcommons"},
    ],
)
rude, who, bad, native = decision.answers
assert (rude.type, who.type, bad.type, native.type) == ("predicate", "choice", "score", "predicate")
assert rude.probability > 0.9 > 0.1 > native.probability
print("openai", version("openai"), "moderations and decisions: ok")
