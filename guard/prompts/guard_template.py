"""The text that a released guard's chat template renders for a conversation under a policy.

The text of a template is never stored: it comes with the weights. What the template or the tokenizer would parse as
structure inside a message is broken by a space before the template sees it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from tokenizers import Tokenizer

from guard import policy as policies
from guard.conversation import Role
from guard.errors import BundleError, InvalidInput
from guard.policy import Category, Detail, Policy
from guard.prompts.card import card_template
from guard.prompts.chat_template import CONFIG, JINJA, ChatTemplate, load_template
from guard.prompts.control import control_ids, copied
from guard.prompts.guards import GUARDS, Arguments, Guard

RoleTexts = Sequence[tuple[Role, str]]
BEGIN, END = "<BEGIN UNSAFE CONTENT CATEGORIES>\n", "\n<END UNSAFE CONTENT CATEGORIES>"
_PROBE = "kumquat"  # a word that no template holds
_NUMBERED = re.compile(r"^([A-Z]\d+): ", re.MULTILINE)


@dataclass(frozen=True, eq=False)
class GuardTemplate:
    """A released guard's row with the template and the tokenizer of a folder. All its results are text."""

    guard: Guard
    jinja: ChatTemplate
    official: Tokenizer  # control strings become control tokens, as in the official tokenisation
    typed: bool  # the template wants a message's content as a list of parts

    @classmethod
    def find(cls, tokenizer: Tokenizer, folder: Path) -> GuardTemplate | None:
        """The template of a released guard that a folder holds, or None. BundleError if no row describes it."""
        jinja = load_template(folder)
        probed = []
        for guard in GUARDS:
            made = jinja
            if made is None or guard.source not in made.source:
                made = card_template(folder, guard.source) if guard.fields else None
            if made is None:
                continue
            for arguments in _probes(guard):
                typed, text = _probe(made, arguments)
                marks = (BEGIN, *guard.marks) if guard.names_categories else guard.marks
                if text is not None and all(mark in text for mark in marks):
                    return cls(guard, made, copied(tokenizer, specials=True), typed)
                probed.append(text)
        if not probed:
            return None
        if not any(probed):
            raise BundleError(
                f"{folder}: its chat template does not write a user's message once, neither as text nor as parts; "
                "restore the template that came with the weights"
            )
        known = ", ".join(guard.name for guard in GUARDS)
        raise BundleError(
            f"{folder}: the chat template of an unknown guard (known: {known}); to train it on guard's own prompt, use "
            f"a copy of the folder without {JINJA} and without chat_template in {CONFIG}"
        )

    @property
    def digest(self) -> str:
        """sha256 (hex) of all that its texts depend on, beside the guard's row."""
        return self.jinja.digest

    @property
    def begin(self) -> str | None:
        """The begin-of-text token, which a prompt holds once; None if there is none."""
        return self.jinja.tokens.get("bos_token")

    def write(self, folder: Path) -> None:
        """Writes what `find` needs to make the same texts, beside the tokenizer."""
        self.jinja.write(folder)

    # -- the conversation ---------------------------------------------------------------------------------------------

    @cached_property
    def _delimiters(self) -> tuple[re.Pattern[str], re.Pattern[str]]:
        """What only the template may write in plain text: its delimiters, and the line that opens a turn."""
        turns = "|".join(map(re.escape, self.guard.turns))
        own = "".join(f"|{re.escape(delimiter[1:])}" for delimiter in self.guard.delimiters)
        before = r"\n\s*\n" if self.guard.most_turns is None else r"\n"
        return (
            re.compile(rf"([<\[])(?=/?(?:BEGIN |END |INST\]){own})"),
            re.compile(rf"({before}[ \t]*(?:{turns}))(?=[ \t]*:)"),
        )

    @cached_property
    def _controls(self) -> frozenset[int]:
        return control_ids(self.official)

    def neutral(self, text: str) -> str:
        """The text without what the template or the tokenizer would take for structure: a space breaks it.

        A text that holds nothing of the kind is returned as it is. Raises InvalidInput if one character is a control
        token, which no space can break.
        """
        for pattern in self._delimiters:
            text = pattern.sub(r"\1 ", text)
        while True:
            encoded = self.official.encode(text, add_special_tokens=False)
            spans = [span for index, span in zip(encoded.ids, encoded.offsets, strict=True) if index in self._controls]
            if not spans:
                return text
            for first, last in reversed(spans):
                part = text[first:last]
                first += len(part) - len(part.lstrip())
                if len(part.strip()) < 2:
                    raise InvalidInput(f"the character at {first} is a control token of the model; remove it")
                middle = first + (len(part.strip()) + 1) // 2
                text = f"{text[:middle]} {text[middle:]}"

    def text(self, messages: RoleTexts, policy: Policy, detail: Detail, asks: str = "") -> str:
        """The rendered conversation; roles that the template does not know are rendered as user.

        asks: the code of the category, of a guard that judges one a call. InvalidInput if it has more turns than the
        template reads.
        """
        turns = alternating(messages)
        if self.guard.most_turns is not None and len(turns) > self.guard.most_turns:
            raise InvalidInput(
                f"{self.guard.name} reads one prompt and one response to it, and this conversation has {len(turns)} "
                "turns; send the last ones alone"
            )
        if not self.guard.names_categories:
            arguments = self.question(policy.category(asks), detail) if self.guard.one else self.guard.arguments
            return self.jinja.render([self.message(role, self.neutral(text)) for role, text in turns], **arguments)
        lines = self._lines(policy, detail)
        arguments = {}
        if lines is not None and self._categories_ending is not None:
            ending = self._categories_ending
            arguments["categories"] = {code: line.removesuffix(ending) for code, line in lines.items()}
        rendered = self.jinja.render([self.message(role, self.neutral(text)) for role, text in turns], **arguments)
        if lines is None or arguments:
            return rendered
        head, _, rest = rendered.partition(BEGIN)
        categories = [f"{code}: {line}" if self.guard.numbered else line for code, line in lines.items()]
        return head + BEGIN + "\n".join(categories) + END + rest.partition(END)[2]

    def message(self, role: Role, text: str) -> dict[str, object]:
        """A message in the form that the template wants."""
        return {"role": role, "content": [{"type": "text", "text": text}] if self.typed else text}

    # -- categories ---------------------------------------------------------------------------------------------------

    def question(self, category: Category, detail: Detail) -> Arguments:
        """The template's arguments that ask about one category."""
        one = self.guard.one
        assert one is not None
        if one.own is not None and category in self._shipped.categories:
            return {**one.own(category.code), **self.guard.arguments}
        text = self.neutral(one.line.format(name=category.name, text=_description(category, detail)))
        return {**self._ask(category.code, text), **self.guard.arguments}

    @cached_property
    def _ask(self) -> Callable[[str, str], Arguments]:
        """The form of a question in which the template writes the text that describes a category."""
        one = self.guard.one
        assert one is not None
        for ask in one.asks:
            try:
                text = self.jinja.render([self.message("user", "x")], **ask("own", _PROBE), **self.guard.arguments)
            except InvalidInput:
                continue
            if text.count(_PROBE) == 1:
                return ask
        raise BundleError(
            f"the chat template of {self.guard.name} takes no description of a category; restore the template that "
            "came with the weights"
        )

    @cached_property
    def own(self) -> Mapping[str, str]:
        """The template's own categories: code (of its policy) and what the template writes after it."""
        if not self.guard.names_categories:
            return {}
        block = self.jinja.render([self.message("user", "x")]).partition(BEGIN)[2].partition(END)[0]
        if self.guard.numbered:
            parts = _NUMBERED.split(block)
            return {code: text.removesuffix("\n") for code, text in zip(parts[1::2], parts[2::2], strict=True)}
        codes = {_letters(code): code for code in self._shipped.codes}
        return {codes[_letters(line)]: line for line in block.split("\n") if _letters(line) in codes}

    @cached_property
    def _categories_ending(self) -> str | None:
        """What the template writes after a category that is given as an argument; None if it takes no such argument."""
        if not self.guard.names_categories:
            return None
        text = self.jinja.render([self.message("user", "x")], categories={"S1": _PROBE})
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
            texts = {category.code: self.line(category, detail) for category in policy.categories}
            return None if list(texts.items()) == list(self.own.items()) else texts

        return lines

    @cached_property
    def _shipped(self) -> Policy:
        return policies.load(self.guard.policy)

    @cached_property
    def policy(self) -> Policy:
        """The policy that the weights were made for: the shipped one, less what the template does not list."""
        foreign = [code for code in self._shipped.codes if code not in self.own]
        return self._shipped.without(foreign) if self.own else self._shipped

    def line(self, category: Category, detail: Detail) -> str:
        """The text of a category: the template's own, unless the policy differs from the shipped one."""
        if category.code in self.own and category in self._shipped.categories:
            return self.own[category.code]
        if not self.guard.numbered:
            return self.neutral(category.name)
        sentences = (
            [f"{category.name}."] if detail == "names" else [f"{category.name}.", _description(category, detail)]
        )
        return self.neutral(" ".join(sentences))


