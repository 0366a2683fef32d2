"""The first column of an Excel workbook, read from its XML: all that one public source needs."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from xml.etree import ElementTree

from guard.errors import DataError

_NAMESPACE = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_SHEET, _STRINGS = "xl/worksheets/sheet1.xml", "xl/sharedStrings.xml"


def first_column(raw: bytes, where: str) -> Iterator[tuple[int, str]]:
    """(row from 1, text) of the filled cells in column A of the first sheet; DataError if it is not a workbook."""
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            sheet = ElementTree.fromstring(archive.read(_SHEET))
            strings = ElementTree.fromstring(archive.read(_STRINGS)) if _STRINGS in archive.namelist() else ()
            shared = [_joined(item) for item in strings]
    except (zipfile.BadZipFile, KeyError, ElementTree.ParseError):
        raise DataError(f"{where}: is not an Excel workbook with a first sheet; is the file damaged?") from None
    for cell in sheet.iter(f"{_NAMESPACE}c"):
        place = cell.get("r", "")
        if not place.startswith("A") or not place[1:].isdecimal():
            continue
        value = cell.findtext(f"{_NAMESPACE}v") or ""
        text = shared[int(value)] if cell.get("t") == "s" else value or _joined(cell)
        if text:
            yield int(place[1:]), text


def _joined(element: ElementTree.Element) -> str:
    return "".join(part.text or "" for part in element.iter(f"{_NAMESPACE}t"))
