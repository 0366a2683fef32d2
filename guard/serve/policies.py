"""The policies that requests bring or name, each read once."""

from __future__ import annotations

from functools import lru_cache

from guard import policy as policies
from guard.errors import InvalidInput, PolicyError
from guard.policy import Policy
from guard.serve.limits import Limits
from guard.v1 import moderation_pb2 as pb

KEPT = 64  # of at most `policy_characters` each


class Policies:
    """Finds the policy of a request. Thread-safe; the ones last used are kept, so that their digests are too."""

    def __init__(self, own: Policy, limits: Limits) -> None:
        self.own, self.limits = own, limits
        self._kept = lru_cache(KEPT)(self._find)

    def of(self, options: pb.ModerationOptions) -> Policy:
        """The policy that the options ask for, less what they exclude. Raises InvalidInput or PolicyError."""
        if len(options.exclude) > self.limits.exclude_codes:
            raise InvalidInput(
                f"exclude has {len(options.exclude)} codes; this server takes {self.limits.exclude_codes}"
            )
        characters = len(options.policy_yaml)
        if characters > self.limits.policy_characters:
            raise InvalidInput(
                f"policy_yaml has {characters} characters; this server takes {self.limits.policy_characters}"
            )
        which = options.WhichOneof("policy")
        return self._kept(which, getattr(options, which) if which else "", tuple(options.exclude))

    def _find(self, which: str | None, text: str, exclude: tuple[str, ...]) -> Policy:
        if which == "policy_yaml":
            found = policies.from_text(text, "policy_yaml")
        elif which is None or text == self.own.id:
            found = self.own
        elif text in (shipped := policies.shipped()):  # never a path: a request must not read the server's files
            found = policies.load(text)
        else:
            known = ", ".join(sorted({self.own.id, *shipped}))
            raise PolicyError(f"no policy {text[:80]!r} here; known: {known}; send any other as policy_yaml")
        return found.without(exclude)