def _description(category: Category, detail: Detail) -> str:
    """What a category is, in sentences."""
    sentences = [category.definition]
    if detail == "full":
        sentences += [f"This counts: {'; '.join(category.includes)}."] if category.includes else []
        sentences += [f"This does not count: {'; '.join(category.excludes)}."] if category.excludes else []
    return " ".join(sentences)


def alternating(messages: RoleTexts) -> list[tuple[Role, str]]:
    """Alternating turns of user and assistant, as the templates require: an empty one where a side is missing."""
    sides: tuple[Role, Role] = ("user", "assistant")
    turns: list[tuple[Role, str]] = []
    for role, text in messages:
        side: Role = "assistant" if role == "assistant" else "user"
        if side != sides[len(turns) % 2]:
            turns.append((sides[len(turns) % 2], ""))
        turns.append((side, text))
    return turns


def _probes(guard: Guard) -> Iterator[Arguments]:
    """Arguments of its template with which a single message is rendered to know the guard."""
    one = guard.one
    if one is None:
        yield guard.arguments
        return
    if one.own is not None:
        yield {**one.own("harm"), **guard.arguments}
    yield from ({**ask("own", "x"), **guard.arguments} for ask in one.asks)


def _probe(jinja: ChatTemplate, arguments: Arguments) -> tuple[bool, str | None]:
    """Whether a template takes a message's content as typed parts, and its rendering of a single message; None if it
    does not write the message once."""
    for typed, content in ((False, _PROBE), (True, [{"type": "text", "text": _PROBE}])):
        try:
            text = jinja.render([{"role": "user", "content": content}], **arguments)
        except InvalidInput:
            continue
        if text.count(_PROBE) == 1:
            return typed, text
    return False, None


def _letters(text: str) -> str:
    return "".join(letter for letter in text.casefold() if letter.isalnum())
