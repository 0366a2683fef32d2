"""The table of wire formats: a row each."""

from __future__ import annotations

from typing import Any

from guard.serve.http.api import check, checks, classify, contents, decisions, litellm, moderations, systemone
from guard.serve.http.translator import Translator

TRANSLATORS: tuple[Translator[Any], ...] = (
    check.TRANSLATOR,
    moderations.TRANSLATOR,
    decisions.TRANSLATOR,
    systemone.TRANSLATOR,
    litellm.TRANSLATOR,
    classify.TRANSLATOR,
    contents.TRANSLATOR,
    checks.TRANSLATOR,
)
