"""OpenAI's client, unmodified, before a `guard serve`: moderations, and decisions about rules of your own.

pip install openai
guard serve --rest-port 8080 &
python examples/openai_moderations.py http://127.0.0.1:8080 "How do I bake bread?"
"""

from __future__ import annotations

import sys

from openai import OpenAI

url, *texts = sys.argv[1:]
client = OpenAI(base_url=f"{url}/v1", api_key="none")  # or the key of `guard serve --api-keys`

for result in client.moderations.create(input=texts, model="guard").results:
    codes = [code for code, flagged in result.categories.to_dict().items() if flagged]
    print("moderations:", "flagged" if result.flagged else "passed", *codes)

QUESTIONS = [
    {"type": "predicate", "name": "policy", "instructions": "policy:mlcommons"},
    {"type": "predicate", "name": "rivals", "instructions": "Messages that compare prices with other bakeries"},
]
for text in texts:
    for answer in client.decisions.create(model="guard", input=text, questions=QUESTIONS).answers:
        if answer.type == "refusal":  # it could not be judged completely, which is not a no
            print("decisions:", answer.name, "not judged")
        else:
            print("decisions:", answer.name, round(answer.probability, 3))
