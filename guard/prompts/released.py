"""Released guards: the ids of their prompts (their own chat template, our policies and windows) and of verdicts.

What they agree on stands here and in `guard.prompts.guard_template`, what they differ in is a row of `guards.py`.
A text without any control string gives exactly the ids of `tokenizer.apply_chat_template`; in any other, those
strings are broken.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from tokenizers import Tokenizer

from guard.conversation import Conversation, Role
from guard.errors import BundleError, InvalidInput, PolicyError
from guard.policy import Detail, Policy, ordered
from guard.prompts.control import ChatTokens, Family, copied
from guard.prompts.grammar import VerdictGrammar
from guard.prompts.guard_template import GuardTemplate, RoleTexts, alternating
from guard.prompts.guards import Guard
from guard.prompts.layout import SMALLEST_ROOM, Turn, layout, within
from guard.prompts.prompted import PromptedTemplate
from guard.prompts.window import RESPONSE, Ids, TokenizedConversation, Window

LAYOUT = 1  # increment it when the ids change for a reason outside the template and the rows


@dataclass(frozen=True, eq=False)
class ReleasedPrompt:
    """A released guard's prompt: its template with the tokenizer of a folder. See guard.prompts.prompt.Prompt."""

    template: GuardTemplate
    chat: ChatTokens  # text as text: control strings stay characters
    where: str
    max_tokens: int
    overlap: int
    detail: Detail = "full"

    @classmethod
    def find(
        cls, tokenizer: Tokenizer, folder: Path, max_tokens: int, overlap: int, detail: Detail = "full"
    ) -> ReleasedPrompt | None:
        """The released guard, or the prompted chat model, that a folder holds, or None. BundleError if it holds a guard
        that no row describes."""
        template = PromptedTemplate.saved(tokenizer, folder) or GuardTemplate.find(tokenizer, folder)
        return None if template is None else cls.of(template, tokenizer, folder, max_tokens, overlap, detail)

    @classmethod
    def of(
        cls, template: GuardTemplate, tokenizer: Tokenizer, folder: Path, max_tokens: int, overlap: int, detail: Detail
    ) -> ReleasedPrompt:
        """The prompt of a template. BundleError if the tokenizer does not have the token that ends a verdict."""
        name, tokens = template.guard.name, template.jinja.tokens
        end = tokens.get("eos_token", template.guard.end)
        if tokenizer.token_to_id(end) is None:
            raise BundleError(f"{folder}: {name} ends a verdict with {end}, which its tokenizer does not have")
        family = Family(name, template.begin, "", None, "", end, "")
        chat = ChatTokens(copied(tokenizer, specials=False), family)
        return cls(template, chat, str(folder), max_tokens, overlap, detail)

    @property
    def guard(self) -> Guard:
        return self.template.guard

    @cached_property
    def digest(self) -> str:
        parts = {"layout": LAYOUT, "guard": self.guard.name, "template": self.template.digest}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def with_detail(self, detail: Detail) -> ReleasedPrompt:
        return dataclasses.replace(self, detail=detail)

    def with_room(self, max_tokens: int) -> ReleasedPrompt:
        return dataclasses.replace(self, max_tokens=max_tokens)

    def save(self, folder: Path) -> None:
        self.chat.tokenizer.save(str(folder / "tokenizer.json"))
        self.template.write(folder)

    # -- ids ----------------------------------------------------------------------------------------------------------

    def ids(self, messages: RoleTexts, policy: Policy, asks: str = "") -> Ids:
        """The prompt up to the position where the verdict, or the first answer, is read."""
        ids = self._official(self.template.text(messages, policy, self.detail, asks))
        controls = self.chat.control_ids
        turns = alternating(messages)
        if [index for index in ids if index in controls] != list(self._controls(len(turns), policy, asks)):
            raise InvalidInput(
                f"a message of {len(turns)} would change the structure of the {self.guard.name} prompt; remove the "
                "model's control strings from it"
            )
        return ids

    def _official(self, text: str) -> Ids:
        encode, lead = self.template.official.encode, self.guard.lead
        ids = list(encode(text, add_special_tokens=False).ids)
        after: Ids = ()
        if not text.endswith(lead):
            # As one text with the prompt, which it was in training, unless the tokenizer joins the two.
            joined = encode(text + lead, add_special_tokens=False).ids
            after = tuple(joined[len(ids) :]) if joined[: len(ids)] == ids else self.chat.text(lead)
        begin = self.chat.bos
        if begin and begin[0] not in ids and begin[0] in encode("", add_special_tokens=True).ids:
            ids = [*begin, *ids]  # the template leaves this token to the tokenizer
        if begin and ids.count(begin[0]) > 1:
            raise BundleError(
                f"{self.where}: its chat template gives {ids.count(begin[0])} begin-of-text tokens, expected 1; "
                "restore the template that came with the weights"
            )
        return (*ids, *after)

    @cached_property
    def _controls(self) -> Callable[[int, Policy, str], Ids]:
        @lru_cache(maxsize=256)
        def controls(turns: int, policy: Policy, asks: str) -> Ids:
            """Control tokens of a harmless conversation of as many turns."""
            roles: tuple[Role, Role] = ("user", "assistant")
            messages = [(roles[turn % 2], "x") for turn in range(turns)]
            ids = self._official(self.template.text(messages, policy, self.detail, asks))
            known = self.chat.control_ids
            return tuple(index for index in ids if index in known)

        return controls

    def prefix_ids(self, policy: Policy) -> Ids:
        """The common start of every prompt. It ends with a control token: elsewhere tokens may merge across the cut."""
        return self._prefix(policy)

    @cached_property
    def _prefix(self) -> Callable[[Policy], Ids]:
        @lru_cache(maxsize=64)
        def prefix(policy: Policy) -> Ids:
            talks: list[RoleTexts] = [[("user", "x")], [("user", "7"), ("assistant", "y")]]
            prompts = [self.ids(talk, policy, asks) for asks in self._questions(policy) for talk in talks]
            known = self.chat.control_ids
            same = (len(set(column)) == 1 for column in zip(*prompts, strict=False))
            common = sum(1 for _ in itertools.takewhile(bool, same))
            last = max((position for position in range(common) if prompts[0][position] in known), default=None)
            if last is None:
                raise BundleError(f"{self.where}: its chat template has no control token before the messages to cut at")
            return prompts[0][: last + 1]

        return prefix

    def _questions(self, policy: Policy) -> tuple[str, ...]:
        """What the guard is asked about a conversation, a prompt each. PolicyError if it cannot be given the policy."""
        if self.guard.one is not None:
            return policy.codes
        if self.guard.fields and policy != self.template.policy:
            raise PolicyError(
                f"{self.guard.name} has an idea of harm of its own and cannot be given policy {policy.id!r}; use "
                f"policy {self.guard.policy}"
            )
        return ("",)

    def tokenize(self, conversation: Conversation, policy: Policy) -> TokenizedConversation:
        prefix = self.prefix_ids(policy)
        before = sum(map(len, self.fields)) + len(self.fields) * max(len(self.safe), len(self.unsafe))
        limit, total, windows = self.max_tokens - before - self.grammar(policy).longest, 0, []
        for asks in self._questions(policy):
            prompts, total = self._prompts(conversation, policy, limit, asks)
            if any(ids[: len(prefix)] != prefix for ids, _, _ in prompts):
                raise InvalidInput(f"the {self.guard.name} template renders another prefix for these roles")
            asked = RESPONSE if self.guard.fields and conversation.judged.role == "assistant" else asks
            windows += [Window(policy, ids[len(prefix) :], (), start, end, 0, asked) for ids, start, end in prompts]
        return TokenizedConversation(tuple(windows), total, total)

    def _prompts(
        self, conversation: Conversation, policy: Policy, limit: int, asks: str
    ) -> tuple[list[tuple[Ids, int, int]], int]:
        """Prompts of at most `limit` tokens with the characters of the judged message that each holds, and how many
        tokens the messages have. Together they hold every token."""
        context = [(message.role, message.content) for message in conversation.context]
        role, judged = conversation.judged.role, conversation.judged.content
        cuts = [self.chat.encode(text)[1] for _, text in (*context, (role, judged))]
        total = sum(map(len, cuts))
        whole = self.ids([*context, (role, judged)], policy, asks)
        if len(whole) <= limit:
            return [(whole, 0, len(judged))], total
        bare = len(self.ids([("assistant" if role == "assistant" else "user", "x")], policy, asks))
        marks = 0
        if self.guard.most_turns is None:
            pair = len(self.ids([("user", ""), ("assistant", ""), ("user", "x")], policy, asks))
            marks = pair - len(self.ids([("user", "x")], policy, asks))
        turns = [Turn(marks, len(cut), 0) for cut in cuts[:-1]]  # each may need an empty one beside it
        room = limit - bare
        needed = SMALLEST_ROOM + 2 * marks
        if room < needed:
            raise PolicyError(
                f"policy {policy.id!r} and the {self.guard.name} template leave {max(room, 0)} of a window's {limit} "
                f"tokens for a conversation, which needs {needed}; shorten the policy or exclude categories"
            )
        smallest = room // 4
        while room >= max(smallest, 2 * marks + 8):
            prompts = []
            for (start, end), (first, last) in layout(
                len(cuts[-1]),
                sum(turn.total for turn in turns),
                room,
                self.overlap,
                marks=2 * marks,
                bridge=self.overlap,
            ):
                messages = [
                    (context[i][0], _cut(context[i][1], cuts[i], a, b)) for i, a, b in within(turns, first, last)
                ]
                begin, stop = _place(judged, cuts[-1], start, end)
                prompts.append((self.ids([*messages, (role, judged[begin:stop])], policy, asks), begin, stop))
            excess = max(len(ids) for ids, _, _ in prompts) - limit
            if excess <= 0:
                return prompts, total
            room -= excess  # broken control strings and cut words take more tokens
        raise InvalidInput(
            f"the messages take too many tokens in the {self.guard.name} template: no window of {limit} tokens holds "
            "a part of them"
        )

    # -- verdicts -----------------------------------------------------------------------------------------------------

    @cached_property
    def safe(self) -> Ids:
        return self._word(self.guard.safe)

    @cached_property
    def unsafe(self) -> Ids:
        return self._word(self.guard.unsafe)

    def _word(self, word: str) -> Ids:
        """The tokens of a word as they stand after the lead."""
        return self._after(self.guard.lead, word) or self.chat.text(word)

    @cached_property
    def fields(self) -> tuple[Ids, ...]:
        """The tokens between the answers about a response: of what is written after each that comes before the last."""
        answer = self.guard.lead + self.guard.safe
        return tuple(self._after(answer, field) or self.chat.text(field) for field in self.guard.fields)

    def grammar(self, policy: Policy) -> VerdictGrammar:
        """Where all codes share a letter, tokenizers merge it with the comma before it; so it belongs to that."""
        return self._grammar(policy)

    @cached_property
    def _grammar(self) -> Callable[[Policy], VerdictGrammar]:
        return lru_cache(maxsize=64)(self._spelt)

    def _spelt(self, policy: Policy) -> VerdictGrammar:
        guard = self.guard
        if not guard.names_categories:
            return VerdictGrammar(self.safe, self.unsafe, self.unsafe, {}, (), self.chat.end)
        categories = [policy.category(code) for code in ordered(policy, policy.codes)]
        names = [
            guard.before + (each.code if guard.numbered else self.template.line(each, "names")) for each in categories
        ]
        letters = {re.match(r"\D*", name).group() for name in names}  # type: ignore[union-attr]  # always matches
        stems = [letters.pop()] if guard.numbered and len(letters) == 1 else []
        for stem in (*stems, ""):
            rest = [name.removeprefix(stem) for name in names]
            lead = guard.unsafe + guard.codes + stem
            start = self.chat.text(lead)
            spelt = [self._after(lead, name) for name in rest]
            separators = {self._after(lead + name, f",{stem}") for name in rest}
            if all(spelt) and len(separators) == 1 and all(separators):
                codes = {each.code: ids for each, ids in zip(categories, spelt, strict=True) if ids}
                return VerdictGrammar(self.safe, self.unsafe, start, codes, separators.pop() or (), self.chat.end)
        raise BundleError(
            f"{self.where}: its tokenizer merges the codes of policy {policy.id!r} with the text before them; rename "
            "the codes to a letter and a number, like S1"
        )

    def _after(self, lead: str, text: str) -> Ids | None:
        """The tokens of `text` after `lead`, or None where the tokenizer joins the two."""
        alone, joined = self.chat.text(lead), self.chat.text(lead + text)
        return joined[len(alone) :] if joined[: len(alone)] == alone else None


def _place(text: str, cuts: Sequence[tuple[int, int]], start: int, end: int) -> tuple[int, int]:
    """The characters of a range of tokens; at either end of the text all of it, white space included."""
    begin = 0 if start == 0 else cuts[start][0]
    stop = len(text) if end >= len(cuts) else cuts[end - 1][1]
    return begin, max(begin, stop)


def _cut(text: str, cuts: Sequence[tuple[int, int]], start: int, end: int) -> str:
    begin, stop = _place(text, cuts, start, end) if end > start else (0, 0)
    return text[begin:stop]
