"""The causal guard's prompt as token ids: policy, quoted messages, question, verdict. The only place that makes it.

Every part is encoded by itself and every turn is marked by control tokens, so that the prompt can be cut after the
policy (whose keys and values an engine keeps) and no text, not even a policy's, can forge a turn. A released guard gets
the prompt of its own chat template instead (guard.prompts.released).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Literal

from guard import schema
from guard.assets import asset
from guard.conversation import Conversation, Role
from guard.errors import BundleError, InvalidInput, PolicyError
from guard.policy import Detail, Policy, ordered
from guard.prompts.control import ChatTokens
from guard.prompts.layout import CONTEXT_SHARE, Turn, layout, within
from guard.prompts.released import SMALLEST_ROOM, Ids, Released, Spelling
from guard.prompts.tokenizer import read_tokenizer
from guard.verdict import SAFE_WORD, UNSAFE_WORD

LAYOUT = 1  # raise it when the ids change for a reason that is not in the template


@dataclass(frozen=True, slots=True)
class Template:
    """The words of a prompt (taxonomy/templates/*.yaml)."""

    __pydantic_config__ = schema.STRICT

    id: str
    headings: Mapping[Literal["policy", "question", "answer"], str]
    message: str
    roles: Mapping[Role, str]
    opening: str
    names: str
    short: str
    includes: str
    excludes: str
    closing: str
    question: str
    cue: str


def _digest(template: Template) -> str:
    parts = {"layout": LAYOUT, "context_share": CONTEXT_SHARE, "template": dataclasses.asdict(template)}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


TEMPLATE = schema.load(asset("taxonomy/templates/guard-v1.yaml"), Template)
TEMPLATE_DIGEST = _digest(TEMPLATE)


def policy_text(policy: Policy, detail: Detail = "full") -> str:
    """The words of a policy: names alone, names with definitions, or all that it says."""
    lines = []
    for category in policy.categories:
        form = TEMPLATE.names if detail == "names" else TEMPLATE.short
        lines.append(form.format(code=category.code, name=category.name, definition=category.definition))
        if detail == "full":
            lines += [TEMPLATE.includes.format(line=line.rstrip(".")) for line in category.includes]
            lines += [TEMPLATE.excludes.format(line=line.rstrip(".")) for line in category.excludes]
    return "\n".join([TEMPLATE.opening, *lines, "", TEMPLATE.closing])


@dataclass(frozen=True, slots=True, repr=False)
class Suffix:
    """What follows the policy in one prompt. start, end: characters of the judged message that it holds."""

    ids: Ids
    start: int
    end: int


@dataclass(frozen=True, eq=False)
class Prompt:
    """Renders prompts of at most `max_tokens` ids, the longest verdict included. Windows share `overlap` tokens."""

    chat: ChatTokens
    max_tokens: int
    overlap: int
    detail: Detail = "full"
    released: Released | None = None  # None: the prompt is ours

    @classmethod
    def load(cls, path: Path, max_tokens: int, overlap: int, detail: Detail = "full") -> Prompt:
        """From a `tokenizer.json`; with the chat template of a released guard beside it, that guard's own prompt.

        BundleError if its control tokens are unknown, its label words start alike, or the template is unusable.
        """
        tokenizer = read_tokenizer(path)
        released = Released.find(tokenizer, path.parent)
        chat = ChatTokens.of(tokenizer, str(path)) if released is None else released.chat
        prompt = cls(chat, max_tokens, overlap, detail, released)
        if prompt.safe[0] == prompt.unsafe[0]:
            words = (SAFE_WORD, UNSAFE_WORD) if released is None else (released.guard.safe, released.guard.unsafe)
            raise BundleError(
                f"{path}: {words[0]!r} and {words[1]!r} start with the same token ({prompt.safe[0]}), so that one "
                "position cannot tell them apart; use another tokenizer"
            )
        return prompt

    def save(self, folder: Path) -> None:
        """Writes what `load(folder / "tokenizer.json", …)` needs to make the same prompts."""
        self.chat.tokenizer.save(str(folder / "tokenizer.json"))
        if self.released is not None:
            self.released.template.jinja.write(folder)

    @property
    def digest(self) -> str:
        """sha256 (hex) of the words and the layout of the prompt, without the policy."""
        return TEMPLATE_DIGEST if self.released is None else self.released.digest

    # -- the prompt -----------------------------------------------------------------------------------------------

    def prefix_ids(self, policy: Policy) -> Ids:
        """Everything up to the end of the policy; the same for every conversation under it."""
        return self._prefix(policy)

    @cached_property
    def _prefix(self) -> Callable[[Policy], Ids]:
        @lru_cache(maxsize=64)
        def render(policy: Policy) -> Ids:
            if self.released is not None:
                return self.released.prefix(policy, self.detail)
            opening = self.chat.opening(TEMPLATE.headings["policy"])
            return (*self.chat.bos, *opening, *self.chat.text(policy_text(policy, self.detail)), *self.chat.end)

        return render

    def suffixes(self, conversation: Conversation, policy: Policy) -> tuple[list[Suffix], int]:
        """All windows of a conversation, and how many tokens its messages have. Together they hold every token.

        The judged message slides beside the end of its context, then, where the context did not fit, the rest of the
        context slides beside the start of the judged message. Raises PolicyError if the policy leaves too little room.
        """
        if self.released is not None:
            return self._released(self.released, conversation, policy)
        role = conversation.judged.role
        judged, offsets = self.chat.encode(conversation.judged.content)
        context = [(message.role, self.chat.text(message.content)) for message in conversation.context]
        turns = [Turn(len(self._opening[role]), len(ids), len(self._closing)) for role, ids in context]
        found = []
        for (start, end), (first, last) in layout(len(judged), turns, self._room(policy, role), self.overlap):
            ids = [*self.chat.after]
            for index, begin, stop in within(turns, first, last):
                ids += [*self._opening[context[index][0]], *context[index][1][begin:stop], *self._closing]
            ids += [*self._opening[role], *judged[start:end], *self._closing, *self._question[role]]
            place = (offsets[start][0], offsets[end - 1][1]) if end > start else (0, 0)
            found.append(Suffix(tuple(ids), *place))
        return found, len(judged) + sum(len(ids) for _, ids in context)

    def _released(self, released: Released, conversation: Conversation, policy: Policy) -> tuple[list[Suffix], int]:
        prefix = self.prefix_ids(policy)
        limit = self.max_tokens - len(self.verdict_ids(policy, policy.codes))
        found, total = released.windows(conversation, policy, self.detail, limit, self.overlap)
        if any(ids[: len(prefix)] != prefix for ids, _, _ in found):
            raise InvalidInput(f"the {released.guard.name} template begins in another way for these roles")
        return [Suffix(ids[len(prefix) :], start, end) for ids, start, end in found], total

    @cached_property
    def _opening(self) -> dict[Role, Ids]:
        headings = {role: TEMPLATE.message.format(role=name) for role, name in TEMPLATE.roles.items()}
        return {role: self.chat.opening(heading) for role, heading in headings.items()}

    @cached_property
    def _closing(self) -> Ids:
        return (*self.chat.end, *self.chat.after)

    @cached_property
    def _question(self) -> dict[Role, Ids]:
        """The question about a message of each role, and all that stands between it and the verdict."""
        opening = self.chat.opening(TEMPLATE.headings["question"])
        answer = (*self.chat.opening(TEMPLATE.headings["answer"]), *self.chat.text(TEMPLATE.cue))
        return {
            role: (*opening, *self.chat.text(TEMPLATE.question.format(role=name)), *self._closing, *answer)
            for role, name in TEMPLATE.roles.items()
        }

    @cached_property
    def frame(self) -> frozenset[int]:
        """The tokens that stand around what is judged, whoever said it: the marks of its turn, and the question."""
        marks = (*self._opening.values(), self._closing, self.chat.after, *self._question.values())
        return frozenset(token for found in marks for token in found)

    def _room(self, policy: Policy, role: Role) -> int:
        """Tokens for what is said: a window less the policy, the question, the judged turn's marks and a verdict."""
        fixed = len(self.prefix_ids(policy)) + len(self.verdict_ids(policy, policy.codes))
        marks = len(self._opening[role]) + len(self._closing) + len(self.chat.after)
        room = self.max_tokens - fixed - marks - len(self._question[role])
        if room < SMALLEST_ROOM:
            raise PolicyError(
                f"policy {policy.id!r} takes {fixed} of a window's {self.max_tokens} tokens and leaves {max(room, 0)} "
                f"for a conversation, which needs {SMALLEST_ROOM}; shorten the policy or exclude categories"
            )
        return room

    # -- the verdict ----------------------------------------------------------------------------------------------

    @cached_property
    def safe(self) -> Ids:
        """The verdict `safe`; its first token against that of `unsafe` decides."""
        return self.chat.text(SAFE_WORD if self.released is None else self.released.guard.safe)

    @cached_property
    def unsafe(self) -> Ids:
        return self.chat.text(UNSAFE_WORD if self.released is None else self.released.guard.unsafe)

    @cached_property
    def newline(self) -> Ids:
        return self.chat.text("\n")

    @cached_property
    def comma(self) -> Ids:
        return self.chat.text(",")

    def spelling(self, policy: Policy) -> Spelling:
        """The tokens of a verdict that names categories."""
        return self._spelling(policy)

    @cached_property
    def _spelling(self) -> Callable[[Policy], Spelling]:
        @lru_cache(maxsize=64)
        def spell(policy: Policy) -> Spelling:
            if self.released is not None:
                return self.released.spelling(policy)
            codes = tuple(self.chat.text(code) for code in ordered(policy, policy.codes))
            return Spelling((*self.unsafe, *self.newline), codes, self.comma)

        return spell

    def verdict_ids(self, policy: Policy, codes: Collection[str], safe: bool = False) -> Ids:
        """The verdict that `guard.verdict.write` writes (or the released guard), with the token that ends it."""
        if safe:
            return (*self.safe, *self.chat.end)
        if not codes:
            return (*self.unsafe, *self.chat.end)
        spelling = self.spelling(policy)
        known = dict(zip(ordered(policy, policy.codes), spelling.codes, strict=True))
        first, *others = (known[code] for code in ordered(policy, codes))
        rest = [index for ids in others for index in (*spelling.separator, *ids)]
        return (*spelling.start, *first, *rest, *self.chat.end)
