"""ONNX Runtime sessions, opened in one way for all engines."""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING

from guard.errors import BundleError

if TYPE_CHECKING:
    import onnxruntime

CLOSED = "the engine is closed; open the guard again"


def usable_cores() -> int:
    """The number of cores that this process may use; all cores where the system has no affinity."""
    affinity = getattr(os, "sched_getaffinity", None)  # macOS and Windows have none
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


@cache
def _may_overflow() -> bool:
    """Whether this CPU may lack VNNI: ONNX Runtime then adds pairs of 8-bit products in 16 bits, too few, unless
    it is told to use exact kernels. Where there is VNNI these are half as fast; on ARM it ignores what it is told.
    """
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            return "vnni" not in file.read(1 << 14)  # the first core's flags
    except OSError:
        return True


def session(path: str, threads: int | None) -> onnxruntime.InferenceSession:
    """A CPU session that does not spin between batches (spinning costs a whole core beside a service).

    Products of integers are exact on every CPU, see `_may_overflow`. Bias and GELU stay apart, since the operator that
    fuses them takes a quarter longer than the two.

    BundleError if the file is not a model that this ONNX Runtime reads.
    """
    import onnxruntime  # not by a process that only makes windows: 30 MB

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or usable_cores()
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if _may_overflow():
        options.add_session_config_entry("session.x64quantprecision", "1")
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"], disabled_optimizers=["BiasGeluFusion"]
        )
    except Exception as problem:  # noqa: BLE001 - ONNX Runtime raises many unrelated types
        raise BundleError(
            f"{path}: ONNX Runtime cannot load it ({type(problem).__name__}); export the bundle again"
        ) from None
