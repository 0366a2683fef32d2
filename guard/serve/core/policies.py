"""The policies of requests, sent or by name, each parsed once."""

from __future__ import annotations

from functools import lru_cache

from guard import policy as policies
from guard.errors import InvalidInput, UnknownPolicy
from guard.policy import Policy
from guard.serve.core.request import Options, PolicyText
from guard.serve.limits import Limits

KEPT = 64  # of at most `policy_characters` each


class Policies:
    """Resolves the policy of a request. Thread-safe; recently used ones are cached, and with them their digests."""

    def __init__(self, own: Policy, limits: Limits) -> None:
        self.own, self.limits = own, limits
        self.names = own.id, *(name for name in policies.shipped() if name != own.id)  # what requests may name
        self._kept = lru_cache(KEPT)(self._resolve)

    def of(self, options: Options) -> Policy:
        """The policy of the options, without excluded codes. Raises InvalidInput or PolicyError."""
        if len(options.exclude) > self.limits.exclude_codes:
            raise InvalidInput(f"exclude has {len(options.exclude)} codes, must be <= {self.limits.exclude_codes}")
        if isinstance(options.policy, PolicyText):
            characters = len(options.policy.text)
            if characters > self.limits.policy_characters:
                raise InvalidInput(
                    f"policy_yaml has {characters} characters, must be <= {self.limits.policy_characters}"
                )
        return self._kept(options.policy, options.exclude)

    def _resolve(self, choice: str | PolicyText | Policy | None, exclude: tuple[str, ...]) -> Policy:
        if isinstance(choice, PolicyText):
            policy = policies.from_text(choice.text, "policy_yaml")
        elif isinstance(choice, Policy):
            policy = choice
        elif choice is None or choice == self.own.id:
            policy = self.own
        elif choice in self.names:  # never a path: a request must not read the server's files
            policy = policies.load(choice)
        else:
            known = ", ".join(sorted(self.names))
            raise UnknownPolicy(f"unknown policy {choice[:80]!r}; known: {known}; send any other as policy_yaml")
        return policy.without(exclude)
