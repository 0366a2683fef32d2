"""The model card: the README.md of a bundle, made from its manifest, its data's manifest and measured results."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from guard.bundle import Bundle
from guard.calibration import MODES
from guard.conversation import Target
from guard.data.sources import description
from guard.digest import file_digest
from guard.errors import ConfigError, DataError
from guard.evaluate import peers
from guard.evaluate.report import CATEGORY_COLUMNS, COLUMNS, category_cells, cells, decimal, parts
from guard.policy import natural

_USE = """\
## Intended use

It reads a conversation under a policy and says whether the last message is `safe`, or `unsafe` and in which categories,
with a probability for each. Use it to screen prompts before a model answers them, to screen answers before people see
them, to filter data sets, and as one signal among others in a reward.

```
guard check --model {root} "a text to judge"
```

## Limits

- It was trained on {languages}. Other languages, scripts and encodings are weak unless a table below says otherwise.
- It errs in both directions; the tables say how often. It does not take the place of human review where a decision
  matters to somebody.
- It judges words, not facts or intent: it knows no context that is not in the conversation. Quotations, fiction, news
  and reclaimed slurs are often misread.
- People who look for gaps will find some. Keep other safeguards beside it and watch what it lets through.
- A probability is calibrated on development data. On other traffic, measure again and choose thresholds of your own.
- A policy with other categories than the one it was trained for is read, not learnt: measure before you rely on it.
"""


def model_card(bundle: Bundle, reports: Sequence[dict[str, Any]], data_manifest: Mapping[str, Any] | None) -> str:
    """The card in Markdown; equal inputs give equal bytes.

    reports: those that `guard eval --out` wrote. data_manifest: the manifest of the training data, None if it is not
    available. DataError if a report is about another model.
    """
    for report in reports:
        if report["model"] != bundle.manifest.model:
            raise DataError(
                f"a report is about model {report['model'][:12]}, the card about {bundle.manifest.model[:12]}; "
                "evaluate this bundle"
            )
    blocks = [
        f"# {bundle.manifest.name}\n\n{_summary(bundle)}",
        _USE.format(root=bundle.manifest.name, languages=_trained_on(bundle)),
        _making(bundle),
        _data(data_manifest),
        *(["## Evaluation"] if reports else []),
        *map(_evaluation, reports),
        _thresholds(bundle),
        _reproduce(bundle, reports, data_manifest),
    ]
    return "\n\n".join(block.strip("\n") for block in blocks) + "\n"


def training_manifest(bundle: Bundle, folders: Iterable[Path]) -> dict[str, Any] | None:
    """The manifest of the data set among `folders` that the bundle was trained on, None if none is."""
    for folder in folders:
        path = folder / "manifest.json"
        if path.is_file() and file_digest(path) == bundle.manifest.data:
            manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return manifest
    return None


_KINDS = {
    "mini": "a small encoder that compares a text with the words of each category; it runs on a CPU",
    "causal": "a causal language model that is asked for a verdict and whose logits are read",
}


# Bases that `guard train` knows by a short name, with their credits.
_BASES = {
    "minilm": "minilm: sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0, the Sentence-Transformers authors), itself "
    "from Microsoft's MiniLM (MIT)",
    "mini": "mini: the guard that shipped with guard-service before it, itself from "
    "sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0, its authors) and Microsoft's MiniLM (MIT)",
    "multilingual-e5-small": "intfloat/multilingual-e5-small (MIT, the E5 authors), its vocabulary pruned",
}


def _summary(bundle: Bundle) -> str:
    policy = bundle.policy
    return (
        f"A safety guard: {_KINDS[bundle.manifest.kind]}. It was trained for policy `{policy.id}` {policy.version} "
        f"({len(policy.categories)} categories: "
        f"{', '.join(f'{category.code} {category.name}' for category in policy.categories)}); "
        "a policy of yours can be given at run time."
    )


def _trained_on(bundle: Bundle) -> str:
    languages = bundle.manifest.languages
    if len(languages) < 2:
        return "English" if languages in ((), ("en",)) else languages[0]
    return f"text in {len(languages)} languages ({', '.join(languages)}), most of it English"


def _making(bundle: Bundle) -> str:
    manifest = bundle.manifest
    rows = [
        ("model digest", f"`{manifest.model}`"),
        ("weights started from", _BASES.get(manifest.base, manifest.base)),
        ("policy digest", f"`{manifest.policy}`"),
        ("data digest", f"`{manifest.data}`" if manifest.data else "unknown"),
        ("input layout digest", f"`{manifest.renderer}`"),
        (
            "tokens of a window",
            f"{manifest.max_tokens}, neighbours share {manifest.overlap}; longer texts are read whole",
        ),
        (
            "packages",
            ", ".join(f"{name} {version}" for name, version in sorted(manifest.packages.items())) or "unknown",
        ),
        *((f"parity: {name}", f"{value:.3g}") for name, value in sorted(manifest.parity.items())),
    ]
    return "## How it was made\n\n" + _markdown(("", ""), rows)


def _data(manifest: Mapping[str, Any] | None) -> str:
    if manifest is None:
        return "## Training data\n\nIts manifest was not at hand when this card was written."
    used = [source for source in manifest["sources"] if source["kept"]]
    rows = [
        (
            f"`{source['name']}`",
            source["title"],
            source["kept"],
            source["role"],
            source["licence"],
            source["attribution"],
            f"{source['upstream']} at `{source['commit'][:12]}`",
        )
        for source in used
    ]
    table = _markdown(("source", "title", "rows", "role", "licence", "attribution", "upstream"), rows)
    languages = ", ".join(f"{name} {count}" for name, count in _languages(manifest).items())
    cautions = "\n".join(f"- `{source['name']}`: {text}" for source in used if (text := _cautions(source["name"])))
    return "\n\n".join(
        [
            "## Training data",
            f"{manifest['rows']['kept']} rows kept of {manifest['rows']['read']} read, over all splits. "
            f"Rows of the training split by language: {languages}. "
            "Rows that repeat held-out benchmark material were removed.",
            table,
            *(["What to know about the sources:\n\n" + cautions] if cautions else []),
        ]
    )


def _languages(manifest: Mapping[str, Any]) -> dict[str, int]:
    """Training rows by language, in decreasing order."""
    totals: dict[str, int] = {}
    for key, count in manifest["splits"].get("train", {}).get("languages", {}).items():
        language = key.partition("/")[0]
        totals[language] = totals.get(language, 0) + count
    return dict(sorted(totals.items(), key=lambda item: (-item[1], item[0])))


def _cautions(name: str) -> str:
    try:
        return " ".join(description.load(name).cautions.split())
    except ConfigError:  # a source that is not described in the package
        return ""


def _evaluation(report: Mapping[str, Any]) -> str:
    policy = report["policy"]
    rows = []
    for result in report["results"]:
        rows.append((f"**{result['name']}**", *cells(result)))
        rows += [(name, *cells(numbers)) for name, numbers in parts(result)]
    blocks = [
        f"Mode `{report['mode']}`, policy `{policy['id']}` {policy['version']} (digest `{policy['digest'][:12]}`). F1, "
        "FPR and recall are at the guard's thresholds; the interval of F1 is a 95 % bootstrap. A dash stands for what "
        "rows of one class cannot tell.",
        f"```\n{report['command']}\n```",
        _markdown(("set", *COLUMNS), rows),
        *(_categories(result) for result in report["results"] if result["categories"]),
        _origins(report["results"]),
        *map(_published, peers.compare(report)),
    ]
    return "\n\n".join(block for block in blocks if block)


def _published(comparison: peers.Comparison) -> str:
    rows = [("**this guard**", "measured here", *map(decimal, comparison.ours))]
    rows += [(model, f"{run_by}: {source}", *map(decimal, values)) for model, run_by, source, values in comparison.rows]
    return (
        f"Published {peers.METRICS[comparison.metric]} of other guards, not measured here; prompts, thresholds and "
        "sometimes rows differ:\n\n" + _markdown(("model", "published by", *comparison.benchmarks), rows)
    )


def _categories(result: Mapping[str, Any]) -> str:
    rows = [
        (code, *category_cells(numbers))
        for code, numbers in sorted(result["categories"].items(), key=lambda item: natural(item[0]))
    ]
    return (
        f"Categories of {result['name']} (recall: rows flagged as unsafe; named: rows whose verdict names the code; "
        "AUPRC and AUROC of the code's own score over the rows that are known):\n\n"
        + _markdown(("code", *CATEGORY_COLUMNS), rows)
    )


def _origins(results: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        f"- {result['name']}: {result['title']}, {result['upstream']}, {result['licence']}, sha256 `{result['digest']}`"
        for result in results
        if result["upstream"]
    ]
    return "Benchmarks:\n\n" + "\n".join(lines) if lines else ""


def _thresholds(bundle: Bundle) -> str:
    rows: list[tuple[object, ...]] = []
    scales = []
    for target in Target:
        scale = bundle.calibration.of(target)
        scales.append(f"{target.value} slope {scale.slope:.4g}, bias {scale.bias:.4g}")
        rows.append((target.value, "unsafe", *(decimal(scale.thresholds.of(mode)) for mode in MODES)))
        for code in sorted(scale.categories, key=natural):
            rows.append((target.value, code, *(decimal(scale.categories[code].of(mode)) for mode in MODES)))
    return (
        "## Thresholds\n\n"
        "Chosen on development data: `balanced` has its best F1, or is the highest within .003 of it; `strict` flags "
        "5 % of its safe rows and `permissive` 1 %, but never less, or more, than `balanced`. A category without a "
        "line takes the threshold of `unsafe`; a threshold written in a policy "
        f"comes before all of these. Platt scaling of the log-odds: {'; '.join(scales)}.\n\n"
        + _markdown(("target", "", *MODES), rows)
    )


def _reproduce(bundle: Bundle, reports: Sequence[Mapping[str, Any]], manifest: Mapping[str, Any] | None) -> str:
    config = f"  # configuration digest {manifest['config_digest'][:12]}" if manifest else ""
    commands = [
        f"guard data build CONFIG.yaml --root DIR --out DATA{config}",
        f"guard train CONFIG.yaml --data DATA --base {shlex.quote(bundle.manifest.base)} --out RUN",
        f"guard export RUN {bundle.manifest.name}",
        *(report["command"] for report in reports),
    ]
    return "## Reproduce\n\n```\n" + "\n".join(commands) + "\n```"


def _markdown(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(_cell(value) for value in line) + " |" for line in lines)


def _cell(value: object) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")
