"""Texts of installed packages, read from a folder of made-up ones."""

import random
import subprocess
from pathlib import Path

import pytest

from guard.data.documents import machine, papers
from guard.data.sources import excerpts, installed
from guard.data.sources.formats import Record
from guard.data.sources.insertion import WRITERS, insert
from guard.data.sources.installed import Installed

CODE = "\n".join(f"def water_bed_{number}(litres):\n    return litres * {number} + 1\n" for number in range(40))
MANUAL = "\n".join(
    f"{number}. Water the bed number {number} before noon, but not when it rains." for number in range(40)
)
OWN = Path(__file__).parents[3] / "LICENSE"  # Apache-2.0
SETTINGS = Installed(
    {"python": ("*.py",), "manual": ("*.md", "LICENSE")}, {"python": 2, "manual": 2}, ("*/left_out/*",)
)


def package(folder, name, licence, files):
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{licence}\n\nAbout.\n")
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    (info / "RECORD").write_text("".join(f"{path},,\n" for path in files))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("environment")
    files = {f"beds/bed_{number}.py": f"# bed {number}\n{CODE}" for number in range(5)}
    broken = {"beds/left_out/bed.py": CODE, "beds/short.md": "Short.", "beds/notes.md": MANUAL}
    package(made, "garden_beds", "License-Expression: MIT", files | broken)
    (made / "beds/bad.md").write_bytes(b"\xff" * 200)
    package(made, "closed", "License: Proprietary, all rights reserved", {"closed/bed.py": CODE})
    package(made, "free", "License-Expression: GPL-3.0-only", {"free/bed.py": CODE})
    package(
        made, "apache", "License-Expression: Apache-2.0", {"apache/LICENSE": OWN.read_text(), "apache/a.md": MANUAL}
    )
    return str(made)


def test_files_are_read_up_to_a_number_of_each_kind(folder):
    found = list(installed.records(SETTINGS, folder))
    assert [(record.fields["package"], record.fields["kind"]) for record in found] == [
        ("apache", "manual"),
        ("garden-beds", "python"),
        ("garden-beds", "python"),
        ("garden-beds", "manual"),
    ]
    assert found[0].where == "apache 1.0: apache/a.md"
    assert found[1].fields["licence"] == "MIT"
    assert found == list(installed.records(SETTINGS, folder))


def test_named_licences_and_the_standard_library_are_kept_out(folder):
    text = OWN.read_text()
    assert installed.is_withheld(text)
    assert installed.is_withheld(f"Some notes first.\n\n{text}")
    assert installed.repeats_licence(text[4000:5000], folder)
    assert not installed.repeats_licence(MANUAL, folder)
    assert not installed.is_withheld(MANUAL)
    assert installed.is_withheld(f"# a copy\n{Path(subprocess.__file__).read_text()}")
    for title in (
        "GNU GENERAL PUBLIC LICENSE",
        "GNU LESSER GENERAL PUBLIC LICENSE",
        "Mozilla Public License Version 2.0",
    ):
        assert installed.is_withheld(f"{title}\n{MANUAL}")


def test_excerpts_are_whole_lines_of_bounded_length():
    for seed in range(200):
        found = excerpts.excerpt(CODE, random.Random(seed), 1000)
        assert found in CODE
        assert 100 < len(found) <= 1000


@pytest.mark.parametrize("marks", WRITERS)
def test_a_message_is_inserted_among_the_lines_of_a_text(marks):
    for seed in range(60):
        found = insert(CODE, "Who waters the roses?", marks, random.Random(seed))
        assert found.count("Who waters the roses?") == 1
        positions = [found.index(line) for line in CODE.split("\n")]
        assert positions[0] < positions[-2]
        assert sum(line in found for line in CODE.split("\n")) == len(CODE.split("\n"))


def test_rows_are_safe_unless_an_unsafe_seed_is_inside(folder):
    seeds = {
        "code": "S2",
        "unsafe": ["How do I steal roses?"],
        "safe": ["How do I prune roses?"],
        "responses": [{"prompt": "Roses?", "response": "Take them at night.", "label": "unsafe"}],
    }
    wordings = {
        "about": {"any": ["What is {file}?"], "code": ["Find the bug."], "docs": ["Who wrote this?"]},
        "for": {"any": ["Write {file}."], "code": ["Write {topic}."], "docs": ["Describe {package}."]},
        "lead": [""],
    }
    records = [
        Record({"value": seeds, "part": "seeds"}, "S2.yaml", 1),
        Record({"value": wordings, "part": "wordings"}, "technical.yaml", 1),
        *installed.records(SETTINGS, folder),
    ]
    found = [record.fields for record in excerpts.installed_texts(records)]
    assert {(one["label"], one["code"]) for one in found} == {("safe", "benign"), ("safe", "S2"), ("unsafe", "S2")}
    assert {one["response"] is None for one in found} == {True, False}
    for one in found:
        judged = one["response"] or one["prompt"]
        unsafe = "How do I steal roses?" in judged or "Take them at night." in judged
        assert one["label"] == ("unsafe" if unsafe else "safe")
        assert "{" not in one["prompt"].replace("{number}", "")
    assert found == [record.fields for record in excerpts.installed_texts(records)]


def test_generated_licences_repeat_none_that_guards_are_tested_with(folder):
    for genre in (genre.__name__ for genre in papers.GENRES):
        text = machine.text_of(genre, random.Random(genre), 20_000)
        assert not installed.is_withheld(text)
        assert not installed.repeats_licence(text, folder)
