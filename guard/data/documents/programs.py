"""Generated data, logs and code: genres of machine.py. Each is an endless sequence of lines."""

from __future__ import annotations

from collections.abc import Iterator

from guard.data.documents.vocabulary import CITIES, DAYS, FIRST, MONTHS, Pen

_LEVELS = ("INFO", "INFO", "INFO", "DEBUG", "WARN", "ERROR", "TRACE")

# -- data -------------------------------------------------------------------------------------------------------------


def csv(pen: Pen) -> Iterator[str]:
    mark = pen.of((",", ";", "\t", ","))
    yield mark.join(["id", pen.noun(), pen.noun(), "date", "price"])
    row = pen.number(1, 5000)
    while True:
        row += 1
        yield f"{row}{mark}{pen.title()}{mark}{pen.of(CITIES)}{mark}{pen.date()}{mark}{pen.money()}"


def json(pen: Pen) -> Iterator[str]:
    yield f'{{"{pen.noun()}s": ['
    while True:
        yield f'  {{"id": {pen.number(1, 99999)}, "{pen.noun()}": "{pen.title()}", "url": "{pen.url()}",'
        yield f'   "{pen.noun()}": {pen.of(("true", "false", "null", "[]"))}, "price": {pen.money()}}},'


def xml(pen: Pen) -> Iterator[str]:
    yield '<?xml version="1.0" encoding="UTF-8"?>'
    tag = pen.noun()
    while True:
        yield f'<{tag} id="{pen.number(1, 9999)}" type="{pen.adjective()}">'
        yield f"  <name>{pen.title()}</name><date>{pen.day()}</date>"
        yield f"  <{pen.verb()} value='{pen.number(0, 99)}' unit='{pen.noun()}'/>"
        yield f"</{tag}>"


def markdown(pen: Pen) -> Iterator[str]:
    yield f"| {pen.noun().title()} | {pen.noun().title()} | Price |"
    yield "|---|:---:|---:|"
    while True:
        yield f"| {pen.title()} | {pen.of(('yes', 'no', '✓', 'n/a'))} | {pen.money()} |"


def blobs(pen: Pen) -> Iterator[str]:
    while True:
        yield f"sha256:{pen.hex(32)}  {pen.noun()}-{pen.number(0, 9)}.{pen.number(0, 20)}.tar.gz"
        yield f"data:image/png;base64,{pen.base64(pen.number(12, 40))}=="
        yield f"{pen.hex(8)}-{pen.hex(4)}-{pen.hex(4)}-{pen.hex(12)}"


def config(pen: Pen) -> Iterator[str]:
    while True:
        yield f"[{pen.noun()}.{pen.noun()}]"
        yield f"{pen.noun()}_{pen.noun()} = {pen.of(('true', 'false', '10', '30s', '/var/lib/data', 'utf-8', 'auto'))}"
        yield f"{pen.verb()}_timeout={pen.number(1, 900)}  ; {pen.sentence()}"
        yield f"{pen.noun()}.{pen.word()}: {pen.number(0, 65535)}"


# -- programs ---------------------------------------------------------------------------------------------------------


def access_log(pen: Pen) -> Iterator[str]:
    while True:
        yield (
            f'{pen.address()} - - [{pen.number(1, 28):02}/{pen.of(MONTHS)}/2024:{pen.time()} +0000] "GET '
            f'{pen.path()} HTTP/1.1" {pen.of(("200", "200", "304", "404", "301"))} {pen.number(120, 90000)}'
        )


def log(pen: Pen) -> Iterator[str]:
    day = pen.day()
    while True:
        yield (
            f"{day} {pen.time()},{pen.number(0, 999):03} {pen.of(_LEVELS)} [{pen.noun()}-{pen.number(1, 16)}] "
            f"{pen.word()}: {pen.noun()}={pen.number(0, 9999)} took {pen.number(1, 900)} ms"
        )


def trace(pen: Pen) -> Iterator[str]:
    while True:
        if pen.chance(0.5):
            yield "Traceback (most recent call last):"
            yield f'  File "/app/{pen.noun()}/{pen.noun()}.py", line {pen.number(1, 900)}, in {pen.word()}'
            yield f"    return self.{pen.word()}({pen.noun()})"
            yield f"{pen.of(('KeyError', 'ValueError', 'TimeoutError'))}: '{pen.noun()}'"
        else:
            yield f"Exception in thread main java.lang.IllegalStateException: {pen.thing()}"
            yield (
                f"\tat org.example.{pen.noun()}.{pen.noun().title()}.{pen.verb()}"
                f"({pen.noun().title()}.java:{pen.number(1, 900)})"
            )
            yield f"\t... {pen.number(2, 40)} more"


def shell(pen: Pen) -> Iterator[str]:
    user = f"{pen.of(FIRST).lower()}@{pen.noun()}:~$"
    while True:
        yield (
            f"{user} {pen.of(('ls -la', 'cat', 'cd', 'grep -rn', 'tail -f', 'rm -f', 'cp -r'))} "
            f"{pen.noun()}/{pen.noun()}.txt"
        )
        yield (
            f"-rw-r--r-- 1 {pen.of(FIRST).lower()} staff {pen.number(10, 99999):>6} {pen.of(MONTHS)} "
            f"{pen.number(1, 28):>2} {pen.clock()} {pen.noun()}.{pen.of(('log', 'txt', 'md'))}"
        )
        number = pen.number(300, 9999)
        yield f"{user} {pen.of((f'kill -9 {number}', 'make test', 'git pull', './run.sh', f'fg %{number}'))}"


