"""The installation: package versions, and the one onnxruntime that there may be."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterator
from pathlib import Path

from guard.doctor.check import Check, fail, ok, warn
from guard.errors import DISTRIBUTION, install_hint

RUNTIMES = ("onnxruntime", "onnxruntime-gpu")
_CUDA = Path("/proc/driver/nvidia/version")


def checks() -> Iterator[Check]:
    yield ok("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    yield _packages()
    yield _runtime()


def version(package: str) -> str | None:
    """The installed version, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _packages() -> Check:
    """Versions against what the distribution asks for; packages of extras count where they are installed."""
    from packaging.requirements import Requirement

    missing, wrong, right = [], [], []
    for line in importlib.metadata.requires(DISTRIBUTION) or []:
        wanted = Requirement(line)
        extra = wanted.marker is not None and not wanted.marker.evaluate({"extra": ""})
        found = version(wanted.name)
        if wanted.name == DISTRIBUTION or (extra and found is None):
            continue
        if found is None:
            if wanted.name not in RUNTIMES:  # of which there may be either, see `_runtime`
                missing.append(wanted.name)
        elif not wanted.specifier.contains(found, prereleases=True):
            wrong.append(f"{wanted.name} {found} (needs {wanted.specifier})")
        else:
            right.append(f"{wanted.name} {found}")
    own = f"{DISTRIBUTION} {version(DISTRIBUTION)}"
    if missing or wrong:
        told = [*([f"missing: {', '.join(missing)}"] if missing else []), *wrong]
        return fail("packages", "; ".join(told), install_hint())
    return ok("packages", f"{own}; {', '.join(dict.fromkeys(right))}")


def _runtime() -> Check:
    here = {name: found for name in RUNTIMES if (found := version(name)) is not None}
    if not here:
        return fail("onnxruntime", "not installed", "run: pip install onnxruntime, or onnxruntime-gpu where CUDA is")
    if len(here) > 1:
        return fail(
            "onnxruntime",
            f"both {' and '.join(f'{name} {found}' for name, found in here.items())} are installed; they share one "
            "module, and which of them it is depends on the order of installation",
            "run: pip uninstall -y onnxruntime onnxruntime-gpu, then install the one that fits this machine",
        )
    import onnxruntime

    ((name, found),) = here.items()
    providers = [each.removesuffix("ExecutionProvider") for each in onnxruntime.get_available_providers()]
    told = f"{name} {found}; providers: {', '.join(providers)}"
    if _CUDA.is_file() and "CUDA" not in providers:
        return warn("onnxruntime", f"{told}; there is an NVIDIA driver", "for the GPU: replace it by onnxruntime-gpu")
    return ok("onnxruntime", told)
