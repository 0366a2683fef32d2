"""A candidate on a fold: trained, exported and asked as a user would, the first two in processes of their own."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from guard.conversation import Example
from guard.digest import file_digest
from guard.errors import EngineError, GuardError
from guard.evaluate.transfer.config import Candidate
from guard.jobs.atomic import atomic
from guard.metrics.classification import Floats
from guard.policy import Policy
from guard.serve.client import open_guard
from guard.verdict import log_odds

CHUNK = 256  # rows that are judged between two reports of progress


@dataclass(frozen=True, slots=True)
class ProxyResult:
    """log_odds: of unsafe, uncalibrated or not, for the fold's test rows in their order. The seconds are CPU seconds of
    training (export apart) and of scoring."""

    log_odds: Floats
    train_s: float
    score_s: float


def measure(
    candidate: Candidate,
    data: Path,
    test: Sequence[tuple[Example, Policy]],
    policy: str,
    rules: Policy,
    folder: Path,
    advance: Callable[[int], object] = lambda rows: None,
) -> ProxyResult:
    """Trains the candidate on the fold in `data`, exports it and scores the test rows, all under `folder`.

    A result of the same candidate, data and policy is read back instead. A training that was interrupted goes on from
    its last checkpoint. EngineError with the end of the output if a step fails.
    """
    identity = _identity(candidate, data, rules)
    stored = folder / "result.json"
    if stored.is_file():
        record = json.loads(stored.read_text(encoding="utf-8"))
        if record["identity"] == identity:
            return ProxyResult(np.array(record["log_odds"]), record["train_s"], record["score_s"])
    run, bundle, claim = folder / "run", folder / "bundle", folder / "identity"
    if not claim.is_file() or claim.read_text(encoding="utf-8") != identity:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        claim.write_text(identity, encoding="utf-8")
    if not (run / "run.json").is_file():  # it is written last
        changes = [f"{key}={json.dumps(value)}" for key, value in candidate.changes.items()]
        options = ("--policy", policy, "--data", str(data), "--out", str(run))
        train_s = _guard("train", candidate.config, *changes, *options, log=folder / "train.log")
        (folder / "train_s").write_text(repr(train_s), encoding="utf-8")
    shutil.rmtree(bundle, ignore_errors=True)
    _guard("export", str(run), str(bundle), *candidate.export, log=folder / "export.log")
    begun = _cpu(resource.RUSAGE_SELF)
    odds = _scores(bundle, test, advance)
    score_s = _cpu(resource.RUSAGE_SELF) - begun
    train_s = float((folder / "train_s").read_text(encoding="utf-8"))
    record = {"identity": identity, "train_s": train_s, "score_s": score_s, "log_odds": odds.tolist()}
    with atomic(stored) as file:
        file.write(json.dumps(record).encode())
    return ProxyResult(odds, train_s, score_s)


def _identity(candidate: Candidate, data: Path, rules: Policy) -> str:
    made_of: dict[str, Any] = {
        "candidate": asdict(candidate),
        "files": {path.name: file_digest(path) for path in sorted(data.glob("*.parquet"))},
        "policy": rules.digest,
    }
    config = Path(candidate.config)
    if config.is_file():
        made_of["config"] = file_digest(config)
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()


def _scores(bundle: Path, test: Sequence[tuple[Example, Policy]], advance: Callable[[int], object]) -> Floats:
    by_policy: dict[Policy, list[int]] = {}
    for index, (_, policy) in enumerate(test):
        by_policy.setdefault(policy, []).append(index)
    odds = np.empty(len(test))
    with open_guard(bundle) as guard:
        for policy, indices in by_policy.items():
            for start in range(0, len(indices), CHUNK):
                chunk = indices[start : start + CHUNK]
                answers = guard.moderate_each([test[index][0].conversation for index in chunk], policy=policy)
                for index, answer in zip(chunk, answers, strict=True):
                    if isinstance(answer, GuardError):
                        raise answer
                    odds[index] = log_odds(answer.p_unsafe)
                advance(len(chunk))
    return odds


def _guard(*arguments: str, log: Path) -> float:
    """Runs a `guard` command and returns its CPU seconds."""
    begun = _cpu(resource.RUSAGE_CHILDREN)
    with log.open("ab") as output:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "guard", *arguments],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "HF_HUB_DISABLE_TELEMETRY": "1"},
            check=False,
        )
    if done.returncode:
        end = "\n".join(log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:])
        raise EngineError(f"`guard {arguments[0]}` ended with {done.returncode}; the end of {log}:\n{end}")
    return _cpu(resource.RUSAGE_CHILDREN) - begun


def _cpu(who: int) -> float:
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime
