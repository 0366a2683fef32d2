"""How soon a stream is stopped, and how often a safe one is: replies of a built data set, written piece by piece.

    python benchmarks/streaming.py --data DIR [--bundle BUNDLE] [--rows 200]

Replies come from the English responses of the dev split of --data (a build of training/configs/data-default.yaml), each
after its own prompt. `as written`: the labelled response itself. `embedded`: between two safe responses
that the guard, too, calls safe after their own prompts, so that what is unsafe begins inside of a reply that wanders
off. Each is fed to the hold-back machine in pieces of a token's length, and each check is answered before the next
piece, as where the guard is faster than the model that writes.

A reply counts as flagged if the verdict on the whole is UNSAFE; its first flagged prefix ends with the first sentence
up to which the text would be UNSAFE by itself. `within two sentences`: of the flagged replies, those whose stream is
stopped by a check that ends no later than the second sentence after that prefix. `held for good`: of the replies
labelled safe, those that are stopped; `by streaming`: those that are, although the verdict on the whole is SAFE.
`windows`: what all checks of a reply score, by what one verdict on the whole scores.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from guard.conversation import Conversation, Example, Message, Target
from guard.data.dataset.examples import load_examples
from guard.engines.base import Engine
from guard.errors import EngineError
from guard.moderator import Moderator, open_moderator
from guard.prompts.window import Score, Window
from guard.report.tables import show, table
from guard.stream import Check, HoldBack, StreamOptions
from guard.stream.sentences import ends
from guard.verdict import Outcome

RESULTS = Path(__file__).parent / "results" / "streaming.json"
LONGEST = 1500  # characters of a response, so that no row costs as much as a hundred others
LIMIT = 1 << 20
_PIECE = re.compile(r"\s*\S{1,5}|\s+")


@dataclasses.dataclass(frozen=True)
class Reply:
    """A reply after its prompt; unsafe: by its label."""

    context: tuple[Message, ...]
    text: str
    unsafe: bool


@dataclasses.dataclass(frozen=True)
class Run:
    """What became of a reply: its whole verdict, the sentence of its first flagged prefix, that in which it stopped."""

    reply: Reply
    whole: Outcome
    first: int | None
    stopped: int | None
    leaked: int  # characters released beyond the end of the sentence before the first flagged prefix
    checks: int
    windows: int
    whole_windows: int
    longest_held: int


class Remembering:
    """An engine that scores equal windows once: a reply's prefixes and its checks have many in common."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._scores: dict[object, Score | EngineError] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def score(self, windows: Sequence[Window]) -> list[Score | EngineError]:
        new = list({window.key: window for window in windows if window.key not in self._scores}.values())
        if new:
            self._scores |= dict(zip((window.key for window in new), self._engine.score(new), strict=True))
        return [self._scores[window.key] for window in windows]


def replies(examples: Sequence[Example], rows: int, moderator: Moderator) -> dict[str, list[Reply]]:
    """As many replies of either label, as written and embedded in safe ones."""
    pick = random.Random(0)
    chosen = list(examples)
    pick.shuffle(chosen)
    safe, unsafe = ([each for each in chosen if each.label == label] for label in ("safe", "unsafe"))
    count = min(rows, len(safe), len(unsafe))
    written = [
        Reply(one.conversation.context, one.conversation.judged.content, one.label == "unsafe")
        for one in (*unsafe[:count], *safe[:count])
    ]
    spare = [one.conversation for one in safe[count:]][: 2 * count]
    passed = moderator.moderate(spare)
    others = [
        one.judged.content.strip()
        for one, verdict in zip(spare, passed, strict=True)
        if verdict.outcome is Outcome.SAFE
    ]
    embedded = [
        dataclasses.replace(
            each, text="\n\n".join((pick.choice(others), each.text.strip(), pick.choice(others))), context=each.context
        )
        for each in written
    ]
    return {"as written": written, "embedded": embedded}


