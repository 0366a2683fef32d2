"""The names under which wire formats know the service: `guard`, the names of OpenAI's models, and its policies."""

from __future__ import annotations

from guard.errors import UnknownPolicy, nearest
from guard.serve.core.request import Options
from guard.serve.http.translator import Context

OWN = "guard"
# What clients of OpenAI send unless told otherwise: the service's own policy.
ALIASES = ("omni-moderation-latest", "omni-moderation-2024-09-26", "text-moderation-latest", "text-moderation-stable")


def name(context: Context) -> str:
    """The name of the model that answers."""
    return f"{OWN}-{context.model[:12]}"


def options(model: str | None, context: Context, what: str = "model") -> Options:
    """The options that a model's name stands for. Raises UnknownPolicy, which names those that exist."""
    if model in (None, OWN, name(context), *ALIASES):
        return Options()
    if model in context.policies:
        return Options(model)
    near = nearest(str(model), (OWN, *ALIASES, *context.policies))
    hint = f"did you mean {near!r}? Known" if near else "known"
    raise UnknownPolicy(
        f"unknown {what} {str(model)[:80]!r}; {hint}: {', '.join((OWN, *ALIASES[:1]))} (the service's own policy), or "
        f"a policy: {', '.join(context.policies)}"
    )
