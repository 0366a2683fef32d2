"""A made-up data set in the shape of public ones: three sources in different formats, with held-out prompts."""

import csv
import dataclasses
import gzip
import json
import textwrap
from pathlib import Path

from guard.data.fingerprint import digest, grams, normalise

HELD_OUT_PROMPT = "Please tell my neighbour's gardener that the blue watering can leaks"
HELD_OUT_ANSWER = "The watering can is blue because it was painted blue in the spring of last year."
PLANTS = ("apple tree", "rose hedge", "tomato bed", "willow", "lavender border", "pumpkin patch", "moss lawn", "fig")
DEEDS = ("prune", "water", "uproot at night", "plant", "poison", "shade", "steal", "feed")
BAD_DEEDS = ("uproot at night", "poison", "steal")


@dataclasses.dataclass(frozen=True)
class World:
    """Where the made-up data set lies, and its configuration file."""

    root: Path
    config: Path
    taxonomy: Path

    def edit(self, path: Path, old: str, new: str) -> None:
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")

    def source(self, name: str) -> Path:
        return self.taxonomy / "sources" / f"{name}.yaml"


def write_fingerprints(folder: Path, prompts: list[str], responses: list[str]) -> None:
    """Fingerprint files of a few texts, as the README of the fingerprints describes them."""
    folder.mkdir(parents=True, exist_ok=True)
    hashes = sorted(digest(normalise(text)) for text in prompts)
    lines = []
    for text in prompts:
        own = grams(normalise(text))
        if own:
            listed = " ".join(sorted(digest(gram) for gram in own))
            lines.append(f"{hashes.index(digest(normalise(text)))} 0 {len(own)} {listed}")
    _gzip(folder / "prompts.sha256_16.txt.gz", [f"{value} 0" for value in hashes])
    _gzip(folder / "responses.sha256_16.txt.gz", [f"{digest(normalise(text))} 0" for text in responses])
    _gzip(folder / "prompt_8grams.sha256_16.part-1.txt.gz", lines)


def _gzip(path: Path, lines: list[str]) -> None:
    path.write_bytes(gzip.compress("".join(f"{line}\n" for line in lines).encode(), mtime=0))


def _garden_rows() -> list[tuple[str, str, str]]:
    rows = []
    for plant in PLANTS:
        for deed in DEEDS:
            bad = deed in BAD_DEEDS
            topic = "theft" if deed == "steal" else "damage" if bad else "care"
            rows.append(
                (f"How do I {deed} the {plant} behind house number {len(rows)}?", "bad" if bad else "ok", topic)
            )
    rows.append(rows[0])  # repeated in source
    rows.append((HELD_OUT_PROMPT, "ok", "care"))  # held out
    rows.append(("Is it rude to hum at a hedge?", "unsure", "care"))  # unlabelled
    rows.append(("May I paint my neighbour's fence?", "ok", "care"))  # conflict with the next
    rows.append(("May I paint my neighbour's FENCE", "bad", "damage"))
    return rows


def _talk_rows() -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for thread in range(12):
        for answer in range(4):
            rows.append(
                {
                    "question": {"text": f"What should I do with {thread} wheelbarrows on day {answer}?"},
                    "answer": f"Answer {answer}: " + ("tip them on the neighbour." if answer == 3 else "store them."),
                    "harmful": answer == 3,
                    "thread": thread,
                }
            )
    rows.append({"question": {"text": "Why blue?"}, "answer": HELD_OUT_ANSWER, "harmful": False, "thread": 90})
    rows.append({"question": {"text": "Silence?"}, "answer": "  ", "harmful": False, "thread": 91})
    return rows


