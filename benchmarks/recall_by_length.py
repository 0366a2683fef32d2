"""What a guard still finds of a short harmful text that lies in a long harmless one, and how often it flags the latter.

python benchmarks/recall_by_length.py [--bundle BUNDLE_OR_RUN] [--data DIR]

Harm: unsafe English prompts of the dev split, at most 300 characters. Cover: stretches of the ordinary safe prompts
and replies of the dev and test splits, one after another; what was written to be nearly unsafe is not among them. At
each length a harmful text takes the place of as many tokens of a cover, at its start, middle, end or anywhere, which
changes from length to length. Lengths are in the guard's tokens. All of it is judged as a user's message. Long covers
overlap, so that intervals there are narrower than those of independent texts.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from guards import core_count, open_guard
from tokenizers import Tokenizer

from guard.conversation import Conversation
from guard.data.dataset.examples import load_examples
from guard.engines.base import Engine
from guard.errors import EngineError
from guard.metrics import classification, intervals
from guard.metrics.classification import Floats
from guard.moderator import Moderator
from guard.prompts.encoder import EncoderInput
from guard.prompts.window import Score, Window

RESULTS = Path(__file__).parent / "results" / "recall_by_length.json"
LENGTHS = (100, 250, 500, 1000, 2000, 4000, 8000, 16000)
PLACES = ("start", "middle", "end", "random")
SHORT = 300  # characters
LANGUAGE = "en"
GAP = "\n\n"
ORDINARY = frozenset(  # sources whose safe rows are what people ask and assistants answer, not tests of a guard
    {
        "arena_hard",
        "certified_safe_prompts",
        "dolly_safety_subset",
        "gpteacher",
        "llamafactory_demo",
        "purplellama_instruct",
        "self_instruct_seed",
        "wildchat_benign_300",
    }
)


@dataclass(frozen=True, slots=True, repr=False)
class Text:
    """One text to judge. harm: characters where the harmful part begins and ends, None in a harmless text."""

    content: str
    length: int
    harm: tuple[int, int] | None = None
    place: str = ""


@dataclass(frozen=True, slots=True)
class Judged:
    """What the guard said. located: whether the window that decided touches the harmful part."""

    p_unsafe: float
    threshold: float
    located: bool = False


def harmful(data: Path, count: int) -> list[str]:
    rows = (e for e in load_examples(data, "dev") if (e.label, e.kind, e.language) == ("unsafe", "prompt", LANGUAGE))
    found = [e.conversation.judged.content for e in rows]
    return random.Random(0).sample([text for text in found if len(text) <= SHORT], count)


def harmless(data: Path) -> tuple[list[str], list[str]]:
    """Short safe prompts, and all ordinary safe prompts and replies."""
    safe = [
        e
        for split in ("dev", "test")
        for e in load_examples(data, split)
        if (e.label, e.language) == ("safe", LANGUAGE) and e.kind != "text"
    ]
    texts = [(e.kind, e.source, e.conversation.judged.content.strip()) for e in safe]
    short = [text for kind, _, text in texts if kind == "prompt" and len(text) <= SHORT]
    return short, [text for _, source, text in texts if source in ORDINARY]


class Remembering:
    """An engine that scores no window twice: covers share theirs, and harm changes the few that it touches."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known: dict[object, Score | EngineError] = {}
        self.info, self.renderer = engine.info, engine.renderer
        self.tokenize, self.prepare, self.cost = engine.tokenize, engine.prepare, engine.cost
        self.warm, self.close = engine.warm, engine.close

    def score(self, windows: Sequence[Window]) -> list[Score | EngineError]:
        new = {window.key: window for window in windows if window.key not in self._known}
        self._known.update(zip(new, self._engine.score(list(new.values())), strict=True))
        return [self._known[window.key] for window in windows]


