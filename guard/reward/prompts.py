"""Prompts of reward models as token ids: a dialogue as a chat model has it, or a question about answers.

Every text is a turn of its own, marked by control tokens that no text can hold, so that an answer cannot forge another
one. A text that is too long loses its middle, and never the question behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from guard.conversation import Message
from guard.errors import BundleError, ConfigError
from guard.prompts.control import ChatTokens
from guard.prompts.tokenizer import load_tokenizer
from guard.prompts.window import Ids
from guard.reward.template import Label, Question, template

SHORTEST = 16  # tokens that every text keeps at least
ENDING = 8  # tokens that a verdict and its end take at most


@dataclass(frozen=True, slots=True, repr=False)
class Rendered:
    """The ids of a prompt, and the share of its texts that it holds; 1 if nothing was cut."""

    ids: Ids
    coverage: float = 1.0


@dataclass(frozen=True, eq=False)
class RewardPrompts:
    """Renders at most `max_tokens` ids, of which `reply_tokens` are left for what the model writes."""

    chat: ChatTokens
    max_tokens: int
    reply_tokens: int = 0

    @classmethod
    def load(cls, tokenizer: Path, max_tokens: int, reply_tokens: int = 0) -> RewardPrompts:
        """BundleError if the tokenizer is of no known chat family; ConfigError if no room is left for a prompt."""
        if max_tokens - reply_tokens < 8 * SHORTEST:
            raise ConfigError(
                f"max_tokens - reply_tokens must be >= {8 * SHORTEST} (got {max_tokens} - {reply_tokens})"
            )
        return cls(ChatTokens.of(load_tokenizer(tokenizer), str(tokenizer)), max_tokens, reply_tokens)

    @cached_property
    def pad(self) -> int:
        """A control token that no prompt holds, so that padding is never taken for the end of an answer."""
        used = {self.chat.tokenizer.token_to_id(token) for token in self.chat.family.tokens}
        return min(self.chat.control_ids - used, default=(self.chat.bos or self.chat.end)[0])

    # -- dialogues ------------------------------------------------------------------------------------------------

    def dialogue(self, prompt: Sequence[Message], *answers: str) -> tuple[Rendered, list[Ids]]:
        """A chat up to the answer, and each answer with its end; cut so that the chat fits with any of them."""
        texts = [self.chat.text(message.content) for message in prompt]
        replies = [self.chat.text(answer) for answer in answers]
        turns = [(message.role, "", ids) for message, ids in zip(prompt, texts, strict=True)]
        fixed = self._marks(turns) + len(self.chat.opening("assistant")) + len(self.chat.end)
        most = cap([*texts, max(replies, key=len, default=())], self.max_tokens - fixed)
        kept = [cut(ids, most) for ids in (*texts, *replies)]
        turns = [(message.role, "", ids) for message, ids in zip(prompt, kept, strict=False)]
        coverage = _share(kept, [*texts, *replies])
        return Rendered(self._turns(turns), coverage), [(*ids, *self.chat.end) for ids in kept[len(texts) :]]

    def reply(self, text: str) -> Ids:
        """A reply of the model's own, with its end; as long as it may be at most."""
        return (*self.chat.text(text)[: self.reply_tokens or None], *self.chat.end)

    # -- questions ------------------------------------------------------------------------------------------------

    def ask(
        self, name: str, prompt: Sequence[Message], answers: Sequence[tuple[Label, str]] = (), hint: str = ""
    ) -> Rendered:
        """A question about a conversation and labelled texts. hint: the word that a model is to argue for."""
        question, labels = template().questions[name], template().labels
        quoted = [(labels[message.role], message.content) for message in prompt]
        quoted += [(labels[label], text) for label, text in answers]
        ask = question.ask if not hint else f"{question.ask} {template().hints[name].format(word=hint)}"
        texts = [("user", f"{label}\n", self.chat.text(text)) for label, text in quoted]
        ends = [("system", question.task, ()), ("user", ask, ())]
        cue = self.chat.text(question.cue)
        fixed = self._marks([*texts, *ends]) + len(self.chat.opening("assistant")) + len(cue)
        whole = [ids for _, _, ids in texts]
        most = cap(whole, self.max_tokens - self.reply_tokens - fixed - 1)
        turns = [(role, label, cut(ids, most)) for role, label, ids in texts]
        ids = (*self._turns([ends[0], *turns, ends[1]]), *cue)
        return Rendered(ids, _share([ids for _, _, ids in turns], whole))

    def verdict(self, question: Question, word: str, reason: str = "") -> Ids:
        """What the model writes behind the cue: a reason, where the question has a marker, the word, and the end."""
        return (*self.lead(question, reason), *self.chat.text(word), *self.chat.text(question.tail), *self.chat.end)

    def lead(self, question: Question, reason: str = "") -> Ids:
        """What stands before the word that decides: the reason, without its end if it is too long, and the marker."""
        if not question.marker:
            return ()
        marker, most = self.chat.text(question.marker), self._room(question)
        ids = self.chat.text(question.written(reason))
        while len(ids) > most:  # the text is cut and not its ids, which may end inside of a letter or an escape
            reason = reason[: min(len(reason) - 1, len(reason) * most // len(ids))]
            ids = self.chat.text(question.written(reason))
        return (*ids, *marker)

    def _room(self, question: Question) -> int:
        """The tokens of a reply that are left for a reason."""
        return max(0, self.reply_tokens - len(self.chat.text(question.marker)) - ENDING)

    def check_reply(self, question: Question) -> None:
        """ConfigError if a reply that asks for a reason leaves no room for one."""
        if question.marker and self._room(question) < SHORTEST:
            least = len(self.chat.text(question.marker)) + ENDING + SHORTEST
            raise ConfigError(f"reply_tokens must be >= {least} where a reason comes first (got {self.reply_tokens})")

    def words(self, question: Question) -> Ids:
        """The first token of each word. BundleError if two are the same."""
        first = [self.chat.text(word)[0] for word in question.words]
        if len(set(first)) < len(first):
            raise BundleError(
                f"the words {', '.join(question.words)} do not differ in their first tokens, which must decide; use "
                "another tokenizer"
            )
        return tuple(first)

    # -- turns ----------------------------------------------------------------------------------------------------

    def _turns(self, turns: Sequence[tuple[str, str, Ids]]) -> Ids:
        ids = [*self.chat.bos]
        for heading, label, text in turns:
            ids += [*self.chat.opening(heading), *self.chat.text(label), *text, *self.chat.end, *self.chat.after]
        return (*ids, *self.chat.opening("assistant"))

    def _marks(self, turns: Sequence[tuple[str, str, Ids]]) -> int:
        """The tokens that stand around the texts."""
        ends = len(self.chat.end) + len(self.chat.after)
        marks = (len(self.chat.opening(heading)) + len(self.chat.text(label)) + ends for heading, label, _ in turns)
        return len(self.chat.bos) + sum(marks)


def cap(texts: Sequence[Ids], room: int) -> int:
    """The most tokens that a text may keep so that all of them fit into `room`; SHORTEST where nothing fits."""
    low, high = SHORTEST, max(map(len, texts), default=0)
    while low < high:
        middle = (low + high + 1) // 2
        if sum(min(len(ids), middle) for ids in texts) <= room:
            low = middle
        else:
            high = middle - 1
    return low


def cut(ids: Ids, most: int) -> Ids:
    """The ids without their middle, where they are more than `most`."""
    return ids if len(ids) <= most else (*ids[: (most + 1) // 2], *ids[len(ids) - most // 2 :])


def _share(kept: Sequence[Ids], whole: Sequence[Ids]) -> float:
    total = sum(map(len, whole))
    return sum(map(len, kept)) / total if total else 1.0
