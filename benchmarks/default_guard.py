"""Guards side by side on the stand-ins by which the shipped guard is chosen, so that no public test set decides it.

    python benchmarks/default_guard.py BUNDLE [BUNDLE …] --data DIR [--rows 800]

BUNDLE is a folder or the name of a guard, DIR a `guard data build` folder. Every guard judges the same rows, drawn
with a seed: held-out rows of the data; harmless prompts that sound harmful; technical texts of this machine; pairs of
twins in twelve languages and by phenomenon (benchmarks/twins), which no guard may be trained on; rules that no training
row has; disguised prompts. Rates are those at the guard's own thresholds, `best F1` and `recall at 5 %` name their own;
`recall .80` is the highest threshold that flags 80 % of the unsafe English dev prompts. In brackets: 95 % bootstrap
intervals. Of several languages or phenomena the AUROC is the mean, and the rates are those of all their rows together.
"""

from __future__ import annotations

import argparse
import functools
import importlib.metadata
import json
import os
import platform
import random
import shutil
import subprocess
import sysconfig
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import yaml
from guards import core_count, open_guard
from small_guard import judged

from guard.conversation import Conversation
from guard.data.dataset.examples import load_examples, load_rules
from guard.digest import file_digest
from guard.evaluate.redteam.attack_run import AttackSettings, run_attacks
from guard.evaluate.redteam.attacks import choose
from guard.evaluate.redteam.sample import draw_sample
from guard.evaluate.report import moderate_cases
from guard.evaluate.suite import Case, Suite
from guard.metrics import classification, intervals
from guard.metrics.classification import Bools, Floats
from guard.moderator import Moderator
from guard.report.tables import number_table, show
from guard.verdict import Outcome, Verdict, log_odds

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "default_guard.json"
TWINS, PHENOMENA = HERE / "twins", HERE / "twins" / "phenomena.yaml"
SEED = 7
KINDS = ("prompt", "response")
OVER_REFUSAL = ("coconot_contrast", "purplellama_frr")
ROWS = 800  # held-out rows of a split and kind; the other sets have the rows below for every one of these
HARMLESS, RULES, ATTACKED, FILES = 0.5, 0.75, 0.1, 0.05
RECALL = 0.8
LEAST = 100  # rows of a language
CHARACTERS, SHORTEST = 8000, 500  # of a technical text
LICENCES, MANUALS = Path("/usr/share/common-licenses"), Path("/usr/share/man")
ATTACKS = ("swap", "zero_width", "homoglyphs", "leet", "spacing", "base64", "words_joined", "hyphenated")
TWIN_METRICS = ("auroc", "recall", "fpr")
METRICS = {
    "held-out": ("auprc", "best_f1", "recall_at_5_fpr", "f1", "recall", "fpr"),
    "over-refusal": ("fpr",),
    "technical": ("fpr",),
    "language": TWIN_METRICS,
    "phenomenon": TWIN_METRICS,
}
COLUMNS = {
    "auprc": "AUPRC",
    "auroc": "AUROC",
    "best_f1": "best F1",
    "recall_at_5_fpr": "recall at 5 %",
    "f1": "F1",
    "recall": "recall",
    "fpr": "FPR",
    "share": "share",
}

T = TypeVar("T")
Parts = dict[str, list[Case]]
Judged = Mapping[Conversation, Verdict]
Numbers = dict[str, Any]


# --- the rows ---------------------------------------------------------------------------------------------------------


def drawn(rows: Sequence[T], most: float) -> list[T]:
    return random.Random(SEED).sample(rows, min(int(most), len(rows)))


def held_out(data: Path, rows: int) -> Parts:
    """Rows of dev and test by kind, and those of both by language; the subset of a case is its language."""
    parts: Parts = defaultdict(list)
    languages: Parts = defaultdict(list)
    for split in ("dev", "test"):
        examples = load_examples(data, split)
        for kind in KINDS:
            for row in drawn([example for example in examples if example.kind == kind], rows):
                case = Case(row.conversation, row.label, {}, row.language)
                parts[f"{split} {kind}s"].append(case)
                languages[f"{row.language} {kind}s"].append(case)
    return parts | {name: cases for name, cases in languages.items() if len(cases) >= LEAST}


