"""Runs the code blocks of a page as its reader would: in order, in one shell, in one folder.

`sh` and `console` blocks are bash, `python` blocks are programs. A server that a line starts with `&` is waited for and
runs until the page ends; one without is started, waited for and stopped. `$ ` in a console block begins a command, and
the lines below it are what it prints (`...` stands for anything). Installations are not repeated.

The folder holds copies of `examples/`, of `training/configs/`, and the shipped guard as `bundles/mine`.
"""

from __future__ import annotations

import fnmatch
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.docs.markdown import ROOT, Block

PORTS = ("50051", "8080", "8000", "8001", "9090")
_INSTALLS = re.compile(r"^\s*(pip (un)?install|python3? -m venv|source .*activate|\. .*activate|git clone|cd guard)\b")
_SERVER = re.compile(r"^guard (serve|proxy)\b(?!.*(--check-config|--help))")
_PRELUDE = """\
set -Euo pipefail
exec 3>&2
trap 'echo "$AT: $BASH_COMMAND" >&3; exit 1' ERR
trap 'trap - ERR; kill $(jobs -p) 2>/dev/null; wait' EXIT
guard() {
    local code=0
    if [ "$BASHPID" != $$ ] && { [ "$1" = serve ] || [ "$1" = proxy ]; }; then exec "$PYTHON" -m guard "$@"; fi
    "$PYTHON" -m guard "$@" || code=$?
    if [ $code = 1 ]; then case "$1 ${2-}" in check*|"policy diff"|"data diff") code=0;; esac; fi  # an answer, no error
    return $code
}
python() { "$PYTHON" "$@"; }
serving() {  # waits until the last job says that it serves
    for _ in $(seq 3000); do
        if grep -q "serving on" server; then return 0; fi
        if ! kill -0 $! 2>/dev/null; then break; fi
        sleep 0.1
    done
    cat server >&3
    return 1
}
"""


class Failed(Exception):
    """A block that does not do what its page says."""


def run(blocks: Iterable[Block], folder: Path, timeout: float = 1200) -> None:
    """Raises Failed, with the line of the page, if a command fails or prints something else than its page shows."""
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("node_modules"))
    shutil.copytree(ROOT / "training" / "configs", folder / "training" / "configs")
    shutil.copytree(ROOT / "guard" / "_assets" / "bundles" / "mini-en", folder / "bundles" / "mine")
    script, expected = [_PRELUDE], {}
    for block in blocks:
        code = re.sub(rf"\b({'|'.join(PORTS)})\b", lambda found: ports[found[0]], block.code)
        at = f"{block.page}:{block.line}"
        script.append(f"AT={shlex.quote(at)}")
        if block.language == "python":
            program = folder / f"block_{len(script)}.py"
            program.write_text(code, encoding="utf-8")
            script.append(f"python {program.name}")
        elif block.language == "console":
            for command, output in exchanges(code):
                said = folder / f"said_{len(script)}.txt"
                expected[said] = (f"{at}: {command}", output)
                script.append(f"{{ {command}\n}} >{said.name} 2>&1")
        else:
            script.extend(shell(code))
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("GUARD_")},
        "PYTHON": sys.executable,
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "HF_HUB_OFFLINE": "1",
        "COLUMNS": "100",
        "GUARD_SERVE_PORT": ports["50051"],
    }
    command = ["bash", "-c", "\n".join(script)]
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=timeout)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    if process.returncode or "Traceback (most recent call last)" in output:
        raise Failed(output[-4000:])
    for said, (at, lines) in expected.items():
        printed = "\n".join(line.rstrip() for line in said.read_text(encoding="utf-8").strip().splitlines())
        if not fnmatch.fnmatchcase(printed, pattern(lines)):
            raise Failed(f"{at} printed\n{printed}\n— and the page says\n{lines}")


def pattern(lines: str) -> str:
    """What a page shows, as a pattern in which `...` is anything and all else itself."""
    escaped = re.sub(r"[\[*?]", lambda found: f"[{found[0]}]", lines.strip())
    return "\n".join(line.rstrip() for line in escaped.replace("...", "*").splitlines())


def exchanges(code: str) -> Iterator[tuple[str, str]]:
    """The commands of a console block, each with what it prints."""
    for part in re.split(r"^\$ ", code, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield command, output


def shell(code: str) -> Iterator[str]:
    """The lines of a sh block, with servers that are waited for and without installations."""
    for line in re.sub(r"\\\n\s*", "", code).splitlines():
        if _INSTALLS.match(line):
            continue
        if not _SERVER.match(line):
            yield line
            continue
        bare = re.sub(r"\s+#.*", "", line).rstrip()
        stays = bare.endswith("&")
        yield f"{bare.removesuffix('&')} >server 2>&1 &"
        yield "serving"
        if not stays:
            yield "kill $!; wait $!"


def free_ports(count: int) -> list[str]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    numbers = [str(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return numbers
