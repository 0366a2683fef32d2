"""Bundles: what was sealed is what is opened, and anything else is refused in one line that says what to do."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guard import calibration, policy
from guard.bundle import MANIFEST, Bundle, Manifest, model_digest, open_bundle, seal
from guard.calibration import Calibration, TargetCalibration
from guard.digest import file_digest
from guard.engines.registry import open_engine
from guard.errors import BundleError, NoBundle
from guard.prompts.encoder import LAYOUT_DIGEST

RULES = policy.load("minimal")
CALIBRATION = Calibration(prompt=TargetCalibration(slope=2.0))
FILES = ("calibration.json", "model.onnx", "policy.yaml", "tokenizer.json")
FIELDS: dict[str, Any] = {
    "name": "tiny",
    "kind": "mini",
    "base": "nothing",
    "policy": RULES.digest,
    "renderer": LAYOUT_DIGEST,
    "max_tokens": 32,
    "overlap": 8,
    "data": None,
    "packages": {"numpy": "2.0"},
    "parity": {"torch_vs_onnx": 0.25},
}
DO = ("restore", "export it again", "export the bundle again", "give a bundle folder", "must be a plain name")


def onnx_model(*weights: str) -> bytes:
    """A model that does nothing, with tensors that lie in other files."""
    made = onnx.ModelProto(ir_version=10, doc_string="x" * 1000)
    for name in weights:
        tensor = made.graph.initializer.add(name=name, data_location=onnx.TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value=name)
    return bytes(made.SerializeToString())


def fill(folder: Path) -> Path:
    """The files of a bundle, before it is sealed. Opening it looks at no model and no tokenizer."""
    folder.mkdir()
    (folder / "model.onnx").write_bytes(onnx_model())
    (folder / "tokenizer.json").write_text("{}\n", encoding="utf-8")
    (folder / "policy.yaml").write_text(policy.dump(RULES), encoding="utf-8")
    calibration.write(CALIBRATION, folder / "calibration.json")
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    seal(fill(tmp_path / "bundle"), **FIELDS)
    return tmp_path / "bundle"


def resealed(root: Path, **changes: object) -> None:
    """Rewrites the manifest with a digest that fits it, as somebody who knows how would."""
    plain = json.loads((root / MANIFEST).read_text()) | changes
    (root / MANIFEST).write_text(json.dumps(plain | {"model": model_digest(plain)}))


def refused(root: Path) -> str:
    with pytest.raises(BundleError) as told:
        open_bundle(root)
    assert "\n" not in str(told.value)
    assert str(root) in str(told.value)
    assert any(what in str(told.value) for what in DO)
    return str(told.value)


def test_what_was_sealed_is_opened(root: Path) -> None:
    bundle = open_bundle(root)
    assert (bundle.root, bundle.policy, bundle.calibration) == (root, RULES, CALIBRATION)
    for key, value in FIELDS.items():
        assert getattr(bundle.manifest, key) == value
    assert bundle.manifest.files == {name: file_digest(root / name) for name in FILES}
    assert bundle.path("model.onnx") == root / "model.onnx"
    assert open_bundle(str(root)) == bundle


def test_the_digest_is_that_of_the_contents(root: Path, tmp_path: Path) -> None:
    again = seal(fill(tmp_path / "again"), **FIELDS)
    assert again == open_bundle(root).manifest
    assert open_bundle(tmp_path / "again").manifest.model == again.model
    assert len(again.model) == 64
    (tmp_path / "again" / "model.onnx").write_bytes(b"other")
    assert seal(tmp_path / "again", **FIELDS).model != again.model


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Manifest) if field.name in FIELDS])
def test_the_digest_covers_every_field(root: Path, tmp_path: Path, field: str) -> None:
    value = FIELDS[field]
    other = {"kind": "causal", "data": "0" * 64}.get(field)
    changed = (
        value + 1
        if isinstance(value, int)
        else {"x": 0.5}
        if field == "parity"
        else {}
        if isinstance(value, dict)
        else other or "x"
    )
    assert seal(fill(tmp_path / "other"), **FIELDS | {field: changed}).model != open_bundle(root).manifest.model


def test_the_card_is_not_part_of_what_is_sealed(root: Path) -> None:
    before = open_bundle(root)
    before.path("README.md").write_text("# tiny\n", encoding="utf-8")
    assert open_bundle(root) == before
    assert seal(root, **FIELDS) == before.manifest


def test_other_files_are_ignored_and_cannot_be_reached(root: Path) -> None:
    before = open_bundle(root)
    (root / "extra.json").write_text("{}")
    (root / "folder").mkdir()
    assert open_bundle(root) == before
    for name in ("extra.json", "../outside", ""):
        with pytest.raises(BundleError, match="lists no file"):
            before.path(name)


@pytest.mark.parametrize("other", ["weights.bin", "../weights.bin", "/tmp/weights.bin", "./model.safetensors", ""])
def test_weights_that_no_digest_covers_are_refused(root: Path, other: str) -> None:
    """The graph was exchanged for one that reads a file beside it, and sealed anew by somebody who knows how."""
    (root / "weights.bin").write_bytes(b"weights")
    (root / "model.safetensors").write_bytes(b"weights")
    (root / "model.onnx").write_bytes(onnx_model("model.safetensors", other))
    names = (*FILES, "model.safetensors")
    resealed(root, files={name: file_digest(root / name) for name in names})
    assert f"reads weights from {other!r}, of which guard.json has no digest" in refused(root)
    (root / "model.onnx").write_bytes(onnx_model("model.safetensors"))
    resealed(root, files={name: file_digest(root / name) for name in names})
    assert open_bundle(root).manifest.files["model.safetensors"] == file_digest(root / "model.safetensors")


def test_a_graph_that_is_none_is_told(root: Path) -> None:
    (root / "model.onnx").write_bytes(b"\xff" * 64)
    resealed(root, files={name: file_digest(root / name) for name in FILES})
    assert "model.onnx: is not an ONNX model" in refused(root)


@pytest.mark.parametrize(("key", "value"), [("max_tokens", 0), ("max_tokens", -1), ("max_tokens", 15), ("overlap", -1)])
def test_a_manifest_whose_numbers_cannot_be_is_refused(root: Path, key: str, value: int) -> None:
    resealed(root, **{key: value})
    assert f"{key}: must be greater than or equal to" in refused(root)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"thresholds": {"balanced": 2.0}}, "prompt.thresholds.balanced: must be less than or equal to 1"),
        ({"thresholds": {"strict": -0.1}}, "prompt.thresholds.strict: must be greater than or equal to 0"),
        ({"thresholds": {"at_fpr": {"0.01": 7}}}, "prompt.thresholds.at_fpr.0.01: must be less than or equal to 1"),
        ({"categories": {"M1": {"permissive": 1.5}}}, "prompt.categories.M1.permissive: must be less than"),
        ({"slope": 0}, "prompt.slope: must be greater than 0"),
        ({"slope": float("inf")}, "prompt.slope"),
        ({"bias": float("nan")}, "prompt.bias"),
    ],
)
def test_a_calibration_whose_numbers_cannot_be_is_refused(root: Path, changes: dict[str, Any], told: str) -> None:
    text = json.dumps({"prompt": changes}).replace("Infinity", ".inf").replace("NaN", ".nan")
    (root / "calibration.json").write_text(text, encoding="utf-8")
    resealed(root, files={name: file_digest(root / name) for name in FILES})
    assert told in refused(root)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_told(root: Path, name: str) -> None:
    (root / name).unlink()
    assert f"{root / name}: missing" in refused(root)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("place", [0, 0.5, 1])
def test_one_flipped_bit_of_a_file_is_told(root: Path, name: str, place: float) -> None:
    data = bytearray((root / name).read_bytes())
    data[int(place * (len(data) - 1))] ^= 1
    (root / name).write_bytes(data)
    assert f"{root / name}: damaged" in refused(root)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_became_a_folder_is_missing(root: Path, name: str) -> None:
    (root / name).unlink()
    (root / name).mkdir()
    assert "missing" in refused(root)


@pytest.mark.parametrize("name", ["policy.yaml", "calibration.json"])
def test_a_bundle_sealed_without_a_file_is_refused(tmp_path: Path, name: str) -> None:
    folder = fill(tmp_path / "bundle")
    (folder / name).unlink()
    seal(folder, **FIELDS)
    fill(tmp_path / "whole")
    shutil.copy(tmp_path / "whole" / name, folder / name)
    assert f"lists no file {name}" in refused(folder)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One bundle for the many ways to damage its manifest, which each of them puts back."""
    folder = fill(tmp_path_factory.mktemp("kept") / "bundle")
    seal(folder, **FIELDS)
    return folder


