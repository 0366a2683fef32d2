"""Every place of an ONNX model from which weights may be read out of another file is looked at."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard import assets
from guard.errors import BundleError
from guard.external_data import FIELDS, locations

PLACES: dict[str, Callable[[onnx.ModelProto], Any]] = {
    "initialiser": lambda m: m.graph.initializer.add(),
    "sparse values": lambda m: m.graph.sparse_initializer.add().values,
    "sparse indices": lambda m: m.graph.sparse_initializer.add().indices,
    "constant": lambda m: m.graph.node.add().attribute.add().t,
    "constants": lambda m: m.graph.node.add().attribute.add().tensors.add(),
    "branch": lambda m: m.graph.node.add().attribute.add().g.initializer.add(),
    "branches": lambda m: m.graph.node.add().attribute.add().graphs.add().node.add().attribute.add().t,
    "sparse constant": lambda m: m.graph.node.add().attribute.add().sparse_tensor.values,
    "function": lambda m: m.functions.add().node.add().attribute.add().t,
    "function's default": lambda m: m.functions.add().attribute_proto.add().t,
    "training": lambda m: m.training_info.add().algorithm.initializer.add(),
}


def written(folder: Path, data: bytes) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(data)
    return path


def model(*places: str) -> onnx.ModelProto:
    made = onnx.ModelProto(ir_version=10, producer_name="x" * 300)
    made.graph.initializer.add(name="inside", raw_data=b"location" * 40)
    for name in places:
        tensor = PLACES[name](made)
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("offset", "8"), ("location", f"{name}.bin"), ("length", "4")):
            tensor.external_data.add(key=key, value=value)
    return made


@pytest.mark.parametrize("place", PLACES)
def test_a_tensor_is_found_wherever_it_stands(tmp_path: Path, place: str) -> None:
    assert locations(written(tmp_path, model(place).SerializeToString())) == {f"{place}.bin"}


def test_all_are_found_and_a_model_without_has_none(tmp_path: Path) -> None:
    assert locations(written(tmp_path, model(*PLACES).SerializeToString())) == {f"{name}.bin" for name in PLACES}
    assert locations(written(tmp_path, model().SerializeToString())) == set()
    assert locations(written(tmp_path, b"")) == set()


def test_the_fields_are_those_of_the_format() -> None:
    """Every message on a way to a tensor, each with every field that holds another of them."""
    messages = {name: getattr(onnx, name).DESCRIPTOR for name in (*FIELDS, "StringStringEntryProto")}
    for name, fields in FIELDS.items():
        wanted = {
            field.number: field.message_type.name
            for field in messages[name].fields
            if field.message_type is not None and field.message_type.name in FIELDS
        }
        assert {number: kind for number, kind in fields.items() if kind in FIELDS} == wanted
    assert onnx.TensorProto.DESCRIPTOR.fields_by_name["external_data"].number == 13
    entry = {field.name: field.number for field in messages["StringStringEntryProto"].fields}
    assert entry == {"key": 1, "value": 2}


def test_the_shipped_guard_reads_its_weights_from_one_file() -> None:
    assert locations(assets.default_bundle() / "model.onnx") == {"model.safetensors"}


@given(data=st.binary(max_size=80), start=st.sampled_from([b"", b"\x3a", b"\x3a\x7f\x2a\x7d"]))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes, start: bytes) -> None:
    path = written(tmp_path_factory.getbasetemp(), start + data)
    with contextlib.suppress(BundleError):
        assert isinstance(locations(path), set)


def test_messages_inside_each_other_without_end_are_refused(tmp_path: Path) -> None:
    data = b""
    for _ in range(400):  # a graph in an attribute in a node, again and again
        for tag in (b"\x32", b"\x2a", b"\x0a"):
            data = tag + _varint(len(data)) + data
    with pytest.raises(BundleError, match="is not an ONNX model"):
        locations(written(tmp_path, b"\x3a" + _varint(len(data)) + data))


def _varint(value: int) -> bytes:
    made = bytearray()
    while value >= 0x80:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*made, value])
