"""Languages that a model was not trained for: said in the verdict, and never SAFE unless the server wants it so."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Literal, get_args

from guard.conversation import Conversation
from guard.data.ingest.language import MIN_CHARACTERS, MIN_CONFIDENCE, identify
from guard.data.row import UNKNOWN_LANGUAGE
from guard.errors import GuardError
from guard.moderator import Moderator
from guard.verdict import Language, Outcome, Verdict

UnsupportedLanguage = Literal["incomplete", "judge"]
RULES: tuple[UnsupportedLanguage, ...] = get_args(UnsupportedLanguage)
Noting = Callable[[Sequence[Conversation], Sequence[Verdict | GuardError]], list[Verdict | GuardError]]
_WORD = re.compile(r"[^\W\d_]+")
# The commonest words without a meaning of their own; few of them are words elsewhere.
_ENGLISH = frozenset(
    """a about all an and any are as at be been but by can could did do does for from had has have he her his how i if
    in into is it its just like me more my no not of on or our she should so some than that the their them then there
    these they this to up was we were what when where which who why will with would you your""".split()  # noqa: SIM905
)
_MOST_WORDS = 60  # from the start
_SURE_SHARE = 0.25


def noted(
    verdict: Verdict, text: str, found: tuple[str, float], supported: tuple[str, ...], rule: UnsupportedLanguage
) -> Verdict:
    """The verdict on a text, with its language where it has one.

    found: what guard.data.ingest.language.identify says of the text. supported: BCP 47 tags of the model. Under the
    rule `incomplete` a text that is identified with confidence as another language is unjudged, so that SAFE becomes
    INCOMPLETE; what is flagged stays flagged.
    """
    code, probability = found
    if code == UNKNOWN_LANGUAGE:
        return verdict
    known = code in {tag.partition("-")[0].lower() for tag in supported}
    said = dataclasses.replace(verdict, language=Language(code, probability, known))
    if known or rule == "judge" or len(text) < MIN_CHARACTERS or probability < MIN_CONFIDENCE:
        return said
    said = dataclasses.replace(said, unjudged=(*verdict.unjudged, f"language: {code}"))
    monitor = verdict.monitor
    if monitor is not None and monitor.outcome is Outcome.SAFE:
        said = dataclasses.replace(said, monitor=dataclasses.replace(monitor, outcome=Outcome.INCOMPLETE))
    if verdict.outcome is Outcome.SAFE and not (monitor and len(monitor.codes) == len(verdict.categories)):
        said = dataclasses.replace(said, outcome=Outcome.INCOMPLETE)
    return said


def noting(guard: object, rule: UnsupportedLanguage) -> Noting:
    """What notes the languages of what a guard in this process has judged; a service does it itself.

    What is plainly English is not identified where the model knows English: to load what identifies languages takes
    longer than a verdict, and 100 MB.
    """
    languages = guard.engine.info.languages if isinstance(guard, Moderator) else ()
    english = any(tag.partition("-")[0].lower() == "en" for tag in languages)

    def note(conversation: Conversation, answer: Verdict | GuardError) -> Verdict | GuardError:
        text = conversation.judged.content
        if not languages or not isinstance(answer, Verdict) or (english and plainly_english(text)):
            return answer
        return noted(answer, text, identify(text), languages, rule)

    return lambda conversations, answers: list(map(note, conversations, answers))


def plainly_english(text: str) -> bool:
    """Whether a quarter of the first words are among the commonest English ones."""
    words = [found[0].lower() for found, _ in zip(_WORD.finditer(text), range(_MOST_WORDS), strict=False)]
    return bool(words) and sum(word in _ENGLISH for word in words) >= _SURE_SHARE * len(words)