@settings(max_examples=25)
@given(data=st.data())
def test_a_flipped_bit_of_the_manifest_changes_nothing_or_is_told(kept: Path, data: st.DataObject) -> None:
    sound = (kept / MANIFEST).read_bytes()
    manifest = open_bundle(kept).manifest
    damaged = bytearray(sound)
    damaged[data.draw(st.integers(0, len(sound) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    (kept / MANIFEST).write_bytes(damaged)
    try:
        assert open_bundle(kept).manifest == manifest  # such as another space
    except BundleError:
        refused(kept)
    finally:
        (kept / MANIFEST).write_bytes(sound)


@pytest.mark.parametrize("key", ["name", "max_tokens", "policy", "renderer", "base", "packages"])
def test_a_manifest_altered_by_hand_is_told(root: Path, key: str) -> None:
    plain = json.loads((root / MANIFEST).read_text())
    plain[key] = {"name": "better", "max_tokens": 512, "packages": {}}.get(key, "0" * 64)
    (root / MANIFEST).write_text(json.dumps(plain))
    assert "altered after sealing" in refused(root)


@pytest.mark.parametrize("name", ["../outside", "..", "", ".", "/etc/hostname", "folder/inner", "./model.onnx"])
def test_a_name_that_leads_out_of_the_folder_is_refused(root: Path, name: str) -> None:
    (root.parent / "outside").write_text("x")
    (root / "folder").mkdir()
    (root / "folder" / "inner").write_text("x")
    files = json.loads((root / MANIFEST).read_text())["files"]
    target = root / name
    resealed(root, files=files | {name: file_digest(target) if target.is_file() else "0" * 64})
    told = refused(root)
    assert "must be a plain name inside the bundle" in told or "missing" in told


@pytest.mark.parametrize("number", [0, 2, 99, "1", None, [1]])
def test_another_format_is_told_before_anything_else(root: Path, number: object) -> None:
    plain = json.loads((root / MANIFEST).read_text())
    (root / MANIFEST).write_text(json.dumps(plain | {"format": number, "a_key_of_the_future": True}))
    assert f"bundle format {number!r}, this version supports 1" in refused(root)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "7",
        "{",
        "{}",
        '{"format": 1}',
        '{"format": true}',
        "[" * 100_000,
        "\ud800",
        '{"format": ' + "1" * 5000 + "}",
    ],
    ids=lambda text: ascii(text[:30]),
)
def test_what_is_no_manifest_is_told(root: Path, text: str) -> None:
    (root / MANIFEST).write_bytes(text.encode("utf-8", "surrogatepass"))
    assert "not a bundle manifest" in refused(root)


def test_an_unknown_kind_is_told(root: Path) -> None:
    resealed(root, kind="fake")
    with pytest.raises(BundleError, match="unknown bundle kind 'fake'; allowed: mini, causal"):
        open_engine(open_bundle(root))


def test_another_policy_names_both_digests(root: Path) -> None:
    other = policy.load("mlcommons")
    (root / "policy.yaml").write_text(policy.dump(other), encoding="utf-8")
    resealed(root, files={name: file_digest(root / name) for name in FILES})
    told = refused(root)
    assert other.digest in told
    assert RULES.digest in told


def test_a_reformatted_policy_is_the_same_policy(root: Path) -> None:
    (root / "policy.yaml").write_text(policy.canonical(RULES), encoding="utf-8")
    resealed(root, files={name: file_digest(root / name) for name in FILES})
    assert open_bundle(root).policy == RULES


@pytest.mark.parametrize("name", ["policy.yaml", "calibration.json"])
def test_a_broken_document_under_a_good_seal_is_told(root: Path, name: str) -> None:
    (root / name).write_text("{id: 1, version: 2}", encoding="utf-8")  # several mistakes
    resealed(root, files={name: file_digest(root / name) for name in FILES})
    assert name in refused(root)


def test_a_path_where_nothing_lies_is_told_apart(tmp_path: Path) -> None:
    assert "no such folder" in refused(tmp_path / "nothing")
    with pytest.raises(NoBundle):
        open_bundle(tmp_path / "nothing")


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.write_text("x")])
def test_a_folder_that_is_no_bundle_is_told(tmp_path: Path, make: Callable[[Path], object]) -> None:
    make(tmp_path / "nothing")
    assert f"no {MANIFEST} there" in refused(tmp_path / "nothing")


