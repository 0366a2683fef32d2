"""The tables of wire formats, of moderation, of rewards and of what the service says of itself: a row each."""

from __future__ import annotations

from typing import Any

from guard.serve.http.api import (
    check,
    checks,
    classify,
    contents,
    decisions,
    info,
    litellm,
    moderations,
    nemo_gym,
    openrlhf,
    systemone,
)
from guard.serve.http.translator import InfoTranslator, RewardTranslator, Translator

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

INFO_TRANSLATORS: tuple[InfoTranslator[Any], ...] = (info.TRANSLATOR,)