def sql(pen: Pen) -> Iterator[str]:
    while True:
        table = pen.noun()
        yield f"SELECT t.{pen.noun()}, COUNT(*) FROM {table}s t LEFT JOIN {pen.noun()}s j ON j.{table}_id = t.id"
        yield f"WHERE t.{pen.noun()} = '{pen.title()}' AND t.created > '{pen.day()}' LIMIT {pen.number(1, 100)};"
        yield f"INSERT INTO {table}s (id, name) VALUES ({pen.number(1, 9999)}, '{pen.thing()}');"
        yield f"EXECUTE {pen.word()}; DROP TABLE IF EXISTS tmp_{pen.noun()};"


def python(pen: Pen) -> Iterator[str]:
    while True:
        name = pen.noun()
        yield f"def {pen.word()}({name}, {pen.adjective()}={pen.number(0, 64)}):"
        yield f'    """{pen.sentence()}"""'
        yield f"    for {pen.adjective()} in {name}.{pen.noun()}s:"
        yield f"        self.{pen.word()}({pen.adjective()}, {pen.number(0, 9)})  # {pen.thing()}"
        yield f"    return {name}.{pen.word()}()"


def c(pen: Pen) -> Iterator[str]:
    while True:
        name = pen.noun()
        yield f"static int {pen.word()}(struct {name} *{name}, size_t n) {{"
        yield f"    if (!{name}->{pen.noun()}) {pen.of(('abort();', 'return -1;', 'goto out;', 'exit(1);'))}"
        yield f"    {name}->{pen.noun()} = {pen.word()}(n, 0x{pen.hex(4)}); /* {pen.thing()} */"
        yield "}"


def javascript(pen: Pen) -> Iterator[str]:
    while True:
        name = pen.noun()
        yield f"const {name} = document.getElementById('{pen.adjective()}-{name}');"
        yield f"{name}.addEventListener('click', () => {{ {pen.verb()}{pen.noun().title()}({pen.number(0, 99)}); }});"
        yield f"// {pen.sentence()}"
        yield f"$('.{pen.noun()}').{pen.verb()}({{ {pen.noun()}: '{pen.title()}', delay: {pen.number(10, 900)} }});"


def java(pen: Pen) -> Iterator[str]:
    while True:
        kind = pen.noun().title()
        yield f"public final class {kind}{pen.noun().title()} extends {pen.noun().title()} {{"
        yield f"    private final List<{kind}> {pen.noun()}s = new ArrayList<>();"
        yield f"    public void {pen.verb()}{kind}(int {pen.noun()}) {{ executor.{pen.word()}(this::{pen.verb()}); }}"
        yield "}"


def rust(pen: Pen) -> Iterator[str]:
    while True:
        yield (
            f"pub fn {pen.word()}({pen.noun()}: &str, {pen.noun()}: u{pen.of(('8', '32', '64'))}) -> "
            f"Result<(), Error> {{"
        )
        yield f"    let {pen.noun()} = {pen.noun()}.iter().map(|x| x.{pen.word()}()).collect::<Vec<_>>();"
        yield f'    assert_eq!({pen.noun()}, {pen.number(0, 99)}, "{pen.thing()}");'
        yield "}"


def diff(pen: Pen) -> Iterator[str]:
    while True:
        yield f"@@ -{pen.number(1, 400)},{pen.number(1, 9)} +{pen.number(1, 400)},{pen.number(1, 9)} @@ {pen.word()}"
        yield f"-    {pen.noun()} = {pen.word()}({pen.number(0, 9)})"
        yield f"+    {pen.noun()} = {pen.word()}({pen.noun()}, {pen.number(0, 9)})"


def git_log(pen: Pen) -> Iterator[str]:
    while True:
        yield f"commit {pen.hex(32)}"
        yield f"Author: {pen.name()} <{pen.email()}>"
        yield (
            f"Date:   {pen.of(DAYS)} {pen.of(MONTHS)} {pen.number(1, 28)} {pen.time()} "
            f"{pen.number(2008, 2025)} +0{pen.number(0, 9)}00"
        )
        yield f"    {pen.verb().title()} {pen.noun()} when {pen.noun()} is {pen.adjective()} (#{pen.number(1, 9999)})"


def report(pen: Pen) -> Iterator[str]:
    while True:
        yield f"[bot] {pen.noun()}-{pen.verb()} job finished {pen.day()} {pen.time()} (exit code 0)"
        yield (
            f"Checked: {pen.number(1, 9000)}  Failed: {pen.number(0, 9)}  Skipped: {pen.number(0, 60)}  "
            f"Killed: {pen.number(0, 3)}"
        )
        yield (
            f"{pen.noun()}/{pen.word()} {'.' * pen.number(3, 20)} "
            f"{pen.of(('ok', 'PASSED', 'FAILED', 'skipped'))} [{pen.number(0, 100)}%]"
        )
        yield f"Cron <root@{pen.noun()}> /usr/bin/{pen.word()} --{pen.verb()} > /dev/null"


GENRES = (
    csv,
    json,
    xml,
    markdown,
    blobs,
    config,
    access_log,
    log,
    trace,
    shell,
    sql,
    python,
    c,
    javascript,
    java,
    rust,
    diff,
    git_log,
    report,
)
