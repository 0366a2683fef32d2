"""Generated documents as rows."""

import dataclasses
from collections import Counter
from pathlib import Path

import pytest

from guard import policy
from guard.data.documents.machine import GENRES
from guard.data.ingest import source_rows
from guard.data.sources import description
from guard.data.sources.excerpts import messages_of

SOURCE = description.load("seed_documents")


def read():
    table = description.load_crosswalk(SOURCE)
    return list(source_rows.rows(SOURCE, Path(), table, policy.load("mlcommons")))


@pytest.fixture(scope="module")
def rows():
    return read()


def test_documents_of_every_genre_are_safe_unless_an_unsafe_seed_is_inside(rows):
    counts = Counter(row.label for row in rows)
    assert (counts["safe"], counts["unsafe"]) == (SOURCE.expected.after.safe, SOURCE.expected.after.unsafe)
    assert len({row.prompt for row in rows}) == len(rows)
    assert {row.place.split(" ")[1] for row in rows if row.label == "safe"} == set(GENRES)
    per_code = Counter(row.categories for row in rows if row.label == "unsafe")
    assert len(per_code) == 14
    assert max(per_code.values()) - min(per_code.values()) <= 1


def test_documents_are_the_same_each_time(rows):
    assert [row.prompt for row in read()] == [row.prompt for row in rows]


def test_an_unsafe_document_holds_its_seed(rows):
    raw = source_rows.records(dataclasses.replace(SOURCE, reader=None), Path())
    seeds = [record for record in raw if record.fields["part"] == "seeds"]
    unsafe = [one.prompt for one in messages_of(seeds) if one.code == "S9" and one.label == "unsafe" and not one.answer]
    for row in rows:
        if row.categories == ("S9",):
            plain = row.prompt.replace('\\"', '"')
            assert any(seed.split("\n")[0] in plain for seed in unsafe)
