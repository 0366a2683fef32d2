"""The causal guard's own prompt as token ids: policy and task, quoted messages, verdict. Built only here.

Every part is encoded by itself and every turn is marked by control tokens, so that the prompt can be cut after the
policy (whose keys and values an engine keeps) and no text, not even a policy's, can forge a turn. A released guard gets
the prompt of its own chat template instead (guard.prompts.released).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Literal

from guard import schema
from guard.assets import asset
from guard.conversation import Conversation, Role
from guard.errors import PolicyError
from guard.policy import Detail, Policy, ordered
from guard.prompts.control import ChatTokens
from guard.prompts.grammar import SAFE_WORD, UNSAFE_WORD, VerdictGrammar
from guard.prompts.layout import CONTEXT_SHARE, SMALLEST_ROOM, Turn, layout, within
from guard.prompts.window import Ids, TokenizedConversation, Window

LAYOUT = 2  # increment it when the ids change for a reason outside the template


@dataclass(frozen=True, slots=True)
class Template:
    """The words of a prompt (taxonomy/templates/*.yaml)."""

    __pydantic_config__ = schema.STRICT

    id: str
    headings: Mapping[Literal["policy", "answer"], str]
    message: str
    roles: Mapping[Role, str]
    opening: str
    names: str
    short: str
    includes: str
    excludes: str
    closing: str
    cue: str

    @property
    def digest(self) -> str:
        """sha256 (hex) of the words and of the layout."""
        parts = {"layout": LAYOUT, "context_share": CONTEXT_SHARE, "template": dataclasses.asdict(self)}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@cache
def template() -> Template:
    """The shipped template."""
    return schema.load(asset("taxonomy/templates/guard-v2.yaml"), Template)


def policy_text(policy: Policy, detail: Detail = "full") -> str:
    """The text of a policy: names alone, names with definitions, or everything."""
    words, lines = template(), []
    for category in policy.categories:
        form = words.names if detail == "names" else words.short
        lines.append(form.format(code=category.code, name=category.name, definition=category.definition))
        if detail == "full":
            lines += [words.includes.format(line=line.rstrip(".")) for line in category.includes]
            lines += [words.excludes.format(line=line.rstrip(".")) for line in category.excludes]
    return "\n".join([words.opening, *lines, "", words.closing])


@dataclass(frozen=True, eq=False)
class CausalPrompt:
    """Our own prompt in the control tokens of a chat tokenizer. See guard.prompts.prompt.Prompt."""

    chat: ChatTokens
    max_tokens: int
    overlap: int
    detail: Detail = "full"
    fields: tuple[Ids, ...] = ()

    @cached_property
    def digest(self) -> str:
        return template().digest

    def with_detail(self, detail: Detail) -> CausalPrompt:
        return dataclasses.replace(self, detail=detail)

    def with_room(self, max_tokens: int) -> CausalPrompt:
        return dataclasses.replace(self, max_tokens=max_tokens)

    def save(self, folder: Path) -> None:
        self.chat.tokenizer.save(str(folder / "tokenizer.json"))

    # -- the prompt -----------------------------------------------------------------------------------------------

    def prefix_ids(self, policy: Policy) -> Ids:
        return self._prefix(policy)

    @cached_property
    def _prefix(self) -> Callable[[Policy], Ids]:
        @lru_cache(maxsize=64)
        def render(policy: Policy) -> Ids:
            opening = self.chat.opening(template().headings["policy"])
            return (*self.chat.bos, *opening, *self.chat.text(policy_text(policy, self.detail)), *self.chat.end)

        return render

    def tokenize(self, conversation: Conversation, policy: Policy) -> TokenizedConversation:
        role = conversation.judged.role
        judged, offsets = self.chat.encode(conversation.judged.content)
        context = [(message.role, self.chat.text(message.content)) for message in conversation.context]
        turns = [Turn(len(self._opening[role]), len(ids), len(self._closing)) for role, ids in context]
        windows = []
        for (start, end), (first, last) in layout(
            len(judged),
            sum(turn.total for turn in turns),
            self._room(policy, role),
            self.overlap,
            # A range that starts or ends inside a turn is given that turn's marks again (see `within`).
            marks=2 * max((turn.before + turn.after for turn in turns), default=0),
            bridge=self.overlap,
        ):
            ids = [*self.chat.after]
            for index, begin, stop in within(turns, first, last):
                ids += [*self._opening[context[index][0]], *context[index][1][begin:stop], *self._closing]
            ids += [*self._opening[role], *judged[start:end], *self._closing, *self._answer]
            span = (offsets[start][0], offsets[end - 1][1]) if end > start else (0, 0)
            windows.append(Window(policy, tuple(ids), (), *span))
        total = len(judged) + sum(len(ids) for _, ids in context)
        return TokenizedConversation(tuple(windows), total, total)

    @cached_property
    def _opening(self) -> dict[Role, Ids]:
        headings = {role: template().message.format(role=name) for role, name in template().roles.items()}
        return {role: self.chat.opening(heading) for role, heading in headings.items()}

    @cached_property
    def _closing(self) -> Ids:
        return (*self.chat.end, *self.chat.after)

    @cached_property
    def _answer(self) -> Ids:
        """All that stands between the last message and the verdict."""
        words = template()
        return (*self.chat.opening(words.headings["answer"]), *self.chat.text(words.cue))

    def _room(self, policy: Policy, role: Role) -> int:
        """Tokens left for messages: a window less the policy, the judged turn's marks, the verdict and its opening."""
        fixed = len(self.prefix_ids(policy)) + self.grammar(policy).longest
        marks = len(self._opening[role]) + len(self._closing) + len(self.chat.after)
        room = self.max_tokens - fixed - marks - len(self._answer)
        if room < SMALLEST_ROOM:
            raise PolicyError(
                f"policy {policy.id!r} takes {fixed} of a window's {self.max_tokens} tokens and leaves {max(room, 0)} "
                f"for a conversation, which needs {SMALLEST_ROOM}; shorten the policy or exclude categories"
            )
        return room

    # -- the verdict ----------------------------------------------------------------------------------------------

    @cached_property
    def safe(self) -> Ids:
        return self.chat.text(SAFE_WORD)

    @cached_property
    def unsafe(self) -> Ids:
        return self.chat.text(UNSAFE_WORD)

    def grammar(self, policy: Policy) -> VerdictGrammar:
        return self._grammar(policy)

    @cached_property
    def _grammar(self) -> Callable[[Policy], VerdictGrammar]:
        @lru_cache(maxsize=64)
        def spell(policy: Policy) -> VerdictGrammar:
            codes = {code: self.chat.text(code) for code in ordered(policy, policy.codes)}
            start = (*self.unsafe, *self.chat.text("\n"))
            return VerdictGrammar(self.safe, self.unsafe, start, codes, self.chat.text(","), self.chat.end)

        return spell