def test_a_manifest_that_cannot_be_read_is_told(root: Path) -> None:
    # A regular file whose reading fails for everybody, root included: nothing is mapped at address 0.
    (root / MANIFEST).unlink()
    (root / MANIFEST).symlink_to("/proc/self/mem")
    assert "not a bundle manifest" in refused(root)


def test_another_renderer_names_both_digests(root: Path) -> None:
    resealed(root, renderer="f" * 64)
    with pytest.raises(BundleError) as told:
        open_engine(open_bundle(root))
    assert "f" * 64 in str(told.value)
    assert LAYOUT_DIGEST in str(told.value)
    assert "export it again" in str(told.value)


@pytest.mark.parametrize("name", ["tokenizer.json", "model.onnx"])
def test_an_engine_reads_only_files_that_were_sealed(root: Path, name: str) -> None:
    sealed = open_bundle(root)
    files = {other: digest for other, digest in sealed.manifest.files.items() if other != name}
    bundle = Bundle(root, dataclasses.replace(sealed.manifest, files=files), RULES, CALIBRATION)
    with pytest.raises(BundleError):
        open_engine(bundle)


def test_a_tokenizer_that_is_none_is_told(root: Path) -> None:
    with pytest.raises(BundleError, match=r"tokenizer\.json") as told:
        open_engine(open_bundle(root))
    assert "\n" not in str(told.value)