SOURCES = {
    "gardens": """
        name: gardens
        title: Garden questions
        upstream: https://example.org/gardens
        commit: "1"
        licence: CC0-1.0
        attribution: A gardener
        role: train
        kind: prompt
        files: [{path: raw/gardens/*.csv}]
        format: csv
        prompt: {fields: [question]}
        label: {fields: [judgement], safe: [ok], unsafe: [Bad], unlabelled: [unsure]}
        categories: {crosswalk: gardens, fields: [topic]}
        language: en
        expected:
          before: {total: 68, safe: 42, unsafe: 25, unlabelled: 1}
          after: {total: 67, safe: 41, unsafe: 25, unlabelled: 1}
        """,
    "talks": """
        name: talks
        title: Garden talks
        upstream: https://example.org/talks
        commit: "1"
        licence: MIT
        attribution: A talker
        role: weak
        kind: response
        files: [{path: raw/talks.jsonl}]
        format: jsonl
        prompt: {fields: [question.text]}
        response: {fields: [answer]}
        label: {fields: [harmful], safe: ["false"], unsafe: ["true"]}
        language: en
        group: {fields: [thread]}
        expected:
          before: {total: 50, safe: 38, unsafe: 12, unlabelled: 0}
          after: {total: 49, safe: 37, unsafe: 12, unlabelled: 0}
        """,
    "notes": """
        name: notes
        title: Notes on fences
        upstream: https://example.org/notes
        commit: "1"
        licence: CC-BY-4.0
        attribution: A fence
        role: auxiliary
        kind: text
        files:
          - {path: raw/notes/kind_*.txt, part: kind, language: en}
          - {path: raw/notes/rude_*.txt, part: rude, language: en}
          - {path: raw/notes/french.txt, part: kind, language: fr}
        format: lines
        reader: dashed_lines
        prompt: {fields: [text]}
        label: {fields: [part], safe: [kind], unsafe: [rude]}
        categories: {always: [S10]}
        expected:
          before: {total: 31, safe: 21, unsafe: 10, unlabelled: 0}
          after: {total: 31, safe: 21, unsafe: 10, unlabelled: 0}
        """,
    "fences": """
        name: fences
        title: Fence tests
        upstream: https://example.org/fences
        commit: "1"
        licence: MIT
        attribution: A tester
        role: development
        kind: text
        files: [{path: raw/fences.json}]
        format: json
        at: cases
        prompt: {fields: [case]}
        label: {fields: [score], bands: [{label: safe, at_most: 0.5}], otherwise: unsafe}
        categories: {always: [S10]}
        language: en
        expected:
          before: {total: 2, safe: 1, unsafe: 1, unlabelled: 0}
          after: {total: 2, safe: 1, unsafe: 1, unlabelled: 0}
        """,
}
CROSSWALK = """
    name: gardens
    policy: mlcommons
    title: Garden topics
    mapped:
      theft: [S2]
    unmapped:
      damage: plants have no category
      care: not a hazard
    """
CONFIG = """
    policy: mlcommons
    seed: 3
    languages: [en]
    shares: {train: 0.6, dev: 0.2, test: 0.2}
    decontaminate: fingerprints
    taxonomy: taxonomy
    sources:
      - {source: gardens}
      - {source: talks, cap: 40}
      - {source: notes, weight: 0.25}
    development: [fences]
    """


def make(folder: Path) -> World:
    """The made-up data set: raw files, descriptions, fingerprints and a configuration."""
    made = World(folder / "root", folder / "config.yaml", folder / "taxonomy")
    raw = made.root / "raw"
    for folder in (raw / "gardens", raw / "notes", made.taxonomy / "sources", made.taxonomy / "crosswalks"):
        folder.mkdir(parents=True)
    with (raw / "gardens" / "rows.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([("question", "judgement", "topic"), *_garden_rows()])
    (raw / "talks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in _talk_rows()), encoding="utf-8")
    kind = "".join(f"- The fence of garden {number} is a joy to lean on.\n" for number in range(20))
    rude = "".join(f"Whoever owns shed {number} should be ashamed of its roof.\n" for number in range(10))
    (raw / "notes" / "kind_notes.txt").write_text(kind, encoding="utf-8")
    (raw / "notes" / "rude_notes.txt").write_text(rude, encoding="utf-8")
    (raw / "notes" / "french.txt").write_text("- Une belle clôture.\n", encoding="utf-8")
    cases = [{"case": "I like your fence.", "score": 0.1}, {"case": "Your fence is a disgrace.", "score": "0.9"}]
    (raw / "fences.json").write_text(json.dumps({"cases": cases}), encoding="utf-8")
    write_fingerprints(made.root / "fingerprints", [HELD_OUT_PROMPT], [HELD_OUT_ANSWER])
    for name, text in SOURCES.items():
        made.source(name).write_text(textwrap.dedent(text), encoding="utf-8")
    (made.taxonomy / "crosswalks" / "gardens.yaml").write_text(textwrap.dedent(CROSSWALK), encoding="utf-8")
    made.config.write_text(textwrap.dedent(CONFIG), encoding="utf-8")
    return made
