"""Writes the tables of README.md and docs/benchmarks.md from the JSON files in benchmarks/results.

`--check` fails if they are stale.

python benchmarks/readme.py [--check]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
ROOT = Path(__file__).parent.parent
MANIFEST = ROOT / "guard/_assets/bundles/mini-en/guard.json"
START, END = "<!-- numbers -->", "<!-- /numbers -->"


def read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return found


def table(*rows: tuple[str, ...]) -> str:
    head, *body = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([head, "|" + " --- |" * len(rows[0]), *body])


def figure(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def bundle_mb() -> int:
    return round(sum(path.stat().st_size for path in MANIFEST.parent.iterdir()) / 1e6)


def evaluation() -> str:
    """The shipped guard on the splits of its data and on the public sets."""
    shipped = json.loads(MANIFEST.read_text(encoding="utf-8"))["model"]
    splits, public = read("eval_splits"), read("eval")
    for name, report in (("eval_splits", splits), ("eval", public)):
        if report["model"] != shipped:
            raise SystemExit(
                f"{name}.json is of {report['model'][:12]}, the shipped guard is {shipped[:12]}: {report['command']}"
            )
    cuts = splits["thresholds"]
    return "\n\n".join(
        [
            f"**Quality** of the shipped guard `{shipped[:12]}` at its default thresholds ({splits['mode']} mode: "
            f"unsafe from p = {cuts['prompt']['unsafe']:.2f} for prompts, {cuts['response']['unsafe']:.2f} for "
            "responses, both chosen on the dev split; comments are in these splits, too):",
            f"`{splits['command']}`",
            scored(splits),
            "Public sets, none of which was trained on. This guard was evaluated on them twice, "
            "without and with its newest views, its predecessors five "
            "times; what those got wrong there suggested which kinds of examples to write:",
            f"`{public['command']}`",
            scored(public),
        ]
    )


def scored(report: dict[str, Any]) -> str:
    head = ("set", "rows", "unsafe", "F1 (95 %)", "FPR", "recall", "best F1", "AUPRC", "TPR at 1 % FPR", "ECE")
    rows = []
    for result in report["results"]:
        between = "" if result["f1_interval"] is None else " ({:.2f}–{:.2f})".format(*result["f1_interval"])
        keys = ("fpr", "recall", "best_f1", "auprc", "tpr_at_1_fpr", "ece")
        name = result["name"]
        split, _, language = name.rpartition(":")[2].partition("/")
        own = f"{split} split of its data" + f" ({language})" * bool(language)
        title = own if name.startswith("data:") else result["title"]
        counts = (title, str(result["rows"]), str(result["unsafe"]))
        rows.append((*counts, figure(result["f1"]) + between, *(figure(result[key]) for key in keys)))
    return table(head, *rows)


def unknown_policies() -> str:
    held, invented = read("held_out_categories"), read("zero_shot")
    rows = []
    for code, found in held["categories"].items():
        alone, near = found["held_out"]["alone"], found["held_out"]["alone_seeds_against_near_misses"]
        rows.append((f"{code} {found['name']}", str(alone["unsafe"]), between(alone["auroc"], alone["interval"]),
                     figure(near["auroc"])))  # fmt: skip
    mean = sum(found["held_out"]["alone"]["auroc"] for found in held["categories"].values()) / len(held["categories"])
    rows.append(("mean", "", figure(mean), ""))
    own = [
        (found["name"], str(found["unsafe"]), between(found["auroc"], found["auroc_interval"]),
         figure(found["auroc_of"]["near_misses"]))
        for found in invented["policies"].values()
    ]  # fmt: skip
    head = ("policy", "unsafe rows", "AUROC (95 %)", "AUROC, near-misses only")
    return "\n".join(
        [
            "**Categories that training never saw**: a guard of the same recipe, trained without six categories, "
            "judges by the words of each alone; then the shipped guard on invented company policies, whose rows were "
            "written before any score was seen:",
            "",
            f"`{held['command']}`, `{invented['command']}`",
            "",
            table(head, *rows, *own),
        ]
    )


def hostile() -> str:
    attacks, lengths = read("redteam"), read("recall_by_length")
    (guard,) = attacks["guards"]
    rows = [
        (attack["name"], str(attack["fixed"]["flagged"]), figure(attack["fixed"]["success"], 2),
         figure(attack["fixed"]["fpr"], 2))
        for attack in guard["attacks"]
    ]  # fmt: skip
    by_length = [
        (length, *(figure(found["balanced"][key], 2) for key in ("recall", "recall_to_short", "fpr")))
        for length, found in lengths["lengths"].items()
    ]
    short = lengths["short"]["balanced"]
    return "\n".join(
        [
            f"**Attacks** on unsafe texts that the guard flags, at the threshold of {attacks['fpr']:.0%} false alarms "
            "on plain safe texts; the last column is what the same change does to safe texts:",
            "",
            f"`{attacks['command']}`",
            "",
            table(("attack", "attacked", "success", "safe texts flagged"), *rows),
            "",
            f"**A short harmful text in a long harmless one**, default thresholds; alone its recall is "
            f"{short['recall']:.2f}, and {short['fpr']:.2f} of short safe prompts are flagged. The worst window "
            "decides, so that false alarms grow with length:",
            "",
            f"`{lengths['command']}`",
            "",
            table(("tokens", "recall", "ratio to alone", "harmless texts flagged"), *by_length),
        ]
    )


def between(value: float, interval: list[float]) -> str:
    return f"{value:.3f} ({interval[0]:.2f}–{interval[1]:.2f})"


def speed() -> str:
    check, grpc = read("check_throughput"), read("grpc_throughput")
    rate = check["texts_per_s"]
    return "\n".join(
        [
            f"**Speed** on {check['cores']} CPU cores, mixed lengths; ratios are of runs side by side:",
            "",
            table(
                ("what", "texts/s", "ratio", "command"),
                (
                    "`guard check --file`, whole process",
                    figure(rate["check_process"], 0),
                    f"{check['check_vs_plain_process']:.1f}× a plain transformers loop over the same weights "
                    f"({rate['plain_process']:.0f} texts/s, whole process)",
                    f"`{check['command']}`",
                ),
                (
                    "library, steady",
                    figure(rate["library"], 0),
                    f"{check['library_vs_plain_loop']:.1f}× the loop alone ({rate['plain_loop']:.0f} texts/s)",
                    f"`{check['command']}`",
                ),
                *(
                    (name, figure(grpc["texts_per_second"][way], 0), f"{grpc['ratio_to_in_process'][way]:.0%} of the "
                     f"library in the same run ({grpc['texts_per_second']['in_process']:.0f} texts/s); "
                     f"{grpc['cpu_ratio'][way]:.0%} by the server's CPU time", f"`{grpc['command']}`")
                    for way, name in (("unary", f"gRPC `Moderate`, {grpc['unary_concurrency']} at a time"),
                                      ("batch", f"gRPC `BatchModerate` of {grpc['batch_size']}"),
                                      ("rest", f"HTTP `POST /v1/check`, {grpc['unary_concurrency']} at a time"))
                ),
            ),
            "",
            "The last three rows are of a machine that trained a model meanwhile: their ratios count "
            "([serving.md](serving.md#speed)).",
        ]
    )  # fmt: skip


def start() -> str:
    cold = read("cold_start")
    return "\n".join(
        [
            "**Start and size** of a base install:",
            "",
            f"`{cold['command']}`",
            "",
            table(
                ("what", "wall s (median)", "peak memory MB"),
                ("cold `guard check TEXT`", figure(cold["text"]["wall_s_median"], 2), str(cold["text"]["peak_rss_mb"])),
                ("cold `guard check --file` (12 rows)", figure(cold["file"]["wall_s_median"], 2),
                 str(cold["file"]["peak_rss_mb"])),
            ),
            "",
            f"The environment takes {cold['environment_mb']} MB, the guard in it {bundle_mb()} MB.",
        ]
    )  # fmt: skip


def build() -> str:
    scale = read("data_scale")
    titles = {"raw": "all raw files", **{times: f"their labelled rows × {times}" for times in scale["times"]}}
    measured = {"raw": scale["raw"], **scale["times"]}
    rows = [
        (titles[name], f"{found['read']:,}", figure(found["wall_s"], 0), str(found["peak_rss_mb"]))
        for name, found in measured.items()
    ]
    return "\n".join(
        [
            f"**Data build** on {scale['cores']} CPU cores, report and card included; memory of all processes:",
            "",
            f"`{scale['command']}`",
            "",
            table(("what", "rows read", "wall s", "peak memory MB"), *rows),
        ]
    )


def summary() -> str:
    """The README's table: a row for each question that a reader has first."""
    public = {result["name"]: result for result in read("eval")["results"]}
    (test,) = (each for each in read("eval_splits")["results"] if ":test" in each["name"])
    held, invented, attacks = read("held_out_categories"), read("zero_shot"), read("redteam")
    lengths, cold, check, grpc = (
        read(name) for name in ("recall_by_length", "cold_start", "check_throughput", "grpc_throughput")
    )
    unseen = [found["held_out"]["alone"]["auroc"] for found in held["categories"].values()]
    own = [found["auroc"] for found in invented["policies"].values()]
    worst = max(attacks["guards"][0]["attacks"], key=lambda attack: attack["fixed"]["success"])
    longest = "8000"
    rows = [
        (
            name,
            f"F1 {figure(found['f1'], 2)} ({found['f1_interval'][0]:.2f}–{found['f1_interval'][1]:.2f}), "
            f"false alarms {found['fpr']:.0%}",
            source,
        )
        for name, found, source in (
            ("XSTest prompts", public["xstest"], "eval"),
            ("OpenAI's moderation set", public["openai_moderation"], "eval"),
            ("Test split of its data, English", test, "eval_splits"),
        )
    ]
    rows += [
        ("Categories that training never saw", f"mean AUROC {sum(unseen) / len(unseen):.2f}", "held_out_categories"),
        ("Invented company policies", f"mean AUROC {sum(own) / len(own):.2f}", "zero_shot"),
        ("Strongest of its attacks", f"{worst['fixed']['success']:.0%} of flagged texts get past", "redteam"),
        (
            f"Harmless texts of {int(longest):,} tokens",
            f"{lengths['lengths'][longest]['balanced']['fpr']:.0%} flagged",
            "recall_by_length",
        ),
        (
            f"Throughput, {check['cores']} cores",
            f"{check['texts_per_s']['library']:.0f} texts/s, mixed lengths",
            "check_throughput",
        ),
        ("One call over gRPC", f"{grpc['one_by_one_ms']['unary']['p50']:.0f} ms (median)", "grpc_throughput"),
        (
            "Cold `guard check TEXT`",
            f"{cold['text']['wall_s_median']:.1f} s, {cold['text']['peak_rss_mb']} MB of memory",
            "cold_start",
        ),
        ("Installed", f"{cold['environment_mb']} MB, of which the guard {bundle_mb()} MB", "cold_start"),
    ]
    linked = [(what, found, f"[{name}.json](benchmarks/results/{name}.json)") for what, found, name in rows]
    return table(("what", "measured", "written to"), *linked)


SECTIONS = {
    "Quality": evaluation,
    "Policies that training never saw": unknown_policies,
    "Attacks and long texts": hostile,
    "Speed": speed,
    "Start and size": start,
    "Data build": build,
}


def full() -> str:
    return "\n\n".join(f"### {title}\n\n{part()}" for title, part in SECTIONS.items())


PAGES = {"README.md": summary, "docs/benchmarks.md": full}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    for name, make in PAGES.items():
        path = ROOT / name
        text = path.read_text(encoding="utf-8")
        before, rest = text.split(START)
        _, after = rest.split(END)
        made = f"{before}{START}\n{make()}\n{END}{after}"
        if options.check and made != text:
            sys.exit(f"{name} is stale; run: python benchmarks/readme.py")
        path.write_text(made, encoding="utf-8")


if __name__ == "__main__":
    main()
