"""Languages that a model was not trained for: said in the verdict, and never SAFE unless the server wants it so."""

from __future__ import annotations

import dataclasses
import logging
from typing import Literal, get_args

from guard.data.ingest.language import MIN_CHARACTERS, MIN_CONFIDENCE
from guard.data.row import UNKNOWN_LANGUAGE
from guard.errors import MissingExtra, check_installed
from guard.verdict import Language, Outcome, Verdict

log = logging.getLogger("guard.serve")
UnsupportedLanguage = Literal["incomplete", "judge"]
RULES: tuple[UnsupportedLanguage, ...] = get_args(UnsupportedLanguage)


def identifies(languages: tuple[str, ...]) -> bool:
    """Whether languages can be identified, for a model that states which ones it was trained for (BCP 47 tags).

    Logs where it would matter and they cannot.
    """
    try:
        check_installed("py3langid", "language")
    except MissingExtra as missing:
        if languages:
            log.warning(
                "languages are not identified, and texts in others than the model's (%s) are judged all the same: %s",
                ", ".join(languages),
                missing,
            )
        return False
    return bool(languages)


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
