"""`guard data judge`: label rows, or compare answers, with a model behind a chat endpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from guard.report.tables import number_table, show

if TYPE_CHECKING:
    from guard.annotate.job import Job

FAILED = 3
DEFAULT_POLICY = "mlcommons"
_ENDPOINT, _GENERATOR = "The judge", "The generator of responses (compare)"


def judge(
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="Rows: .jsonl, .csv, .tsv or .parquet.", show_default=False)
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Labelled rows, or pairs.", show_default=False)],
    task: Annotated[
        Literal["label", "compare"], typer.Option(help="Label rows, or compare answers.", show_default=False)
    ],
    base_url: Annotated[
        str, typer.Option(metavar="URL", help="Like https://HOST/v1.", show_default=False, rich_help_panel=_ENDPOINT)
    ],
    model: Annotated[
        str, typer.Option(metavar="NAME", help="Its name there.", show_default=False, rich_help_panel=_ENDPOINT)
    ],
    policy: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE", help="The policy to judge by; default: mlcommons, or none with --criterion."),
    ] = None,
    votes: Annotated[
        int, typer.Option(min=1, help="label: judgements per row, every other one with the categories reversed.")
    ] = 2,
    criterion: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="compare: the criterion of a better answer; default: the policy."),
    ] = None,
    answers: Annotated[
        int, typer.Option(min=2, help="compare: answers to generate for a prompt with fewer than 2.")
    ] = 2,
    api_key_env: Annotated[
        str | None,
        typer.Option(metavar="VARIABLE", help="The environment variable of the key.", rich_help_panel=_ENDPOINT),
    ] = None,
    temperature: Annotated[float, typer.Option(min=0.0, help="Of sampling.", rich_help_panel=_ENDPOINT)] = 0.0,
    max_tokens: Annotated[int, typer.Option(min=1, help="Per completion.", rich_help_panel=_ENDPOINT)] = 1024,
    body: Annotated[
        str,
        typer.Option(metavar="JSON", help="More keys of each request; null removes one.", rich_help_panel=_ENDPOINT),
    ] = "{}",
    price_in: Annotated[
        float | None, typer.Option(min=0.0, help="Price per million prompt tokens.", rich_help_panel=_ENDPOINT)
    ] = None,
    price_out: Annotated[
        float | None, typer.Option(min=0.0, help="Price per million completion tokens.", rich_help_panel=_ENDPOINT)
    ] = None,
    generator_model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Its name there; default: none.", rich_help_panel=_GENERATOR)
    ] = None,
    generator_url: Annotated[
        str | None, typer.Option(metavar="URL", help="Default: the judge's, with its key.", rich_help_panel=_GENERATOR)
    ] = None,
    generator_api_key_env: Annotated[
        str | None,
        typer.Option(metavar="VARIABLE", help="The environment variable of its key.", rich_help_panel=_GENERATOR),
    ] = None,
    generator_temperature: Annotated[
        float, typer.Option(min=0.0, help="Of sampling.", rich_help_panel=_GENERATOR)
    ] = 1.0,
    generator_max_tokens: Annotated[
        int, typer.Option(min=1, help="Per completion.", rich_help_panel=_GENERATOR)
    ] = 1024,
    generator_body: Annotated[
        str, typer.Option(metavar="JSON", help="More keys of each request.", rich_help_panel=_GENERATOR)
    ] = "{}",
    generator_price_in: Annotated[
        float | None, typer.Option(min=0.0, help="Price per million prompt tokens.", rich_help_panel=_GENERATOR)
    ] = None,
    generator_price_out: Annotated[
        float | None, typer.Option(min=0.0, help="Price per million completion tokens.", rich_help_panel=_GENERATOR)
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, max=256, help="Concurrent requests.")] = 8,
    requests_per_minute: Annotated[
        float | None, typer.Option(min=0.001, help="Rate limit of each endpoint; default: none.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.001, help="Seconds per request.")] = 120.0,
    cache: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The cache of completions; default: OUT.completions.sqlite.")
    ] = None,
    restart: Annotated[bool, typer.Option("--restart", help="Replace OUT, or an unfinished run of it.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report instead of a table.")] = False,
) -> None:
    """Judge the rows of IN with a model behind an OpenAI-compatible chat endpoint.

    label: rows with `messages`, or `prompt` and optionally `response`, get `label`, `categories` and `judge`.
    compare: rows with `prompt` and optionally `responses` give pairs with `prompt`, `chosen` and `rejected`.

    Judgements that depend on the order or cannot be parsed go to OUT.dropped.jsonl, broken and failed rows to
    OUT.quarantine.jsonl; all counts, the swap consistency and the cost to OUT.report.json.

    A killed run resumes without repeating a request. Exit code 3 if rows failed or none could be judged.

    Example: guard data judge rows.jsonl labelled.jsonl --task label --base-url http://127.0.0.1:8001/v1 --model NAME
    """
    from guard import policy as policies
    from guard.annotate.job import Job
    from guard.annotate.judging import judge_file
    from guard.annotate.labels import LabelTask
    from guard.annotate.pairs import CompareTask
    from guard.annotate.question import Model
    from guard.errors import ConfigError
    from guard.jobs.rows import open_rows
    from guard.llm.client import Endpoint
    from guard.report.progress import progress_bar

    if task == "label" and (criterion or generator_model):
        raise ConfigError("--criterion and --generator-model are for --task compare; --task label uses the policy")
    if generator_model is None and generator_url is not None:
        raise ConfigError("--generator-url needs --generator-model")
    task_settings: LabelTask | CompareTask
    if task == "label":
        task_settings = LabelTask(policies.load(policy or DEFAULT_POLICY), votes)
    elif criterion:
        task_settings = CompareTask(policies.load(policy) if policy else None, _text(criterion), answers)
    else:
        task_settings = CompareTask(policies.load(policy or DEFAULT_POLICY), answers=answers)
    endpoint = Endpoint(base_url, model, api_key_env, requests_per_minute, timeout, body=_body(body, "--body"))
    generator = None
    if generator_model is not None:
        shared_key = api_key_env if generator_url in (None, base_url) else None
        generator_endpoint = Endpoint(
            generator_url or base_url,
            generator_model,
            generator_api_key_env or shared_key,
            requests_per_minute,
            timeout,
            body=_body(generator_body, "--generator-body"),
        )
        generator = Model(
            generator_endpoint,
            generator_temperature,
            generator_max_tokens,
            generator_price_in,
            generator_price_out,
        )
    judge_model = Model(endpoint, temperature, max_tokens, price_in, price_out)
    job = Job(source, out, task_settings, judge_model, generator, cache, jobs)
    with progress_bar(source.name, lambda: open_rows(source, also=None).total() if source.is_file() else None) as bar:
        report = judge_file(job, restart, bar.advance)
    if as_json:
        typer.echo(json.dumps(report, indent=2, ensure_ascii=False))
    else:
        _summarise(job, report)
    if report["failed"] or (report["read"] and not report["kept"] + report["dropped"]):
        raise typer.Exit(FAILED)


def _text(path: Path) -> str:
    from guard import document
    from guard.errors import ConfigError

    text = document.read_text(path, ConfigError).strip()
    if not text:
        raise ConfigError(f"{path}: is empty; it must say what makes an answer better")
    return text


def _body(text: str, option: str) -> dict[str, Any]:
    from guard.errors import ConfigError

    try:
        body = json.loads(text)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise ConfigError(
            f'{option}: must be a JSON object, like {{"max_tokens": null, "max_completion_tokens": 2000}}'
        )
    return body


def _summarise(job: Job, report: dict[str, Any]) -> None:
    statuses = ("kept", "dropped", "broken", "failed")
    typer.echo(f"read {report['read']} = " + " + ".join(f"{status} {report[status]}" for status in statuses))
    rows: list[tuple[str, float | None]] = [
        (f"{status}: {reason}", count)
        for status in statuses[1:]
        for reason, count in report["reasons"].get(status, {}).items()
    ]
    if "labels" in report:
        rows += report["labels"].items()
    else:
        rows.append(("pairs", report["pairs"]["kept"]))
        rows += [(f"pairs dropped: {reason}", count) for reason, count in report["pairs"]["dropped"].items()]
    rows += [(f"judgements {name}", count) for name, count in report["judgements"].items()]
    rows += [("drop rate", report["drop_rate"]), ("swap consistency", report["swap_consistency"])]
    if "first_position_share" in report:
        rows.append(("first answer preferred", report["first_position_share"]))
    columns = ["requests", "retries", "cache_hits", "tokens_in", "tokens_out", "uncounted", "cost"]
    usage = [
        *((name, *(_number(used[column]) for column in columns)) for name, used in report["usage"].items()),
        ("all", *[""] * 6, _number(report["cost"])),
    ]
    show(
        number_table("", "", rows=((name, _number(value)) for name, value in rows)),
        number_table("", *(column.replace("_", " ") for column in columns), rows=usage),
    )
    typer.echo(f"kept: {job.out}  dropped: {job.dropped}  quarantine: {job.quarantine}  report: {job.report}")


def _number(value: float | None) -> str:
    if isinstance(value, float):
        return f"{value:,.6f}".rstrip("0").rstrip(".")
    return "-" if value is None else f"{value:,}"
