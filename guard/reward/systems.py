"""The reward systems, a row each: what they learn from, how they are trained, and how their scores are read.

Settings are those of TRL's configuration that differ from its defaults; learning rates, sizes and steps are in
training/configs. Where a paper leaves a number open, the one here is ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from guard.errors import ConfigError, nearest
from guard.reward import items, judged_items
from guard.reward.supervision import Builder

Rule = Literal["token", "cot", "pair", "scalar", "implicit", ""]
Trainer = Literal[
    "sft", "dpo", "kto", "bradley-terry", "scaled-bradley-terry", "attributes", "ridge", "gate", "critic", "encoder"
]
Sampling = Literal["", "judgements", "reviews"]
Recipe = Literal["reward", "reward_encoder", "rl", ""]


@dataclass(frozen=True, slots=True)
class Stage:
    """One training of a system.

    needs: columns of the rows that it learns from, `a|b` for either, `a+b|c` for both or the third. optional: left out
    where no row has them. samples: what the model of the stage before writes first about each row. derives: pairs are
    made of rated answers.
    """

    name: str
    trainer: Trainer
    build: Builder
    needs: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    samples: Sampling = ""
    optional: bool = False
    derives: bool = False


@dataclass(frozen=True, slots=True)
class System:
    """question: of taxonomy/templates/reward-v1.yaml, empty where a dialogue is scored as it stands. guard: whether the
    prompt is a guard's, under a policy. writes: whether people can read why, in words or in named attributes. samples:
    reasons that a score is the mean of."""

    name: str
    source: str
    recipe: Recipe
    rule: Rule
    stages: tuple[Stage, ...] = ()
    question: str = ""
    guard: bool = False
    writes: bool = False
    samples: int = 1

    @property
    def rates_one(self) -> bool:
        """Whether its head learns one attribute first, and goes on with pairs."""
        return "attributes" in [stage.trainer for stage in self.stages[:-1]]


PAIR = ("prompt", "chosen", "rejected")
ANSWER = ("prompt", "response|chosen")
BOTH = {"loss_type": ["sigmoid", "sft"]}
_SINGLE = (*ANSWER, "label|verdict|chosen")
_REASONED = "response+critique|chosen_critique+rejected_critique"
_VERDICT = ("prompt", "response", "verdict")

_ENCODED = Stage("rank", "encoder", items.ranked, PAIR)

SYSTEMS: Mapping[str, System] = {
    system.name: system
    for system in (
        # Scalar heads.
        System(
            "bt",
            "Bradley-Terry, as in Ouyang et al. 2022 (arXiv:2203.02155)",
            "reward",
            "scalar",
            (Stage("rank", "bradley-terry", items.ranked, PAIR, {"center_rewards_coefficient": 0.01}),),
        ),
        System(
            "helpsteer2",
            "HelpSteer2-Preference, Wang et al. 2024 (arXiv:2410.01257)",
            "reward",
            "scalar",
            (
                Stage("rate", "attributes", items.rated, ("prompt", "response", "attributes")),
                Stage("rank", "scaled-bradley-terry", items.ranked, (*PAIR, "margin"), derives=True),
            ),
        ),
        System(
            "steerlm",
            "SteerLM's attribute model, Dong et al. 2023 (arXiv:2311.09528)",
            "reward",
            "scalar",
            (Stage("rate", "attributes", items.rated, ("prompt", "response", "attributes")),),
            writes=True,
        ),
        System(
            "armorm",
            "ArmoRM, Wang et al. 2024 (arXiv:2406.12845)",
            "reward",
            "scalar",
            (
                Stage("rate", "ridge", items.rated, ("prompt", "response", "attributes")),
                Stage("gate", "gate", items.ranked, PAIR, derives=True),
            ),
            writes=True,
        ),
        System(
            "cloud",
            "CLoud, Ankner et al. 2024 (arXiv:2408.11791)",
            "reward",
            "scalar",
            (
                Stage("review", "sft", items.reviewed, (*PAIR, "chosen_critique", "rejected_critique")),
                Stage(
                    "critic",
                    "critic",
                    items.reviewed_pairs,
                    (*PAIR, "chosen_critique", "rejected_critique"),
                    samples="reviews",
                ),
            ),
            question="review",
            writes=True,
        ),
        System("bt-encoder", "Bradley-Terry on a small encoder, for CPUs", "reward_encoder", "scalar", (_ENCODED,)),
        # One word decides.
        System("prompted", "a chat model that is asked", "", "token", question="rating"),
        System(
            "verifier",
            "Generative Verifiers, Zhang et al. 2024 (arXiv:2408.15240)",
            "reward",
            "token",
            (Stage("check", "sft", items.checked, _SINGLE),),
            question="verify",
        ),
        System(
            "verifier-cot",
            "Generative Verifiers with reasons, Zhang et al. 2024 (arXiv:2408.15240)",
            "reward",
            "cot",
            (Stage("check", "sft", items.checked, (*_SINGLE, _REASONED)),),
            question="verify-cot",
            writes=True,
            samples=8,
        ),
        System(
            "pair",
            "RLHFlow's pair preference model, Dong et al. 2024 (arXiv:2405.07863)",
            "reward",
            "pair",
            (Stage("prefer", "sft", items.preferred, PAIR),),
            question="prefer",
        ),
        System(
            "genrm",
            "GenRM, Mahan et al. 2024 (arXiv:2410.12832)",
            "reward",
            "pair",
            (Stage("prefer", "dpo", items.preferred, PAIR, {**BOTH, "loss_weights": [1.0, 1.0]}),),
            question="prefer",
        ),
        System(
            "cot-genrm",
            "CoT-GenRM by STaR-DPO, Mahan et al. 2024 (arXiv:2410.12832)",
            "reward",
            "cot",
            (
                Stage("imitate", "sft", items.preferred, (*PAIR, "critique"), optional=True),
                Stage("star", "sft", judged_items.rationales, PAIR, samples="judgements"),
                Stage("star-dpo", "dpo", judged_items.contrasted, PAIR, {"beta": 0.1}, samples="judgements"),
            ),
            question="prefer-cot",
            writes=True,
            samples=8,
        ),
        System(
            "con-j",
            "Con-J, Ye et al. 2024 (arXiv:2410.03742)",
            "reward",
            "cot",
            (
                Stage("imitate", "sft", items.preferred, (*PAIR, "critique"), optional=True),
                Stage(
                    "contrast",
                    "dpo",
                    judged_items.contrasted,
                    PAIR,
                    {**BOTH, "loss_weights": [1.0, 1e-3], "beta": 0.1},
                    samples="judgements",
                ),
            ),
            question="prefer-json",
            writes=True,
        ),
        System(
            "djpo",
            "Direct Judgement Preference Optimization, Wang et al. 2024 (arXiv:2409.14664)",
            "reward",
            "cot",
            (
                Stage("imitate", "sft", items.preferred, (*PAIR, "critique"), optional=True),
                Stage(
                    "judge",
                    "dpo",
                    judged_items.three_tasks,
                    PAIR,
                    {**BOTH, "loss_weights": [1.0, 1.0], "beta": 0.1},
                    samples="judgements",
                ),
            ),
            question="prefer-cot",
            writes=True,
        ),
        # The policy itself is the reward model.
        System(
            "kto",
            "KTO, Ethayarajh et al. 2024 (arXiv:2402.01306)",
            "reward",
            "implicit",
            (Stage("align", "kto", items.labelled, _SINGLE, {"beta": 0.1}),),
        ),
        System(
            "dpo",
            "DPO, Rafailov et al. 2023 (arXiv:2305.18290)",
            "reward",
            "implicit",
            (Stage("align", "dpo", items.ranked, PAIR, {"beta": 0.1}),),
        ),
        # A guard's verdicts.
        System(
            "guard-kto",
            "Llama Guard as an evaluator, trained by KTO",
            "reward",
            "token",
            (
                Stage("imitate", "sft", items.verdicts, _VERDICT),  # KTO and DPO alone take the words' probability away
                Stage("judge", "kto", items.single_verdicts, _VERDICT, {"beta": 0.1}),
            ),
            guard=True,
        ),
        System(
            "guard-dpo",
            "Llama Guard as an evaluator, trained by DPO",
            "reward",
            "token",
            (
                Stage("imitate", "sft", items.verdicts, _VERDICT),
                Stage("judge", "dpo", items.verdicts, _VERDICT, {**BOTH, "loss_weights": [1.0, 0.1], "beta": 0.1}),
            ),
            guard=True,
        ),
        # A policy that learns from any of them.
        System("rl", "GRPO and RLOO, Shao et al. 2024 and Ahmadian et al. 2024", "rl", ""),
    )
}


def system_of(name: str, recipe: str = "") -> System:
    """The system of that name. ConfigError if there is none, or if another recipe trains it."""
    if name not in SYSTEMS:
        near = nearest(name, SYSTEMS)
        hint = f"did you mean {near}? Allowed" if near else "allowed"
        raise ConfigError(f"system: {name[:40]!r} is unknown; {hint}: {', '.join(SYSTEMS)}")
    system = SYSTEMS[name]
    if recipe and system.recipe != recipe:
        allowed = ", ".join(each.name for each in SYSTEMS.values() if each.recipe == recipe)
        told = f"is trained by the recipe {system.recipe}" if system.recipe else "needs no training"
        raise ConfigError(f"system: {name} {told}; the recipe {recipe} trains: {allowed}")
    return system
