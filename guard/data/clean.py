"""Texts made fit to store: lone surrogates replaced, outer white space gone, empty ones set aside."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable

from guard.data.row import Drop, Row

_SURROGATE = re.compile("[\ud800-\udfff]")
EMPTY = "empty"


def clean_text(text: str) -> str:
    """The text without outer white space, each lone surrogate as U+FFFD, so that it always encodes as UTF-8."""
    return _SURROGATE.sub("\ufffd", text).strip()


def clean(rows: Iterable[Row]) -> tuple[list[Row], list[Drop]]:
    """Rows with clean texts, in order, and those whose judged text is empty."""
    kept: list[Row] = []
    drops: list[Drop] = []
    for row in rows:
        prompt = clean_text(row.prompt)
        response = None if row.response is None else clean_text(row.response)
        if (prompt, response) != (row.prompt, row.response):
            row = dataclasses.replace(row, prompt=prompt, response=response)
        if row.judged:
            kept.append(row)
        else:
            drops.append(Drop(row, EMPTY))
    return kept, drops
