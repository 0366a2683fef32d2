"""The tables of wire formats, of moderation and of rewards: a row each."""

from __future__ import annotations

from typing import Any

from guard.serve.http.api import (
    check,
    checks,
    classify,
    contents,
    decisions,
    litellm,
    moderations,
    nemo_gym,
    openrlhf,
    systemone,
)
from guard.serve.http.translator import RewardTranslator, Translator

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

REWARD_TRANSLATORS: tuple[RewardTranslator[Any], ...] = (openrlhf.TRANSLATOR, nemo_gym.TRANSLATOR)
