"""The causal guard's prompt as token ids: policy, quoted messages, question, verdict. The only place that makes it.

Every part is encoded by itself and every turn is marked by control tokens, so that the prompt can be cut after the
policy (whose keys and values an engine keeps) and no text, not even a policy's, can forge a turn.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Literal

from guard import schema
from guard.assets import asset
from guard.conversation import Conversation, Example, Role
from guard.errors import BundleError, PolicyError
from guard.policy import Detail, Policy, ordered
from guard.text.control import ChatTokens
from guard.text.tokenizer import read_tokenizer
from guard.text.windows import windows
from guard.verdict import SAFE_WORD, UNSAFE_WORD

Ids = tuple[int, ...]
IGNORED = -100  # the label of a token that is not learnt, as torch's cross-entropy has it
LAYOUT = 1  # raise it when the ids change for a reason that is not in the template
CONTEXT_SHARE = 3  # a long judged message leaves one part in this many of its windows to what was said before
SMALLEST_ROOM = 64  # tokens that a policy must leave for the conversation


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

    @classmethod
    def load(cls, path: Path, max_tokens: int, overlap: int, detail: Detail = "full") -> Prompt:
        """From a `tokenizer.json`; BundleError if its control tokens are unknown or its label words start alike."""
        prompt = cls(ChatTokens.of(read_tokenizer(path), str(path)), max_tokens, overlap, detail)
        if prompt.safe[0] == prompt.unsafe[0]:
            raise BundleError(
                f"{path}: {SAFE_WORD!r} and {UNSAFE_WORD!r} start with the same token ({prompt.safe[0]}), so that one "
                "position cannot tell them apart; use another tokenizer"
            )
        return prompt

    # -- the prompt -----------------------------------------------------------------------------------------------

    def prefix_ids(self, policy: Policy) -> Ids:
        """Everything up to the end of the policy; the same for every conversation under it."""
        return self._prefix(policy)

    @cached_property
    def _prefix(self) -> Callable[[Policy], Ids]:
        @lru_cache(maxsize=64)
        def render(policy: Policy) -> Ids:
            opening = self.chat.opening(TEMPLATE.headings["policy"])
            return (*self.chat.bos, *opening, *self.chat.text(policy_text(policy, self.detail)), *self.chat.end)

        return render

    def suffixes(self, conversation: Conversation, policy: Policy) -> tuple[list[Suffix], int]:
        """All windows of a conversation, and how many tokens its messages have. Together they hold every token.

        The judged message slides beside the end of its context, then, where the context did not fit, the rest of the
        context slides beside the start of the judged message. Raises PolicyError if the policy leaves too little room.
        """
        role = conversation.judged.role
        judged, offsets = self.chat.encode(conversation.judged.content)
        context = [(message.role, self.chat.text(message.content)) for message in conversation.context]
        found = []
        for (start, end), (first, last) in self._layout(policy, role, len(judged), context):
            ids = [*self.chat.after, *self._slice(context, first, last)]
            ids += [*self._opening[role], *judged[start:end], *self._closing, *self._question[role]]
            place = (offsets[start][0], offsets[end - 1][1]) if end > start else (0, 0)
            found.append(Suffix(tuple(ids), *place))
        return found, len(judged) + sum(len(ids) for _, ids in context)

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

    # -- windows --------------------------------------------------------------------------------------------------

    def _layout(
        self, policy: Policy, role: Role, judged: int, context: Sequence[tuple[Role, Ids]]
    ) -> list[tuple[tuple[int, int], tuple[int, int]]]:
        """Ranges of the judged message's tokens and of its context's (turns included), a pair a window."""
        total = sum(len(self._turn(turn)) for turn in context)
        room = self._room(policy, role)
        if judged + total <= room:
            return [((0, judged), (0, total))]
        if not context:
            return [(span, (0, 0)) for span in windows(judged, room, min(self.overlap, room // 2))]
        # A range that starts or ends inside a turn is given that turn's opening and closing again (see _slice).
        room -= 2 * max(len(self._turn((role, ()))) for role, _ in context)
        tail = min(total, max(room // CONTEXT_SHARE, room - judged))
        spans = windows(judged, room - tail, min(self.overlap, (room - tail) // 2))
        layout = [(span, (total - tail, total)) for span in spans]
        if total > tail:
            size = room - (spans[0][1] - spans[0][0])
            rest = total - tail + min(self.overlap, tail)  # what lies across the tail's edge is read whole, too
            layout += [(spans[0], chunk) for chunk in windows(rest, size, min(self.overlap, size // 4))]
        return layout

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

    def _turn(self, turn: tuple[Role, Ids]) -> Ids:
        role, ids = turn
        return (*self._opening[role], *ids, *self._closing)

    def _slice(self, context: Sequence[tuple[Role, Ids]], first: int, last: int) -> Ids:
        """The context's tokens from `first` to `last`, as whole turns."""
        made: list[int] = []
        position = 0
        for role, ids in context:
            begin = position + len(self._opening[role])
            stop = begin + len(ids) + len(self._closing)
            if position < last and stop > first:
                made += self._turn((role, ids[max(first - begin, 0) : max(last - begin, 0)]))
            position = stop
        return tuple(made)

    # -- the verdict ----------------------------------------------------------------------------------------------

    @cached_property
    def safe(self) -> Ids:
        return self.chat.text(SAFE_WORD)

    @cached_property
    def unsafe(self) -> Ids:
        return self.chat.text(UNSAFE_WORD)

    @cached_property
    def newline(self) -> Ids:
        return self.chat.text("\n")

    @cached_property
    def comma(self) -> Ids:
        return self.chat.text(",")

    def verdict_ids(self, policy: Policy, codes: Collection[str], safe: bool = False) -> Ids:
        """The verdict that `guard.verdict.write` writes, with the token that ends it."""
        if safe:
            return (*self.safe, *self.chat.end)
        ids = [*self.unsafe]
        for index, code in enumerate(ordered(policy, codes)):
            ids += [*(self.comma if index else self.newline), *self.chat.text(code)]
        return (*ids, *self.chat.end)

    def supervised(self, example: Example, policy: Policy) -> list[tuple[list[int], list[int]]]:
        """(input_ids, labels) of each window of an example; the loss sees the verdict alone.

        A category outside the policy cannot make anything unsafe. Where an unsafe row's categories are unknown, only
        the word `unsafe` is learnt, and where some are undecided, nothing at all unless another one is violated. A long
        safe row gives all its windows; of a long unsafe row nobody knows which windows are unsafe, so it gives the
        first, where the judged message begins.
        """
        known = example.categories or frozenset()
        codes = known & set(policy.codes)
        undecided = bool((example.undecided - known) & set(policy.codes))
        if undecided and known and not codes:
            return []
        safe = example.label == "safe" or (bool(known) and not codes)
        verdict = self.verdict_ids(policy, codes, safe) if safe or (known and not undecided) else self.unsafe
        found, _ = self.suffixes(example.conversation, policy)
        prefix = self.prefix_ids(policy)
        rows = []
        for suffix in found if safe else found[:1]:
            prompt = [*prefix, *suffix.ids]
            rows.append(([*prompt, *verdict], [IGNORED] * len(prompt) + [*verdict]))
        return rows
