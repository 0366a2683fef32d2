"""Bundles: the folder of a finished guard. Sealed once, verified at every load."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, NonNegativeInt

from guard import assets, calibration, policy, schema
from guard.calibration import Calibration
from guard.digest import file_digest
from guard.errors import AssetError, BundleError, DocumentError, NoBundle, PolicyError
from guard.external_data import locations
from guard.policy import Policy

FORMAT = 1
MANIFEST = "guard.json"
LEAST_TOKENS = 16  # of a window; fewer leave no room for text beside the control tokens
UNSEALED = {MANIFEST, "README.md"}  # the card is written from an evaluation of the sealed bundle


@dataclass(frozen=True, slots=True)
class Manifest:
    """`guard.json`. `model` is the sha256 of all else in it in canonical form, the files' digests included."""

    __pydantic_config__ = schema.STRICT

    format: int
    name: str
    kind: str  # of engine, see guard.engines.registry
    base: str  # the base model of the weights
    policy: str  # digest of the policy that it was trained for
    renderer: str  # digest of the layout of its training inputs
    max_tokens: Annotated[int, Field(ge=LEAST_TOKENS)]  # of one window, control tokens included
    overlap: NonNegativeInt  # tokens that neighbouring windows share
    data: str | None  # digest of the training data's manifest
    files: Mapping[str, str]  # name -> sha256
    policies: tuple[str, ...] = ()  # shipped ones that it was trained under beside its own
    languages: tuple[str, ...] = ()  # that it was trained for, as BCP 47 tags; empty: not stated
    packages: Mapping[str, str] = field(default_factory=dict)  # name -> version at export
    parity: Mapping[str, float] = field(default_factory=dict)  # measured differences, torch against ONNX
    model: str = ""


@dataclass(frozen=True, slots=True)
class Bundle:
    root: Path
    manifest: Manifest
    policy: Policy
    calibration: Calibration

    def path(self, name: str) -> Path:
        """The path of a verified file of the bundle. BundleError for any other file."""
        if name not in self.manifest.files and name not in UNSEALED:
            raise BundleError(f"{self.root}: {MANIFEST} lists no file {name}; export the bundle again")
        return self.root / name


def open_bundle(root: str | Path | None = None) -> Bundle:
    """The verified bundle at `root`: a folder, or the name of a guard (None: the shipped one).

    Raises BundleError if a file is missing, differs from its digest, or lies outside the folder; if the manifest was
    altered, or a graph reads weights from a file that it does not name; or if the policy is not the one that it was
    trained for. Other files that the manifest does not name are ignored.
    """
    folder = _folder(root)
    if not folder.exists():
        raise NoBundle(f"{folder}: no such folder; give a bundle folder made by `guard export RUN OUT`")
    if not (folder / MANIFEST).is_file():
        raise BundleError(f"{folder}: no {MANIFEST} there; give a bundle folder made by `guard export RUN OUT`")
    manifest = read_manifest(folder / MANIFEST)
    for name, digest in manifest.files.items():
        _verify(folder, name, digest)
    for name in manifest.files:
        _check_external_data(folder, name, manifest.files)
    if absent := [name for name in ("policy.yaml", "calibration.json") if name not in manifest.files]:
        raise BundleError(f"{folder}: {MANIFEST} lists no file {', '.join(absent)}; export the bundle again")
    own = _policy(folder / "policy.yaml")
    if own.digest != manifest.policy:
        raise BundleError(
            f"{folder}: policy.yaml has digest {own.digest}, the model was trained for {manifest.policy}; restore it"
        )
    return Bundle(folder, manifest, own, calibration.read(folder / "calibration.json"))


def _folder(root: str | Path | None) -> Path:
    if root is None:
        return assets.default_bundle()
    if not assets.is_bundle_name(str(root)):
        return Path(root)
    try:
        return assets.named_bundle(str(root))
    except AssetError as problem:
        raise NoBundle(str(problem)) from None


def read_manifest(path: Path) -> Manifest:
    """A bundle's manifest, its own digest checked, its files not. BundleError if it is none or was altered."""
    plain, manifest = _read(path)
    if model_digest(plain) != manifest.model:
        raise BundleError(f"{path}: altered after sealing (digest mismatch); restore the bundle")
    return manifest


def _read(path: Path) -> tuple[dict[str, Any], Manifest]:
    """The manifest as plain data and as values. The format comes first: other formats may have other keys."""
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(plain, dict) and plain.get("format", FORMAT) != FORMAT:
            version = repr(plain["format"])[:20]
            raise BundleError(f"{path}: bundle format {version}, this version supports {FORMAT}; export it again")
        return plain, schema.convert(plain, Manifest, str(path))
    except (ValueError, OSError, RecursionError, DocumentError) as problem:
        reason = "; ".join(str(problem).splitlines())
        raise BundleError(f"{path}: not a bundle manifest: {reason}; restore the bundle") from None


def _policy(path: Path) -> Policy:
    try:
        return policy.load(path)
    except PolicyError as problem:
        raise BundleError(f"{'; '.join(str(problem).splitlines())}; restore the bundle") from None


def _verify(folder: Path, name: str, digest: str) -> None:
    if Path(name).name != name:
        raise BundleError(f"{folder}: file name {name!r} must be a plain name inside the bundle")
    path = folder / name
    if not path.is_file():
        raise BundleError(f"{path}: missing; restore the bundle or export it again")
    actual = file_digest(path)
    if actual != digest:
        raise BundleError(f"{path}: damaged: sha256 is {actual}, {MANIFEST} says {digest}; restore the file")


def _check_external_data(folder: Path, name: str, sealed: Collection[str]) -> None:
    """BundleError if a graph reads weights from a file that no digest covers."""
    if name.endswith(".onnx") and (others := locations(folder / name) - set(sealed)):
        raise BundleError(
            f"{folder / name}: reads weights from {min(others)[:80]!r}, of which {MANIFEST} has no digest; restore the "
            "bundle or export it again"
        )


def seal(root: Path, **fields: Any) -> Manifest:
    """Writes `guard.json` for the files that lie in `root` and returns it. `fields` are the Manifest's own."""
    files = {path.name: file_digest(path) for path in sorted(root.iterdir()) if path.name not in UNSEALED}
    plain: dict[str, Any] = {"format": FORMAT, **fields, "files": files}
    plain["model"] = model_digest(plain)
    manifest = schema.convert(plain, Manifest, str(root / MANIFEST))
    (root / MANIFEST).write_text(json.dumps(plain, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return manifest


def model_digest(plain: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in plain.items() if key != "model"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def same_renderer(bundle: Bundle, digest: str) -> None:
    """BundleError unless this version renders inputs with the layout that the bundle was trained with."""
    if bundle.manifest.renderer != digest:
        raise BundleError(
            f"{bundle.root}: trained with input layout {bundle.manifest.renderer}, this version has {digest}; "
            "export it again with this version"
        )