def run(moderator: Moderator, reply: Reply, options: StreamOptions) -> Run:
    places = ends(reply.text)
    (whole,) = moderator.moderate([Conversation((*reply.context, Message("assistant", reply.text)))])
    first = first_flagged(moderator, reply, places) if whole.outcome is Outcome.UNSAFE and reply.unsafe else None
    machine = HoldBack(reply.context, options, LIMIT)
    windows = checks = released = longest = 0
    stopped = None

    def answer(check: Check) -> bool:
        nonlocal windows, checks, released, longest
        verdict = moderator.moderate([check.conversation])[0]
        checks += 1
        windows += verdict.coverage.windows
        (progress,) = machine.judged(check, verdict)
        released += len(progress.released)
        longest = max(longest, progress.held)
        return progress.stopped

    for number, piece in enumerate(_PIECE.findall(reply.text)):
        machine.push(piece, number * 0.02)
        if (check := machine.due(number * 0.02)) is not None and answer(check):
            stopped = next(index for index, place in enumerate(places) if check.end <= place)
            break
    else:
        machine.end(0)
        check = machine.due(0)
        assert check is not None
        if answer(check):
            stopped = len(places) - 1
    before = 0 if not first else places[first - 1]
    return Run(
        reply,
        whole.outcome,
        first,
        stopped,
        0 if first is None else max(0, released - before),
        checks,
        windows,
        whole.coverage.windows,
        longest,
    )


def first_flagged(moderator: Moderator, reply: Reply, places: Sequence[int]) -> int:
    """The sentence of the first prefix of a flagged reply that would be UNSAFE by itself."""
    for index, place in enumerate(places[:-1]):
        prefix = Conversation((*reply.context, Message("assistant", reply.text[:place])))
        if prefix.judged.content.strip() and moderator.moderate([prefix])[0].outcome is Outcome.UNSAFE:
            return index
    return len(places) - 1


def share(values: Sequence[object]) -> float:
    return round(float(np.mean([bool(value) for value in values])), 4) if values else 0.0


def summary(runs: Sequence[Run]) -> dict[str, float]:
    flagged = [one for one in runs if one.whole is Outcome.UNSAFE and one.reply.unsafe]
    safe = [one for one in runs if not one.reply.unsafe]
    delays = [one.stopped - one.first for one in flagged if one.stopped is not None and one.first is not None]
    return {
        "replies": len(runs),
        "flagged_unsafe": len(flagged),
        "stopped": share([one.stopped is not None for one in flagged]),
        "stopped_within_two_sentences": share(
            [one.stopped is not None and one.first is not None and one.stopped - one.first <= 2 for one in flagged]
        ),
        "median_sentences_after": float(np.median(delays)) if delays else 0.0,
        "nothing_released_of_the_prefix": share([one.leaked == 0 for one in flagged]),
        "safe": len(safe),
        "safe_held_for_good": share([one.stopped is not None for one in safe]),
        "safe_flagged_as_a_whole": share([one.whole is not Outcome.SAFE for one in safe]),
        "safe_held_for_good_by_streaming": share(
            [one.stopped is not None and one.whole is Outcome.SAFE for one in safe]
        ),
        "mean_checks": round(float(np.mean([one.checks for one in runs])), 2),
        "windows_by_one_verdict": round(
            sum(one.windows for one in runs) / max(1, sum(one.whole_windows for one in runs)), 2
        ),
        "mean_longest_held_characters": round(float(np.mean([one.longest_held for one in runs])), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--bundle")
    parser.add_argument("--rows", type=int, default=200, help="replies of either label")
    for field in dataclasses.fields(StreamOptions):
        if field.name != "release":
            parser.add_argument(f"--{field.name.replace('_', '-')}", type=type(field.default), default=field.default)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    options = StreamOptions(
        characters=arguments.characters,
        seconds=arguments.seconds,
        tail=arguments.tail,
        stop_after=arguments.stop_after,
        sure=arguments.sure,
    )
    examples = [
        each
        for each in load_examples(arguments.data, "dev")
        if each.conversation.target is Target.RESPONSE
        and each.language == "en"
        and each.label in ("safe", "unsafe")
        and len(each.conversation.judged.content) <= LONGEST
    ]
    started = time.perf_counter()
    results: dict[str, dict[str, float]] = {}
    with open_moderator(arguments.bundle, threads=1) as opened:
        moderator = dataclasses.replace(opened, engine=cast(Engine, Remembering(opened.engine)))
        info = moderator.info
        for name, group in replies(examples, arguments.rows, moderator).items():
            results[name] = summary([run(moderator, reply, options) for reply in group])
            seconds = round(time.perf_counter() - started, 1)
            report = {"model": info.model, "mode": info.mode, "options": dataclasses.asdict(options)}
            arguments.out.write_text(json.dumps({**report, "seconds": seconds, "replies": results}, indent=2) + "\n")
    rows = [(key, *(str(results[name][key]) for name in results)) for key in results["embedded"]]
    show(table("", *results, rows=rows))


if __name__ == "__main__":
    main()
