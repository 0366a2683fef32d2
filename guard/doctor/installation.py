"""Checks of the installation: package versions, and that exactly one onnxruntime is installed."""

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
    """Installed versions against the distribution's requirements; packages of extras count only where installed."""
    from packaging.requirements import Requirement

    missing, wrong, matching = [], [], []
    for line in importlib.metadata.requires(DISTRIBUTION) or []:
        requirement = Requirement(line)
        extra = requirement.marker is not None and not requirement.marker.evaluate({"extra": ""})
        installed = version(requirement.name)
        if requirement.name == DISTRIBUTION or (extra and installed is None):
            continue
        if installed is None:
            if requirement.name not in RUNTIMES:  # either of the two satisfies it, see `_runtime`
                missing.append(requirement.name)
        elif not requirement.specifier.contains(installed, prereleases=True):
            wrong.append(f"{requirement.name} {installed} (needs {requirement.specifier})")
        else:
            matching.append(f"{requirement.name} {installed}")
    own = f"{DISTRIBUTION} {version(DISTRIBUTION)}"
    if missing or wrong:
        problems = [*([f"missing: {', '.join(missing)}"] if missing else []), *wrong]
        return fail("packages", "; ".join(problems), install_hint())
    return ok("packages", f"{own}; {', '.join(dict.fromkeys(matching))}")


def _runtime() -> Check:
    installed = {name: release for name in RUNTIMES if (release := version(name)) is not None}
    if not installed:
        return fail("onnxruntime", "not installed", "run: pip install onnxruntime (with CUDA: onnxruntime-gpu)")
    if len(installed) > 1:
        return fail(
            "onnxruntime",
            f"both {' and '.join(f'{name} {release}' for name, release in installed.items())} are installed; they "
            "share one module, so the one installed last wins",
            "run: pip uninstall -y onnxruntime onnxruntime-gpu, then install the one that fits this machine",
        )
    import onnxruntime

    ((name, release),) = installed.items()
    providers = [each.removesuffix("ExecutionProvider") for each in onnxruntime.get_available_providers()]
    detail = f"{name} {release}; providers: {', '.join(providers)}"
    if _CUDA.is_file() and "CUDA" not in providers:
        advice = "to use the GPU, replace it by onnxruntime-gpu"
        return warn("onnxruntime", f"{detail}; an NVIDIA driver is installed", advice)
    return ok("onnxruntime", detail)
