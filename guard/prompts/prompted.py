"""A chat model asked to judge, in its own chat template: policy, examples if there are any, the text, a question.

This is how a model that was not trained as a guard is used (a baseline), and one that takes its policy as an
instruction, like gpt-oss-safeguard. The verdict is read as a guard's: by the logits of `safe` and `unsafe` where the
answer begins. The conversation is quoted inside one turn, so all roles differ and no number of turns changes the
structure.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from tokenizers import Tokenizer

from guard import policy as policies
from guard import schema
from guard.assets import asset
from guard.conversation import Role
from guard.errors import BundleError, ConfigError, DocumentError, InvalidInput
from guard.policy import Detail, Policy
from guard.prompts import grammar
from guard.prompts.causal import policy_text
from guard.prompts.chat_template import JINJA, ChatTemplate, load_template
from guard.prompts.control import copied
from guard.prompts.guard_template import GuardTemplate, RoleTexts
from guard.prompts.guards import Guard

FILE = "prompted.json"
# What a model that thinks first writes before its answer, by what its template holds or its rendering ends with.
# Without the thought the verdict is weaker than the model's best, and costs one prefill.
_CHANNEL, _FINAL = "<|channel|>", "<|channel|>final<|message|>"  # gpt-oss (harmony)
_THOUGHT, _THOUGHT_ENDS = "<think>\n", "\n</think>\n\n"


@dataclass(frozen=True, slots=True)
class Words:
    """The words around what is judged (taxonomy/templates/prompted-v1.yaml)."""

    __pydantic_config__ = schema.STRICT

    id: str
    roles: Mapping[Role, str]
    begin: str
    end: str
    questions: tuple[str, ...]


@cache
def words() -> Words:
    return schema.load(asset("taxonomy/templates/prompted-v1.yaml"), Words)


@dataclass(frozen=True, slots=True, repr=False)
class Shot:
    """A judged example: its messages as (role, text), and the codes that it violates; None: it is safe."""

    messages: tuple[tuple[Role, str], ...]
    codes: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Judging:
    """How a chat model is asked: by which wording of the question, and after which examples. `prompted.json`."""

    __pydantic_config__ = schema.STRICT

    wording: int = 0
    shots: tuple[Shot, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.wording < len(words().questions):
            raise ConfigError(f"wording must be from 0 to {len(words().questions) - 1} (got {self.wording})")


@dataclass(frozen=True, eq=False)
class PromptedTemplate(GuardTemplate):
    """The chat template of a model that is asked to judge."""

    judging: Judging = dataclasses.field(default_factory=Judging)

    @classmethod
    def of(cls, tokenizer: Tokenizer, folder: Path, judging: Judging) -> PromptedTemplate:
        """BundleError if the folder has no chat template, or one that loses what a message says."""
        jinja = load_template(folder)
        if jinja is None:
            raise BundleError(
                f"{folder}: has no chat template ({JINJA}), so it cannot be asked; take a chat model, or train the "
                "base first, which needs no template"
            )
        end = jinja.tokens.get("eos_token", "")
        guard = Guard("prompted", (), "mlcommons", _lead(jinja, folder), end, turns=tuple(words().roles.values()))
        return cls(guard, jinja, copied(tokenizer, specials=True), False, judging)

    @classmethod
    def saved(cls, tokenizer: Tokenizer, folder: Path) -> PromptedTemplate | None:
        """That of a folder in which `write` left how it is asked; None if there is no such file."""
        path = folder / FILE
        if not path.is_file():
            return None
        try:
            judging = schema.convert(json.loads(path.read_text(encoding="utf-8")), Judging, str(path))
        except (OSError, ValueError, DocumentError) as problem:
            raise BundleError(f"{path}: cannot be read ({type(problem).__name__}); export the bundle again") from None
        return cls.of(tokenizer, folder, judging)

    @property
    def digest(self) -> str:
        parts = [self.jinja.digest, dataclasses.asdict(words()), dataclasses.asdict(self.judging)]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    @property
    def begin(self) -> str | None:
        """Of some models it opens every turn, so it begins no text."""
        begin = self.jinja.tokens.get("bos_token")
        text = _rendered(self.jinja, [("user", "x"), ("assistant", "y"), ("user", "z")])
        return None if begin is None or text.count(begin) > 1 else begin

    def write(self, folder: Path) -> None:
        self.jinja.write(folder)
        plain = json.dumps(dataclasses.asdict(self.judging), ensure_ascii=False, indent=1)
        (folder / FILE).write_text(plain + "\n", encoding="utf-8")

    def text(self, messages: RoleTexts, policy: Policy, detail: Detail, asks: str = "") -> str:
        """The rendered chat, up to where the answer begins."""
        chat: list[tuple[str, str]] = [("system", self.neutral(policy_text(policy, detail)))]
        for shot in self.judging.shots:
            codes = () if shot.codes is None else [code for code in shot.codes if code in policy.codes]
            chat.append(("user", self._asked(shot.messages)))
            chat.append(("assistant", grammar.write(codes, policy, safe=shot.codes is None)))
        chat.append(("user", self._asked(messages)))
        if not self._takes_system:
            (_, told), (_, first) = chat[:2]
            chat[:2] = [("user", f"{told}\n\n{first}")]
        return _rendered(self.jinja, chat)

    def _asked(self, messages: RoleTexts) -> str:
        """What is judged, quoted, and the question."""
        spoken = words()
        quoted = "".join(f"\n\n{spoken.roles[role]}: {self.neutral(text)}" for role, text in messages)
        question = spoken.questions[self.judging.wording].format(role=spoken.roles[messages[-1][0]].lower())
        return f"{spoken.begin}{quoted}\n\n{spoken.end}\n\n{question}"

    @cached_property
    def _takes_system(self) -> bool:
        try:
            return "kumquat" in _rendered(self.jinja, [("system", "kumquat"), ("user", "x")])
        except InvalidInput:
            return False

    @property
    def own(self) -> Mapping[str, str]:
        return {}

    @property
    def takes_categories(self) -> bool:
        return True

    @property
    def policy(self) -> Policy:
        return policies.load(self.guard.policy)


def _rendered(jinja: ChatTemplate, chat: list[tuple[str, str]]) -> str:
    # Qwen3 and others think unless they are told not to; templates ignore arguments that they do not know.
    return jinja.render([{"role": role, "content": text} for role, text in chat], enable_thinking=False)


def _lead(jinja: ChatTemplate, folder: Path) -> str:
    """What is written before the answer. BundleError where the template loses a message."""
    text = _rendered(jinja, [("user", "kumquat")])
    if text.count("kumquat") != 1:
        raise BundleError(f"{folder}: its chat template does not write a user's message once; take another chat model")
    if _CHANNEL in jinja.source:
        return _FINAL
    return _THOUGHT_ENDS if text.endswith(_THOUGHT) else ""
