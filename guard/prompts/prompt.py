"""The prompt of a causal guard, with guard's own template or a released guard's, as engines and training use it."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from guard.conversation import Conversation
from guard.errors import BundleError
from guard.policy import Detail, Policy
from guard.prompts.causal import CausalPrompt
from guard.prompts.control import ChatTokens
from guard.prompts.grammar import VerdictGrammar
from guard.prompts.released import ReleasedPrompt
from guard.prompts.tokenizer import load_tokenizer
from guard.prompts.window import Ids, TokenizedConversation


class Prompt(Protocol):
    """Renders prompts of at most `max_tokens` ids, the longest verdict included; windows share `overlap` tokens.

    A whole prompt is the policy's prefix and a window's ids; the verdict is read after the last one.
    """

    @property
    def chat(self) -> ChatTokens: ...

    @property
    def max_tokens(self) -> int: ...

    @property
    def overlap(self) -> int: ...

    @property
    def detail(self) -> Detail:
        """How much of each category the prompt contains."""

    @property
    def digest(self) -> str:
        """sha256 (hex) of the words and the layout of the prompt, without the policy."""

    @property
    def safe(self) -> Ids:
        """The verdict `safe`, without its end; its first token against that of `unsafe` decides."""

    @property
    def unsafe(self) -> Ids:
        """The verdict `unsafe` without categories."""

    @property
    def fields(self) -> tuple[Ids, ...]:
        """Of a guard that answers other questions before the one about the response: what it writes between them."""

    def with_detail(self, detail: Detail) -> Prompt:
        """The same prompt with another detail."""

    def with_room(self, max_tokens: int) -> Prompt:
        """The same prompt in windows of another size."""

    def save(self, folder: Path) -> None:
        """Writes what `load_prompt(folder / "tokenizer.json", …)` needs to make the same prompts."""

    def prefix_ids(self, policy: Policy) -> Ids:
        """Everything up to the end of the policy; the same for every conversation under it."""

    def tokenize(self, conversation: Conversation, policy: Policy) -> TokenizedConversation:
        """All windows of a conversation, each what follows the prefix. Together they hold every token.

        Raises InvalidInput where the conversation cannot be rendered, PolicyError where the policy leaves no room.
        """

    def grammar(self, policy: Policy) -> VerdictGrammar:
        """The verdicts under the policy, in the tokens that the model writes."""


def load_prompt(path: Path, max_tokens: int, overlap: int, detail: Detail = "full") -> Prompt:
    """From a `tokenizer.json`: our own prompt or, with the chat template of a released guard beside it, that guard's.

    BundleError if its control tokens are unknown, its verdict words start with the same token, or the template is
    unusable.
    """
    tokenizer = load_tokenizer(path)
    released = ReleasedPrompt.find(tokenizer, path.parent, max_tokens, overlap, detail)
    prompt: Prompt = released or CausalPrompt(ChatTokens.of(tokenizer, str(path)), max_tokens, overlap, detail)
    check_words(prompt, path)
    return prompt


def check_words(prompt: Prompt, path: Path) -> None:
    """BundleError if the words of a verdict start with the same token of the tokenizer at `path`."""
    if prompt.safe[0] == prompt.unsafe[0]:
        safe, unsafe = (prompt.chat.tokenizer.decode(list(ids)) for ids in (prompt.safe, prompt.unsafe))
        raise BundleError(
            f"{path}: {safe!r} and {unsafe!r} start with the same token ({prompt.safe[0]}), which must "
            "decide; use another tokenizer"
        )
