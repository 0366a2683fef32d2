"""The external weight files of an ONNX graph, listed without the `onnx` package.

Walks the wire format of protobuf (https://protobuf.dev/programming-guides/encoding/) along the fields of onnx.proto by
which a model holds tensors, wherever they stand: initialisers, attributes, functions, subgraphs.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from guard.errors import BundleError

DEEPEST = 64  # messages inside each other
TENSOR = "TensorProto"
# Message -> number of a field -> the message that it holds: every way from a model to a tensor's external_data.
FIELDS: dict[str, dict[int, str]] = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "GraphProto": {1: "NodeProto", 5: TENSOR, 15: "SparseTensorProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: TENSOR,
        6: "GraphProto",
        10: TENSOR,
        11: "GraphProto",
        22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
    "SparseTensorProto": {1: TENSOR, 2: TENSOR},
    TENSOR: {13: "StringStringEntryProto"},
}
_KEY, _VALUE = 1, 2  # of a StringStringEntryProto
_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5


def locations(path: Path) -> set[str]:
    """The names of the files, as the graph writes them. BundleError if the file is no protobuf message."""
    if not path.stat().st_size:
        return set()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            return set(_locations(data, 0, len(data), "ModelProto", 0))
        except (IndexError, ValueError):
            raise BundleError(f"{path}: is not an ONNX model; export the bundle again") from None


def _locations(data: mmap.mmap, start: int, end: int, message: str, depth: int) -> Iterator[str]:
    if depth > DEEPEST:
        raise ValueError("too deep")
    inner = FIELDS[message]
    for number, first, last in _fields(data, start, end):
        kind = inner.get(number)
        if kind == "StringStringEntryProto":
            entry = {field: data[a:b] for field, a, b in _fields(data, first, last)}  # of repeated ones the last counts
            if entry.get(_KEY) == b"location":
                yield entry.get(_VALUE, b"").decode("utf-8", "backslashreplace")
        elif kind is not None:
            yield from _locations(data, first, last, kind, depth + 1)


def _fields(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, start and end of each field of a message that has a length. ValueError if they do not fill it exactly."""
    at = start
    while at < end:
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        if kind == _LENGTH:
            length, at = _varint(data, at)
            if length > end - at:
                raise ValueError("cut short")
            yield number, at, at + length
            at += length
        elif kind == _VARINT:
            _, at = _varint(data, at)
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            at += 8 if kind == _EIGHT_BYTES else 4
        else:
            raise ValueError("no such wire type")
    if at != end:
        raise ValueError("cut short")


def _varint(data: mmap.mmap, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("too long")