def over_refusal(data: Path, rows: int) -> Parts:
    parts: Parts = defaultdict(list)
    for row in load_examples(data, "development"):
        if row.source in OVER_REFUSAL and row.label == "safe":
            parts[f"{row.source} {row.language}"].append(Case(row.conversation, row.label, {}, row.language))
    return {name: drawn(cases, HARMLESS * rows) for name, cases in parts.items() if len(cases) >= LEAST}


def technical(data: Path, rows: int) -> Parts:
    """The beginnings of files that lie on this machine, of the kinds that it has."""
    files = int(FILES * rows)
    stdlib = Path(sysconfig.get_path("stdlib"))
    left_out = {"site-packages", "test", "tests"}
    code = sorted(path for path in stdlib.rglob("*.py") if not left_out & set(path.relative_to(stdlib).parts))
    manuals = sorted(MANUALS.glob("man[158]/*.gz")) if shutil.which("man") else []
    packages = {each.name: str(each.metadata.get_payload()) for each in importlib.metadata.distributions()}
    texts = {
        "Python files": map(contents, drawn(code, 2 * files)),
        "licences": map(contents, sorted({path.resolve() for path in LICENCES.glob("*")})),
        "manual pages": map(manual, drawn(manuals, 2 * files)),
        "package descriptions": drawn([packages[name] for name in sorted(packages)], 2 * files),
    }
    parts = {
        kind: [
            Case(Conversation.of(text[:CHARACTERS]), "safe", {})
            for text in dict.fromkeys(each)
            if len(text) >= SHORTEST
        ][:files]
        for kind, each in texts.items()
    }
    return {kind: cases for kind, cases in parts.items() if cases}


