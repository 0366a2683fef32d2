"""Released guards: their prompt by their own chat template, read from the model's folder, in our policies and windows.

What they agree on stands here, what they differ in is a row of `guard.guards`. The text of a template is never kept: it
comes with the weights. A text without any control string gives exactly the ids of `tokenizer.apply_chat_template`; in
any other, those strings are broken by a space before the template sees them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from tokenizers import Tokenizer

from guard import policy as policies
from guard.conversation import Conversation, Role
from guard.errors import BundleError, InvalidInput, PolicyError
from guard.guards import GUARDS, Guard
from guard.policy import Category, Detail, Policy, ordered
from guard.text.chat_template import CONFIG, JINJA, ChatTemplate, read_template
from guard.text.control import ChatTokens, Family, copied
from guard.text.layout import Turn, layout, within

Ids = tuple[int, ...]
Said = Sequence[tuple[Role, str]]
LAYOUT = 1  # raise it when the ids change for a reason that is neither in the template nor in a row
SMALLEST_ROOM = 64  # tokens that policy and template must leave for the conversation
BEGIN, END = "<BEGIN UNSAFE CONTENT CATEGORIES>\n", "\n<END UNSAFE CONTENT CATEGORIES>"
_SOURCE_MARK = "UNSAFE CONTENT CATEGORIES"
_PROBE = "kumquat"  # a word that no template holds
_NUMBERED = re.compile(r"^([A-Z]\d+): ", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Spelling:
    """A verdict in tokens: start, then codes (in numeric order) between separators. See `guard.engines.codes`."""

    start: Ids
    codes: tuple[Ids, ...]
    separator: Ids


@dataclass(frozen=True, eq=False)
class Released:
    """A released guard's row with the tokenizer and the template of a folder. Everything it gives is token ids."""

    guard: Guard
    template: ChatTemplate
    chat: ChatTokens  # text as text: control strings stay characters
    official: Tokenizer  # control strings become control tokens, as in the official tokenisation
    typed: bool  # the template wants a message's content as a list of parts
    where: str

    @classmethod
    def find(cls, tokenizer: Tokenizer, folder: Path) -> Released | None:
        """The released guard that a folder holds, or None. BundleError if it holds one that no row describes."""
        template = read_template(folder)
        if template is None or _SOURCE_MARK not in template.source:
            return None
        typed, text = _probe(template, folder)
        for guard in GUARDS:
            if BEGIN in text and all(mark in text for mark in guard.marks):
                break
        else:
            known = ", ".join(guard.name for guard in GUARDS)
            raise BundleError(
                f"{folder}: its chat template is that of a guard, but of none that is known ({known}); to train it on "
                f"guard's own prompt, use a copy of the folder without {JINJA} and without chat_template in {CONFIG}"
            )
        end = template.tokens.get("eos_token", guard.end)
        if tokenizer.token_to_id(end) is None:
            raise BundleError(f"{folder}: {guard.name} ends a verdict with {end}, which its tokenizer does not have")
        family = Family(guard.name, template.tokens.get("bos_token"), "", None, "", end, "")
        plain = ChatTokens(copied(tokenizer, specials=False), family)
        return cls(guard, template, plain, copied(tokenizer, specials=True), typed, str(folder))

    @cached_property
    def digest(self) -> str:
        """sha256 (hex) of the template and of how it is used."""
        parts = {"layout": LAYOUT, "guard": self.guard.name, "template": self.template.digest}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    # -- text ---------------------------------------------------------------------------------------------------------

    @cached_property
    def _delimiters(self) -> tuple[re.Pattern[str], re.Pattern[str]]:
        """What only the template may write in plain text: its delimiters, and the line that opens a turn."""
        turns = "|".join(map(re.escape, self.guard.turns))
        return re.compile(r"([<\[])(?=/?(?:BEGIN |END |INST\]))"), re.compile(rf"(\n\s*\n[ \t]*(?:{turns}))(?=[ \t]*:)")

    def neutral(self, text: str) -> str:
        """The text without what the template or the tokenizer would take for structure: a space breaks it.

        A text that holds nothing of the kind is returned as it is. Raises InvalidInput if one character is a control
        token, which no space can break.
        """
        for pattern in self._delimiters:
            text = pattern.sub(r"\1 ", text)
        controls = self.chat.control_ids
        while True:
            encoded = self.official.encode(text, add_special_tokens=False)
            spans = [span for index, span in zip(encoded.ids, encoded.offsets, strict=True) if index in controls]
            if not spans:
                return text
            for first, last in reversed(spans):
                part = text[first:last]
                first += len(part) - len(part.lstrip())
                if len(part.strip()) < 2:
                    raise InvalidInput(f"the character at {first} is a control token of the model; remove it")
                middle = first + (len(part.strip()) + 1) // 2
                text = f"{text[:middle]} {text[middle:]}"

    def text(self, said: Said, policy: Policy, detail: Detail) -> str:
        """What the template writes of the conversation; roles that it does not know stand at the user's side."""
        turns = _alternating(said)
        lines = self._lines(policy, detail)
        arguments: dict[str, object] = {}
        if lines is not None and self._categories_ending is not None:
            ending = self._categories_ending
            arguments["categories"] = {code: line.removesuffix(ending) for code, line in lines.items()}
        rendered = self.template.render([self.message(role, self.neutral(text)) for role, text in turns], **arguments)
        if lines is None or arguments:
            return rendered
        head, _, rest = rendered.partition(BEGIN)
        made = [f"{code}: {line}" if self.guard.numbered else line for code, line in lines.items()]
        return head + BEGIN + "\n".join(made) + END + rest.partition(END)[2]

    def message(self, role: Role, text: str) -> dict[str, object]:
        """A message in the form that the template wants."""
        return {"role": role, "content": [{"type": "text", "text": text}] if self.typed else text}

    # -- categories ---------------------------------------------------------------------------------------------------

    @cached_property
    def own(self) -> Mapping[str, str]:
        """The template's own categories: code (of its policy) and what the template writes after it."""
        block = self.template.render([self.message("user", "x")]).partition(BEGIN)[2].partition(END)[0]
        if self.guard.numbered:
            parts = _NUMBERED.split(block)
            return {code: text.removesuffix("\n") for code, text in zip(parts[1::2], parts[2::2], strict=True)}
        codes = {_letters(code): code for code in self._shipped.codes}
        return {codes[_letters(line)]: line for line in block.split("\n") if _letters(line) in codes}

    @cached_property
    def _categories_ending(self) -> str | None:
        """What the template writes after a category that is given as an argument; None if it takes no such argument."""
        text = self.template.render([self.message("user", "x")], categories={"S1": _PROBE})
        block = text.partition(BEGIN)[2].partition(END)[0]
        return block.partition(_PROBE)[2] if _PROBE in block else None

    @property
    def takes_categories(self) -> bool:
        return self._categories_ending is not None

    @cached_property
    def _lines(self) -> Callable[[Policy, Detail], Mapping[str, str] | None]:
        @lru_cache(maxsize=64)
        def lines(policy: Policy, detail: Detail) -> Mapping[str, str] | None:
            """The text of each category, or None where the template's own list is already that of the policy."""
            found = {category.code: self._line(category, detail) for category in policy.categories}
            return None if list(found.items()) == list(self.own.items()) else found

        return lines

    @cached_property
    def _shipped(self) -> Policy:
        return policies.load(self.guard.policy)

    @cached_property
    def policy(self) -> Policy:
        """The policy that the weights were made for: the shipped one, less what the template does not list."""
        foreign = [code for code in self._shipped.codes if code not in self.own]
        return self._shipped.without(foreign) if self.own else self._shipped

    def _line(self, category: Category, detail: Detail) -> str:
        """What the prompt says of a category: in the template's words, if it is still what the shipped policy says."""
        if category.code in self.own and category in self._shipped.categories:
            return self.own[category.code]
        if not self.guard.numbered:
            return self.neutral(category.name)
        told = [f"{category.name}."]
        if detail != "names":
            told.append(category.definition)
        if detail == "full":
            told += [f"This counts: {'; '.join(category.includes)}."] if category.includes else []
            told += [f"This does not count: {'; '.join(category.excludes)}."] if category.excludes else []
        return self.neutral(" ".join(told))

    # -- ids ----------------------------------------------------------------------------------------------------------

    def ids(self, said: Said, policy: Policy, detail: Detail) -> Ids:
        """The prompt up to the position where the verdict is read."""
        found = self._official(self.text(said, policy, detail))
        controls = self.chat.control_ids
        turns = _alternating(said)
        if [index for index in found if index in controls] != list(self._controls(len(turns), policy, detail)):
            raise InvalidInput(
                f"a message of {len(turns)} would change the structure of the {self.guard.name} prompt; remove the "
                "model's control strings from it"
            )
        return found

    def _official(self, text: str) -> Ids:
        ids = list(self.official.encode(text, add_special_tokens=False).ids)
        begin = self.chat.bos
        if begin and begin[0] not in ids and begin[0] in self.official.encode("", add_special_tokens=True).ids:
            ids = [*begin, *ids]  # the template leaves it to the tokenizer
        if begin and ids.count(begin[0]) > 1:
            raise BundleError(
                f"{self.where}: its chat template gives {ids.count(begin[0])} begin-of-text tokens, one is due; "
                "restore the template that came with the weights"
            )
        return (*ids, *(() if text.endswith(self.guard.lead) else self.chat.text(self.guard.lead)))

    @cached_property
    def _controls(self) -> Callable[[int, Policy, Detail], Ids]:
        @lru_cache(maxsize=256)
        def controls(turns: int, policy: Policy, detail: Detail) -> Ids:
            """Control tokens of a harmless conversation of as many turns."""
            roles: tuple[Role, Role] = ("user", "assistant")
            ids = self._official(self.text([(roles[turn % 2], "x") for turn in range(turns)], policy, detail))
            known = self.chat.control_ids
            return tuple(index for index in ids if index in known)

        return controls

    def prefix(self, policy: Policy, detail: Detail) -> Ids:
        """What is the same for every conversation. It ends in a control token: elsewhere texts grow together."""
        one = self.ids([("user", "x")], policy, detail)
        other = self.ids([("user", "7"), ("assistant", "y")], policy, detail)
        known = self.chat.control_ids
        same = next((place for place, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), 0)
        last = max((place for place in range(same) if one[place] in known), default=None)
        if last is None:
            raise BundleError(f"{self.where}: its chat template begins without a control token; it cannot be cut")
        return one[: last + 1]

    def windows(
        self, conversation: Conversation, policy: Policy, detail: Detail, limit: int, overlap: int
    ) -> tuple[list[tuple[Ids, int, int]], int]:
        """Prompts of at most `limit` tokens with the characters of the judged message that each holds, and how many
        tokens the messages have. Together they hold every token."""
        context = [(message.role, message.content) for message in conversation.context]
        role, judged = conversation.judged.role, conversation.judged.content
        cuts = [self.chat.encode(text)[1] for _, text in (*context, (role, judged))]
        total = sum(map(len, cuts))
        whole = self.ids([*context, (role, judged)], policy, detail)
        if len(whole) <= limit:
            return [(whole, 0, len(judged))], total
        pair = len(self.ids([("user", ""), ("assistant", ""), ("user", "x")], policy, detail))
        bare = len(self.ids([("assistant" if role == "assistant" else "user", "x")], policy, detail))
        marks = pair - len(self.ids([("user", "x")], policy, detail))
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
            found = []
            for (start, end), (first, last) in layout(len(cuts[-1]), turns, room, overlap):
                said = [(context[i][0], _cut(context[i][1], cuts[i], a, b)) for i, a, b in within(turns, first, last)]
                begin, stop = _place(judged, cuts[-1], start, end)
                found.append((self.ids([*said, (role, judged[begin:stop])], policy, detail), begin, stop))
            excess = max(len(ids) for ids, _, _ in found) - limit
            if excess <= 0:
                return found, total
            room -= excess  # broken control strings and cut words take more tokens
        raise InvalidInput(
            f"the messages take too many tokens when the {self.guard.name} template quotes them: no window of {limit} "
            "tokens holds a part of them"
        )

    # -- verdicts -----------------------------------------------------------------------------------------------------

    def spelling(self, policy: Policy) -> Spelling:
        """How a verdict names the policy's categories, in the tokens that the model writes.

        Where all codes share a letter, tokenizers write it together with the comma before it; so it goes there.
        """
        guard = self.guard
        told = [policy.category(code) for code in ordered(policy, policy.codes)]
        names = [guard.before + (each.code if guard.numbered else self._line(each, "names")) for each in told]
        letters = {re.match(r"\D*", name).group() for name in names}  # type: ignore[union-attr]  # always matches
        stems = [letters.pop()] if guard.numbered and len(letters) == 1 else []
        for stem in (*stems, ""):
            rest = [name.removeprefix(stem) for name in names]
            lead = guard.unsafe + guard.codes + stem
            start = self.chat.text(lead)
            codes = [self._after(lead, name) for name in rest]
            separators = {self._after(lead + name, f",{stem}") for name in rest}
            if all(codes) and len(separators) == 1 and all(separators):
                return Spelling(start, tuple(code for code in codes if code), separators.pop() or ())
        raise BundleError(
            f"{self.where}: its tokenizer writes the codes of policy {policy.id!r} together with what stands before "
            "them; rename the codes to a letter and a number, like S1"
        )

    def _after(self, lead: str, text: str) -> Ids | None:
        """The tokens of `text` after `lead`, or None where the tokenizer joins the two."""
        alone, joined = self.chat.text(lead), self.chat.text(lead + text)
        return joined[len(alone) :] if joined[: len(alone)] == alone else None