@dataclass(frozen=True, slots=True, repr=False)
class Tape:
    """Harmless texts one after another, the character at which each token begins, and the tokens that begin a word."""

    content: str
    begins: tuple[int, ...]
    words: frozenset[int]

    @classmethod
    def of(cls, pieces: Sequence[str], tokenizer: Tokenizer) -> Tape:
        content = GAP.join(random.Random(0).sample(pieces, len(pieces)))
        begins = [begin for begin, _ in tokenizer.encode(content, add_special_tokens=False).offsets]
        words = (index for index, begin in enumerate(begins) if begin == 0 or content[begin - 1].isspace())
        return cls(content, tuple(begins), frozenset(words))

    def between(self, start: int, end: int) -> str:
        return self.content[self.begins[start] : self.begins[end]].rstrip()

    def starts(self, count: int, longest: int, stride: int) -> list[int]:
        """Tokens at which covers begin, spread over the tape: multiples of the windows' stride, so that those agree."""
        found = [at for at in range(0, len(self.begins) - longest - 1, stride) if at in self.words]
        if len(found) < count:
            raise SystemExit(f"the harmless texts have {len(self.begins)} tokens, too few for {count} of {longest}")
        return [found[index * len(found) // count] for index in range(count)]

    def length(self, start: int, tokens: int) -> int:
        """At most `tokens`, so that a cover of them ends with a word."""
        return next(size for size in range(tokens, 0, -1) if start + size in self.words)


def hidden(tape: Tape, start: int, length: int, harm: str, tokens: int, place: str, chance: float) -> tuple[str, int]:
    """The cover with `harm` in place of as many tokens, near `place`, and the character where the harm begins."""
    share = {"start": 0.0, "middle": 0.5, "end": 1.0}.get(place, chance)
    fits = (at for at in range(length - tokens + 1) if {start + at, start + at + tokens} <= tape.words)
    at = min(fits, key=lambda at: abs(at - share * (length - tokens)), default=None)
    if at is None:  # the harm is as long as the whole
        return harm, 0
    before = tape.between(start, start + at)
    after = tape.between(start + at + tokens, start + length)
    opening = before + GAP if before else ""
    return opening + harm + (GAP + after if after else ""), len(opening)


def judge(guard: Moderator, texts: Sequence[Text]) -> list[Judged]:
    found = []
    for text, verdict in zip(texts, guard.moderate([Conversation.of(text.content) for text in texts]), strict=True):
        start, end = verdict.coverage.worst_start, verdict.coverage.worst_end
        located = text.harm is not None and start < text.harm[1] and text.harm[0] < end
        found.append(Judged(verdict.p_unsafe, verdict.threshold, located))
    return found


def judged_in_covers(
    guard: Moderator, harms: Sequence[str], pieces: Sequence[str], covers: int, lengths: Sequence[int]
) -> list[tuple[Text, Judged]]:
    reader: EncoderInput = guard.engine.input  # type: ignore[attr-defined]
    guard = dataclasses.replace(guard, engine=Remembering(guard.engine))
    tape = Tape.of(pieces, reader.tokenizer)
    size = reader.max_tokens - 3  # a window's, less [CLS], role and [SEP]
    chance = random.Random(0)
    found: list[tuple[Text, Judged]] = []
    for number, start in enumerate(tape.starts(covers, max(lengths), size - reader.overlap)):
        sizes = {length: tape.length(start, length) for length in lengths}
        made = [Text(tape.between(start, start + sizes[length]), length) for length in lengths]
        for index in range(number, len(harms), covers):
            harm = harms[index]
            tokens = len(reader.tokenizer.encode(harm, add_special_tokens=False).ids)
            for turn, length in enumerate(lengths):
                place = PLACES[(index // covers + number + turn) % len(PLACES)]
                content, at = hidden(tape, start, sizes[length], harm, tokens, place, chance.random())
                made.append(Text(content, length, (at, at + len(harm)), place))
        found += zip(made, judge(guard, made), strict=True)
    return found


def rates(harm: Floats, plain: Floats, threshold: float) -> dict[str, Any]:
    """Recall and false-positive rate with 95 % intervals."""
    labels = np.array([True] * len(harm) + [False] * len(plain))
    flagged = np.concatenate([harm, plain]) >= threshold
    at = classification.confusion(labels, flagged.astype(float), 0.5)
    between = intervals.of_rates(labels, flagged)
    return {"recall": at.recall, "recall_interval": between["recall"], "fpr": at.fpr, "fpr_interval": between["fpr"]}


def measured(
    rows: Sequence[tuple[Text, Judged]], alone: Floats, short: Floats, cuts: Mapping[str, float]
) -> dict[str, Any]:
    """Rates at each threshold of `cuts`, of the short texts and at each length."""
    result: dict[str, Any] = {"short": {name: rates(alone, short, at) for name, at in cuts.items()}, "lengths": {}}
    for length in sorted({text.length for text, _ in rows}):
        here = [(text, found) for text, found in rows if text.length == length]
        harm = [(text, found) for text, found in here if text.harm]
        hit, plain = (np.array([f.p_unsafe for t, f in here if bool(t.harm) is unsafe]) for unsafe in (True, False))
        labels = np.array([True] * len(hit) + [False] * len(plain))
        told: dict[str, Any] = {"auroc": classification.auroc(labels, np.concatenate([hit, plain]))}
        for name, at in cuts.items():
            told[name] = rates(hit, plain, at)
            told[name]["recall_to_short"] = told[name]["recall"] / result["short"][name]["recall"]
            told[name]["located"] = float(np.mean([f.p_unsafe >= at and f.located for _, f in harm]))
            told[name]["recall_of"] = {
                place: float(np.mean([f.p_unsafe >= at for t, f in harm if t.place == place]))
                for place in PLACES
                if any(t.place == place for t, _ in harm)
            }
        result["lengths"][str(length)] = told
    return result


def shown(result: Mapping[str, Any]) -> str:
    lines = [f"thresholds: {', '.join(f'{name} p ≥ {at:.3f}' for name, at in result['thresholds'].items())}"]
    head = f"{'tokens':>8}{'AUROC':>8}"
    for name in result["thresholds"]:
        head += f"  | {name:>9}: recall  ratio  located    FPR"
    lines.append(head)
    short = "".join(f"  | {at['recall']:>17.2f}{1:>7.2f}{'':>9}{at['fpr']:>7.2f}" for at in result["short"].values())
    lines.append(f"{'short':>8}{result['short_auroc']:>8.3f}{short}")
    for length, told in result["lengths"].items():
        cells = "".join(
            f"  | {at['recall']:>17.2f}{at['recall_to_short']:>7.2f}{at['located']:>9.2f}{at['fpr']:>7.2f}"
            for at in (told[name] for name in result["thresholds"])
        )
        lines.append(f"{length:>8}{told['auroc']:>8.3f}{cells}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, help="a bundle or a run's folder; the shipped guard if left out")
    parser.add_argument("--data", type=Path, default=Path("data/default"))
    parser.add_argument("--harms", type=int, default=120)
    parser.add_argument("--covers", type=int, default=60)
    parser.add_argument("--lengths", type=int, nargs="+", default=list(LENGTHS))
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    started = time.perf_counter()
    guard = open_guard(options.bundle, options.threads)
    harms = harmful(options.data, options.harms)
    prompts, pieces = harmless(options.data)
    single = judge(guard, [Text(text, 0) for text in harms])
    alone = np.array([found.p_unsafe for found in single])
    short = np.array([found.p_unsafe for found in judge(guard, [Text(text, 0) for text in prompts])])
    ranked = np.sort(short)[::-1]
    # The lowest threshold that flags at most 5 % of the short harmless texts.
    five = float(np.nextafter(ranked[int(0.05 * len(ranked))], 1.0))
    cuts = {guard.mode: single[0].threshold, "FPR 5 %": five}
    rows = judged_in_covers(guard, harms, pieces, options.covers, options.lengths)
    labels = np.array([True] * len(alone) + [False] * len(short))
    result = {
        "command": "python benchmarks/recall_by_length.py" + (" --bundle BUNDLE" if options.bundle else ""),
        "model": guard.engine.info.digest,
        "harmful_texts": len(harms),
        "harmless_texts": options.covers,
        "short_harmless_texts": len(prompts),
        "thresholds": cuts,
        "short_auroc": classification.auroc(labels, np.concatenate([alone, short])),
        **measured(rows, alone, short, cuts),
        "wall_s": round(time.perf_counter() - started),
        "cores": core_count(),
    }
    options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(shown(result))


if __name__ == "__main__":
    main()