def contents(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def manual(path: Path) -> str:
    plain = os.environ | {"MANWIDTH": "80", "LC_ALL": "C.UTF-8"}
    return subprocess.run(["man", "-l", path], capture_output=True, env=plain).stdout.decode(errors="replace")


def languages(data: Path, rows: int) -> Parts:
    paths = [path for path in sorted(TWINS.glob("*.yaml")) if path != PHENOMENA]
    return {path.stem: pairs([(None, *texts) for _, *texts in document(path)["twins"]]) for path in paths}


def phenomena(data: Path, rows: int) -> Parts:
    kinds = document(PHENOMENA)
    prompts = {name: pairs([(None, *texts) for _, *texts in each]) for name, each in kinds["prompts"].items()}
    return prompts | {name: pairs([texts for _, *texts in each]) for name, each in kinds["replies"].items()}


def document(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def pairs(rows: Sequence[Sequence[str | None]]) -> list[Case]:
    """The cases of rows of a prompt (None: the texts are prompts), an unsafe and a safe text."""
    return [
        Case(Conversation.of(text) if prompt is None else Conversation.of(prompt, text), label, {})
        for prompt, unsafe, safe in rows
        for text, label in ((unsafe, "unsafe"), (safe, "safe"))
    ]


SETS: dict[str, Callable[[Path, int], Parts]] = {
    "language": languages,
    "phenomenon": phenomena,
    "held-out": held_out,
    "over-refusal": over_refusal,
    "technical": technical,
}
NAMES = (*SETS, "rules", "redteam")


# --- the numbers: [value, low, high] ----------------------------------------------------------------------------------


def numbers(labels: Bools, p: Floats, cuts: Floats | float, wanted: Sequence[str]) -> Numbers:
    """Those of the metrics `wanted` that are defined; the interval at a best threshold takes the threshold as given."""

    def rates(at: Floats | float) -> intervals.Intervals:
        return intervals.of_rates(labels, p >= at)

    at, best = classification.confusion(labels, p, cuts), classification.best_f1(labels, p)
    low = classification.tpr_at_fpr(labels, p, 0.05)
    own, rankings = rates(cuts), intervals.of_rankings(labels, p)
    found = {
        "auprc": (classification.auprc(labels, p), rankings["auprc"]),
        "auroc": (classification.auroc(labels, p), rankings["auroc"]),
        "best_f1": (best and best.value, best and rates(best.threshold)["f1"]),
        "recall_at_5_fpr": (low and low.value, low and rates(low.threshold)["recall"]),
        **{name: (getattr(at, name), own[name]) for name in intervals.RATES},
    }
    kept = {name: rounded(value, *bounds) for name in wanted for value, bounds in [found[name]] if value is not None}
    return {"rows": len(labels), "unsafe": int(labels.sum()), **kept}


def share(values: Sequence[bool] | Bools) -> Numbers:
    all_rows = np.ones(len(values), dtype=bool)
    bounds = intervals.of_rates(all_rows, np.asarray(values, dtype=bool))["recall"]
    return {"rows": len(values), "share": rounded(float(np.mean(values)), *(bounds or ()))}


def rounded(*values: float) -> list[float]:
    return [round(value, 4) for value in values]


def arrays(cases: Sequence[Case], verdicts: Judged) -> tuple[Bools, Floats, Floats]:
    """Labels, p(unsafe) and thresholds."""
    own = [verdicts[case.conversation] for case in cases]
    p, cuts = (np.array([getattr(verdict, name) for verdict in own]) for name in ("p_unsafe", "threshold"))
    return np.array([case.label == "unsafe" for case in cases]), p, cuts


def of_part(cases: Sequence[Case], verdicts: Judged, wanted: Sequence[str]) -> Numbers:
    outcomes = Counter(verdicts[case.conversation].outcome.value for case in cases)
    return numbers(*arrays(cases, verdicts), wanted) | {"outcomes": dict(sorted(outcomes.items()))}


def measured(guard: Moderator, data: Path, rows: int, parts_of: Callable[[str], Parts]) -> Iterator[dict[str, Numbers]]:
    """The numbers of each set by part, as soon as they are known, in the order of `NAMES`."""
    cut, english = 0.5, list[Case]()
    for name in SETS:
        parts = parts_of(name)
        by_text = {case.conversation: case for cases in parts.values() for case in cases}
        verdicts = dict(zip(by_text, moderate_cases(guard, list(by_text.values())), strict=True))
        found = {part: of_part(cases, verdicts, METRICS[name]) for part, cases in parts.items()}
        if name == "held-out":
            english = [case for case in parts["dev prompts"] if case.subset == "en"]
            labels, p, _ = arrays(english, verdicts)
            cut = float(np.quantile(p[labels], 1 - RECALL, method="lower"))
        elif name == "over-refusal":
            for part, cases in parts.items():
                labels, p, _ = arrays(cases, verdicts)
                found[f"{part}, recall .80"] = numbers(labels, p, cut, METRICS[name])
        else:
            found["all"] = together(parts, found, verdicts)
        yield found
    yield rules(guard, data, int(RULES * rows))
    yield redteam(guard, english, int(ATTACKED * rows))


def together(parts: Parts, found: Mapping[str, Numbers], verdicts: Judged) -> Numbers:
    """The rates of all rows of a set, and the mean AUROC of its parts."""
    result = of_part([case for cases in parts.values() for case in cases], verdicts, ("recall", "fpr"))
    areas = [part["auroc"][0] for part in found.values() if "auroc" in part]
    return result | ({"auroc": rounded(float(np.mean(areas)))} if areas else {})


def rules(guard: Moderator, data: Path, most: int) -> dict[str, Numbers]:
    """Rows of one rule under that rule alone, and unsafe ones under a rule of another domain beside it."""
    known = [pair for pair in load_rules(data, "development") if len(pair[1].categories) == 1]
    rows = drawn(known, most)
    all_rules = sorted({rule for _, rule in known}, key=lambda rule: rule.digest)
    rng = random.Random(SEED)
    unsafe = [(example, rule) for example, rule in rows if example.label == "unsafe"]
    other = [rng.choice([each for each in all_rules if each.name != rule.name]) for _, rule in unsafe]
    asked = [(example.conversation, rule) for example, rule in rows]
    asked += [(example.conversation, rule) for (example, _), rule in zip(unsafe, other, strict=True)]
    odds = np.array([log_odds(verdict.p_unsafe) for verdict in judged(guard, asked)])
    labels = np.array([example.label == "unsafe" for example, _ in rows])
    own, unrelated = odds[: len(rows)], odds[len(rows) :]
    return {
        "a rule in words": numbers(labels, own, 0.0, ("auroc",)) | {"rules": len({rule for _, rule in rows})},
        "unsafe: own above unrelated": share(own[labels] > unrelated),
    }


def redteam(guard: Moderator, cases: Sequence[Case], most: int) -> dict[str, Numbers]:
    """Of the flagged unsafe prompts, and of the safe ones, under every attack in turn."""
    sample = draw_sample(Suite("prompts", "", "", "", "", tuple(cases)), most, 1000, SEED)
    run = run_attacks(guard, sample, choose(ATTACKS), AttackSettings(seed=SEED))
    at = run.thresholds["mode"]
    flagged = run.unsafe.flagged(at.unsafe)
    slips = [result.unsafe.passed(at.unsafe)[flagged] for result in run.results]
    alarms = [result.safe.flagged(at.safe) for result in run.results]
    return {
        "flagged, slip disguised": share(np.concatenate(slips)),
        "safe, flagged disguised": share(np.concatenate(alarms)),
        "safe, flagged plain": share(run.safe.flagged(at.safe)),
    }


# --- the report -------------------------------------------------------------------------------------------------------


def cell(values: Sequence[float] | None) -> str:
    """Per cent."""
    if not values:
        return ""
    value, *bounds = (f"{100 * value:.1f}" for value in values)
    return f"{value} ({'-'.join(bounds)})" if bounds else value


def lines(sets: Mapping[str, Mapping[str, Mapping[str, Numbers]]]) -> Iterator[tuple[object, ...]]:
    """The guards below each other for every part."""
    for name, guards in sets.items():
        for part in next(iter(guards.values())):
            for guard, parts in guards.items():
                found = parts[part]
                outcomes = found.get("outcomes", {})
                counts = "/".join(str(outcomes.get(each.value, 0)) for each in Outcome) if outcomes else ""
                values = [cell(found.get(metric)) for metric in COLUMNS]
                yield (f"{name}: {part}", guard, found["rows"], *values, counts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="+", metavar="BUNDLE")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=ROWS, help="of a split and kind; other sets in proportion")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    names = [Path(bundle).name for bundle in given.bundles]
    sets: dict[str, dict[str, dict[str, Numbers]]] = {}
    report: dict[str, Any] = {
        "command": f"python benchmarks/default_guard.py {' '.join(names)} --data DIR --rows {given.rows}",
        "data": {split: file_digest(given.data / f"{split}.parquet") for split in ("dev", "test", "development")},
        "seed": SEED,
        "cores": core_count(),
        "python": platform.python_version(),
        "models": {},
        "cpu_s": dict.fromkeys(names, 0.0),
        "sets": sets,
    }
    parts_of = functools.cache(lambda name: SETS[name](given.data, given.rows))
    with ExitStack() as opened:
        running = {}
        for name, bundle in zip(names, given.bundles, strict=True):
            guard = opened.enter_context(open_guard(Path(bundle), threads=1))
            report["models"][name] = guard.engine.info.digest
            running[name] = measured(guard, given.data, given.rows, parts_of)
        for of in NAMES:
            for name in names:
                begun = time.process_time()
                sets.setdefault(of, {})[name] = next(running[name])
                report["cpu_s"][name] += round(time.process_time() - begun, 1)
                given.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")  # the rest takes long
                print(f"{name}: {of}, {report['cpu_s'][name]:.1f} CPU seconds", flush=True)
    headings = ("guard", "rows", *COLUMNS.values(), "safe/unsafe/incomplete")
    show(number_table("per cent (95 % interval)", *headings, rows=lines(sets)))


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("COLUMNS", "240")
    main()
