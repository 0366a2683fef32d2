"""Generated scripts, settings and manuals of people who run machines: genres of machine.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from urllib.parse import quote, quote_plus

from guard.data.documents.vocabulary import FIRST, MONTHS, Pen

_IMAGES = ("python:3.12-slim", "debian:bookworm", "alpine:3.20", "node:22", "golang:1.23", "ubuntu:24.04")
_SIGNALS = ("SIGTERM", "SIGKILL", "SIGINT", "SIGHUP")
_ERRORS = ("KeyError", "ValueError", "TimeoutError", "ConnectionResetError", "RuntimeError", "MemoryError", "OSError")


def dockerfile(pen: Pen) -> Iterator[str]:
    while True:
        user = pen.of(FIRST).lower()
        yield f"FROM {pen.of(_IMAGES)} AS {pen.noun()}"
        yield (
            f"RUN apt-get update && apt-get install -y --no-install-recommends {pen.noun()}-{pen.noun()} && rm -rf "
            "/var/lib/apt/lists/*"
        )
        yield f"WORKDIR /{pen.noun()}"
        yield f"COPY --from={pen.noun()} --chown={user}:{user} {pen.noun()}/ ./{pen.noun()}/"
        yield f"ENV {pen.noun().upper()}_{pen.noun().upper()}={pen.number(1, 9000)}"
        yield f"# {pen.of(('drop root', 'no shell for the user', 'kill the daemon on stop', 'strip symbols'))}"
        yield f"RUN useradd --system --no-create-home {user}"
        yield f"USER {user}"
        yield f"EXPOSE {pen.number(1000, 9999)}"
        yield f"STOPSIGNAL {pen.of(_SIGNALS)}"
        yield f'ENTRYPOINT ["/{pen.noun()}/{pen.word()}", "--{pen.verb()}", "{pen.number(1, 90)}"]'
        yield ""


def script(pen: Pen) -> Iterator[str]:
    yield f"#!/{pen.of(('bin/sh', 'bin/bash', 'usr/bin/env bash'))}"
    yield f"# {pen.sentence()}"
    yield "set -eu"
    while True:
        name, part = pen.noun(), pen.noun()
        yield ""
        yield f"{pen.word()}() {{"
        yield f'    for {name} in "$@"; do'
        yield f'        [ -e "${name}" ] || {{ echo "no such {part}: ${name}" >&2; return {pen.number(1, 9)}; }}'
        yield (
            f'        {pen.of(("cp -a", "mv", "rm -rf", "gzip -9", "chmod 600", "shred -u"))} "${name}" "/var/{part}/"'
        )
        yield "    done"
        yield "}"
        yield f'trap \'kill -{pen.number(1, 15)} "$pid" 2>/dev/null; rm -f "$tmp"\' EXIT'
        yield (
            f'pid=$(pgrep -x {part}) && kill -{pen.of(_SIGNALS)[3:]} "$pid"  # '
            f"{pen.of(('orphans too', 'children first'))}"
        )
        yield f"find /{name} -mtime +{pen.number(1, 90)} -name '*.{pen.of(('log', 'tmp', 'bak'))}' -delete"
        yield (
            f'if ! {pen.word()} --{pen.verb()} "${{{part.upper()}:-{pen.number(1, 99)}}}"; then exit '
            f"{pen.number(1, 3)}; fi"
        )


def nginx(pen: Pen) -> Iterator[str]:
    while True:
        yield (
            f"upstream {pen.noun()} {{ server {pen.address()}:{pen.number(1000, 9999)} max_fails={pen.number(1, 9)}; }}"
        )
        yield "server {"
        yield f"    listen {pen.of(('80', '443 ssl', '8080'))};"
        yield f"    server_name {pen.noun()}.example.org;"
        yield f"    location ~ ^/{pen.noun()}/(.*)\\.{pen.of(('php', 'html', 'json'))}$ {{"
        yield f"        proxy_pass http://{pen.noun()}/$1?{pen.noun()}=$arg_{pen.noun()};"
        yield (
            f"        {pen.of(('deny all;', 'return 403;', 'limit_req zone=one burst=5;', 'proxy_read_timeout 30s;'))}"
        )
        yield "    }"
        yield f"    error_page {pen.of(('404', '500 502'))} /{pen.noun()}.html;"
        yield "}"


def unit(pen: Pen) -> Iterator[str]:
    while True:
        yield "[Unit]"
        yield f"Description={pen.sentence()}"
        yield f"After=network.target {pen.noun()}.service"
        yield "[Service]"
        yield f"ExecStart=/usr/bin/{pen.word()} --{pen.verb()} /etc/{pen.noun()}.conf"
        yield f"KillMode={pen.of(('mixed', 'process', 'control-group'))}"
        yield f"KillSignal={pen.of(_SIGNALS)}"
        yield f"Restart=on-{pen.of(('failure', 'abort', 'abnormal'))}"
        yield f"OOMScoreAdjust={pen.number(0, 1000) - 500}"
        yield "[Install]"
        yield "WantedBy=multi-user.target"
        yield ""


def manifest(pen: Pen) -> Iterator[str]:
    while True:
        name = f"{pen.noun()}-{pen.noun()}"
        yield f"apiVersion: {pen.of(('apps/v1', 'v1', 'batch/v1'))}"
        yield f"kind: {pen.of(('Deployment', 'Service', 'CronJob', 'ConfigMap'))}"
        yield f"metadata: {{name: {name}, labels: {{app: {name}, tier: {pen.adjective()}}}}}"
        yield "spec:"
        yield f"  replicas: {pen.number(1, 9)}"
        yield f"  terminationGracePeriodSeconds: {pen.number(1, 90)}"
        yield (
            f"  containers: [{{name: {pen.noun()}, image: "
            f"registry.example.com/{name}:{pen.number(1, 9)}.{pen.number(0, 40)}}}]"
        )
        yield (
            f"  livenessProbe: {{exec: {{command: [{pen.verb()}, --{pen.noun()}]}}, periodSeconds: "
            f"{pen.number(1, 60)}}}"
        )
        yield "  securityContext: {runAsNonRoot: true, allowPrivilegeEscalation: false}"
        yield "---"


def manual(pen: Pen) -> Iterator[str]:
    name = pen.of((pen.verb(), pen.noun(), f"{pen.noun()}ctl"))
    yield f"{name.upper()}({pen.number(1, 8)})              User Commands              {name.upper()}(1)"
    yield ""
    yield "NAME"
    yield f"       {name} - {pen.verb()} a {pen.thing()}"
    yield ""
    yield "SYNOPSIS"
    yield f"       {name} [-{pen.hex(1)}] [--{pen.verb()}=NUM] FILE..."
    yield ""
    yield "DESCRIPTION"
    while True:
        yield f"       {pen.sentence()} {pen.sentence()}"
        yield f"       -{pen.of(tuple('abcdfhknqrvx'))}, --{pen.verb()}-{pen.noun()}=NUM"
        yield (
            f"              {pen.verb().title()} the {pen.noun()} after NUM seconds; the default is "
            f"{pen.number(1, 300)}."
        )
        yield (
            "              "
            f"{pen.of(('Kills all children if the parent dies.', 'Aborts on the first error.', 'Implies -f.'))}"
        )
        yield (
            f"       Exit status {pen.number(1, 3)} if a {pen.noun()} cannot be "
            f"{pen.of(('read', 'opened', 'executed', 'killed'))}."
        )
        if pen.chance(0.2):
            yield f"SEE ALSO\n       {pen.verb()}(1), {pen.noun()}.conf(5), kill(2)"


def changelog(pen: Pen) -> Iterator[str]:
    major, minor = pen.number(1, 9), pen.number(3, 30)
    kinds = ("Fixed", "Added", "Removed", "Changed", "Deprecated", "Security")
    while True:
        minor = max(minor - 1, 0)
        yield f"## [{major}.{minor}.{pen.number(0, 9)}] - {pen.day()}"
        for _ in range(pen.number(1, 3)):
            yield f"### {pen.of(kinds)}"
            yield (
                f"- `{pen.word()}()` no longer {pen.of(('crashes', 'hangs', 'leaks', 'dies'))} when the "
                f"{pen.noun()} is {pen.adjective()} (#{pen.number(1, 9999)})"
            )
            yield f"- {pen.verb().title()} {pen.thing()} by default; thanks to @{pen.nick()}"
        yield ""


def stack(pen: Pen) -> Iterator[str]:
    while True:
        yield (
            f"{pen.day()} {pen.time()} ERROR {pen.noun()}.{pen.noun()}: {pen.word()} failed, retry "
            f"{pen.number(1, 5)} of 5"
        )
        yield "Traceback (most recent call last):"
        for _ in range(pen.number(2, 6)):
            call = f"self.{pen.word()}({pen.noun()}, timeout={pen.number(1, 90)})"
            yield f'  File "/usr/lib/{pen.noun()}/{pen.noun()}.py", line {pen.number(1, 2000)}, in {pen.word()}'
            yield f"    {pen.of(('return ', '', f'{pen.noun()} = ', 'raise '))}{call}"
            yield f"    {'^' * pen.number(5, 30)}"
        yield (
            f"{pen.of(_ERRORS)}: {pen.thing()} "
            f"{pen.of(('was killed by signal 9', 'died', 'is not executable', 'not found'))}"
        )
        yield "During handling of the above exception, another exception occurred:"


def statements(pen: Pen) -> Iterator[str]:
    while True:
        table, column = f"{pen.noun()}_{pen.noun()}", pen.noun()
        yield f"CREATE TABLE IF NOT EXISTS {table} ("
        yield "    id BIGINT PRIMARY KEY,"
        yield f"    {column} {pen.of(('TEXT', 'INTEGER', 'TIMESTAMP', f'VARCHAR({pen.number(10, 255)})'))} NOT NULL,"
        yield f"    {pen.noun()}_id BIGINT REFERENCES {pen.noun()}s (id) ON DELETE CASCADE"
        yield ");"
        yield f"-- {pen.sentence()}"
        yield f"CREATE INDEX {table}_{column} ON {table} ({column} DESC);"
        yield (
            f"UPDATE {table} SET {column} = {pen.number(0, 99)} WHERE {column} IS NULL OR id IN (SELECT id FROM "
            f"{pen.noun()}s);"
        )
        yield f"BEGIN; DELETE FROM {table} WHERE {column} < '{pen.day()}'; {pen.of(('COMMIT', 'ROLLBACK'))};"
        yield f"GRANT SELECT ON {table} TO {pen.noun()}_{pen.of(('reader', 'admin', 'backup'))};"


def queries(pen: Pen) -> Iterator[str]:
    """Addresses with escapes and queries, and texts whose spaces are escapes."""
    escapes: tuple[Callable[[str], str], ...] = (quote, quote_plus, lambda text: quote(text, safe=""))
    escape = pen.of(escapes)
    while True:
        words = pen.sentence()
        yield (
            f"https://{pen.noun()}.example.org/{pen.noun()}?q={escape(words)}"
            f"&page={pen.number(1, 90)}&utm_source={pen.noun()}"
        )
        yield f"/{quote(pen.title())}/{quote(pen.title())}.{pen.of(('pdf', 'html', 'jpg'))}#{quote(pen.thing())}"
        yield f"redirect={quote(pen.url(), safe='')}&state={pen.base64(pen.number(12, 32))}%3D%3D"
        if pen.chance(0.3):
            yield escape(f"{words} {pen.sentence()} {pen.sentence()}")
        if pen.chance(0.2):
            yield (
                f"{pen.of(MONTHS)} {pen.number(1, 28)} {pen.clock()} GET "
                f"/{pen.noun()}?{pen.noun()}={escape(pen.sentence())}"
            )


GENRES = (dockerfile, script, nginx, unit, manifest, manual, changelog, stack, statements, queries)
