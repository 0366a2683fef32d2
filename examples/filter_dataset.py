"""Keeps the safe rows of a data set of the library `datasets`, and says what became of the others.

    pip install -c constraints.txt '.[data]'
    python examples/filter_dataset.py examples/chats.jsonl kept.jsonl

For files that are larger than memory, for runs that survive being killed, and for reports: `guard filter`.
"""

from __future__ import annotations

import os
import sys
from collections import Counter

from datasets import load_dataset

from guard.filter import map_fn

source, target = sys.argv[1:]
rows = load_dataset("json", data_files=source, split="train")
judged = rows.map(map_fn(model=os.environ.get("GUARD_MODEL"), policy="mlcommons"), batched=True, batch_size=256)

outcomes = Counter(outcome or "ERROR" for outcome in judged["guard_outcome"])
print(", ".join(f"{outcome}: {count}" for outcome, count in sorted(outcomes.items())))

# SAFE only: INCOMPLETE (not all of it could be judged) and errors are not kept.
kept = judged.filter(lambda outcome: outcome == "SAFE", input_columns="guard_outcome")
kept.select_columns(rows.column_names).to_json(target)
