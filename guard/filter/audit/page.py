"""The page on which a person labels a sample: it loads nothing and saves the labels as a CSV file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from markupsafe import Markup

from guard.filter.audit.labels import COLUMNS
from guard.filter.audit.sample import Sampled
from guard.report import html

_TEMPLATE = Path(__file__).parent / "page.html"


def page(sample: Sequence[Sampled], names: Mapping[str, str]) -> str:
    """names: of the policy's categories by code, that an unsafe row may be given."""
    rows = [{"id": each.id, "messages": each.messages} for each in sample]
    # `<` would end the script that holds it.
    data, codes = (Markup(json.dumps(value).replace("<", "\\u003c")) for value in (rows, dict(names)))
    return str(html.template(_TEMPLATE).page(data, codes, ",".join(COLUMNS[:3]))) + "\n"