def _probe(template: ChatTemplate, folder: Path) -> tuple[bool, str]:
    """Whether a template wants a message's content in typed parts, and what it makes of a single message."""
    for typed, content in ((False, _PROBE), (True, [{"type": "text", "text": _PROBE}])):
        try:
            text = template.render([{"role": "user", "content": content}])
        except InvalidInput:
            continue
        if text.count(_PROBE) == 1:
            return typed, text
    raise BundleError(
        f"{folder}: its chat template does not write a user's message once, neither as text nor as parts; restore the "
        "template that came with the weights"
    )


def _alternating(said: Said) -> list[tuple[Role, str]]:
    """Turns of user and assistant by turns, as the templates demand: an empty one stands where a side is missing."""
    sides: tuple[Role, Role] = ("user", "assistant")
    turns: list[tuple[Role, str]] = []
    for role, text in said:
        side: Role = "assistant" if role == "assistant" else "user"
        if side != sides[len(turns) % 2]:
            turns.append((sides[len(turns) % 2], ""))
        turns.append((side, text))
    return turns


def _letters(text: str) -> str:
    return "".join(letter for letter in text.casefold() if letter.isalnum())


def _place(text: str, cuts: Sequence[tuple[int, int]], start: int, end: int) -> tuple[int, int]:
    """The characters of a range of tokens; at either end of the text all of it, white space included."""
    begin = 0 if start == 0 else cuts[start][0]
    stop = len(text) if end >= len(cuts) else cuts[end - 1][1]
    return begin, max(begin, stop)


def _cut(text: str, cuts: Sequence[tuple[int, int]], start: int, end: int) -> str:
    begin, stop = _place(text, cuts, start, end) if end > start else (0, 0)
    return text[begin:stop]
