"""The data card: well-formed, whole without a network, true to the rows, and silent about their texts."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser

import pyarrow.parquet
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from guard.cli import main
from guard.cli.data_card import card as command
from guard.data.dataset.card.card import write_card
from guard.data.dataset.open import open_dataset
from guard.data.dataset.statistics import compute_statistics, quantiles
from guard.errors import DataError
from guard.report import html
from tests.fixtures import made_up_garden
from tests.fixtures.made_up_build import drop, pair, row, write

VOID = {"meta", "br", "hr", "img", "link", "input"}
EVIL = '<script>alert("1")</script>'


class Page(HTMLParser):
    """The elements of a page; it must close what it opens."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.ids = [], [], []
        self.tables, self.words = {}, []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        told = dict(attrs)
        assert len(told) == len(attrs), f"{tag} has an attribute twice"
        self.elements.append((tag, told, tuple(self.open)))
        self.ids += [told["id"]] if "id" in told else []
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.rows, self.caption = [], ""
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag == "table":
            self.tables[self.caption] = self.rows

    def handle_data(self, data):
        self.words.append(data)
        if "caption" in self.open:
            self.caption += data
        elif "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data

    def table(self, caption):
        """Rows by their first cell; numbers as such."""
        rows = self.tables[caption]
        return {
            line[0]: [int(cell.replace(",", "")) if cell.replace(",", "").isdigit() else cell for cell in line[1:]]
            for line in rows
        }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A build of the made-up gardens, where the title of one source is markup."""
    world = made_up_garden.make(tmp_path_factory.mktemp("world"))
    world.edit(world.source("gardens"), "title: Garden questions", f"title: '{EVIL}'")
    world.edit(world.source("notes"), "upstream: https://example.org/notes", "upstream: 'javascript:alert(1)'")
    world.edit(world.source("talks"), "https://example.org/talks", "https://github.com/example/talks")
    out = world.root / "out"
    with pytest.raises(SystemExit) as ended:
        main(["data", "build", str(world.config), "--root", str(world.root), "--out", str(out), "--jobs", "1"])
    assert ended.value.code == 0
    assert json.loads((out / "confounds.json").read_text(encoding="utf-8"))["before"]
    return out


@pytest.fixture(scope="module")
def text(folder):
    return (folder / "card.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


def stored(folder):
    return [
        one for path in open_dataset(folder).labelled.values() for one in pyarrow.parquet.read_table(path).to_pylist()
    ]


def test_every_plot_and_table_tells_what_it_shows(page):
    plots = [told for tag, told, _ in page.elements if tag == "svg"]
    assert len(plots) >= 6
    assert all(told["role"] == "img" and told["aria-label"] for told in plots)
    assert Counter(tag for tag, _, _ in page.elements)["figcaption"] == len(plots)
    assert all("figure" in within for tag, _, within in page.elements if tag == "svg")
    tables = [within for tag, _, within in page.elements if tag == "caption"]
    assert len(tables) == sum(tag == "table" for tag, _, _ in page.elements)
    assert "" not in page.tables
    assert all(told.get("scope") for tag, told, _ in page.elements if tag == "th")


def test_nothing_is_loaded_and_nothing_runs(page, text):
    tags = {tag for tag, _, _ in page.elements}
    assert not tags & {"script", "link", "img", "image", "iframe", "object", "embed", "foreignobject", "base"}
    for tag, told, _ in page.elements:
        assert not {key for key in told if key in ("src", "srcset", "data", "action") or key.startswith("on")}, tag
        address = told.get("href", "#")
        assert address.startswith("#") or (tag == "a" and address.startswith("https://")), address
    assert not re.search(r"@import|url\((?!#)|xmlns", text)


def test_inner_addresses_lead_somewhere(page, text):
    assert len(set(page.ids)) == len(page.ids)
    inner = {told["href"][1:] for _, told, _ in page.elements if told.get("href", "").startswith("#")}
    assert inner | set(re.findall(r"url\(#([^)]+)\)", text)) <= set(page.ids)
    assert inner


def test_names_are_escaped_and_only_web_addresses_are_links(page, text):
    assert EVIL not in text
    assert EVIL in page.words
    links = {told["href"] for tag, told, _ in page.elements if tag == "a"}
    assert "https://github.com/example/talks/tree/1" in links  # at the commit that was read
    assert "https://example.org/gardens" in links
    assert not any(link.startswith("javascript") for link in links)


def test_no_text_of_any_row_is_shown(folder, text):
    contents = {turn["content"] for one in stored(folder) for turn in one["messages"]}
    assert len(contents) > 100
    assert not [content for content in contents if content in text]
    for word in ("wheelbarrow", "uproot", "disgrace", "ashamed"):
        assert word not in text


def test_numbers_are_those_of_the_rows(folder, page):
    rows = stored(folder)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    counts = Counter()
    for one in rows:
        for topic in ["safe"] if one["label"] == "safe" else one["categories"] or ["unknown"]:
            counts[one["source"], topic] += 1
    table = page.table("Rows by source and category")
    columns = table.pop("source")
    assert columns == ["safe", "S2", "S10", "unknown"]
    found = {(source, topic): rows for source, line in table.items() for topic, rows in zip(columns, line, strict=True)}
    assert +Counter(found) == counts
    drops = page.table("Rows by source and reason")
    head = drops.pop("source")
    assert drops.pop("all")[:2] == [sum(part["read"] for part in manifest["sources"]), len(rows)]
    for part in manifest["sources"]:
        told = dict(zip(head, drops[part["name"]], strict=True))
        assert (told.pop("read"), told.pop("kept")) == (part["read"], part["kept"])
        assert +Counter(told) == Counter(part["dropped"])
    licences = page.table("Rows by licence and label")
    assert {name: line[:2] for name, line in licences.items() if name != "licence"} == {
        name: [sum(one["licence"] == name and one["label"] == label for one in rows) for label in ("safe", "unsafe")]
        for name in {one["licence"] for one in rows}
    }
    lengths = sorted(
        len(one["messages"][-1]["content"]) for one in rows if (one["kind"], one["label"]) == ("text", "safe")
    )
    assert page.table("Characters of the judged turn")["text, safe"][::4] == [len(lengths), lengths[-1]]


def test_neither_folders_nor_dates_are_named(folder, text):
    assert str(folder) not in text
    assert not re.search(r"\b20[2-9]\d-\d\d-\d\d", text)  # no date


@pytest.mark.slow
def test_another_process_gives_the_same_bytes_in_another_folder(folder, text, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "elsewhere")
    (copy / "card.html").write_text("old", encoding="utf-8")
    imports = "from pathlib import Path; from guard.data.dataset.card.card import write_card"
    code = f"{imports}; write_card(Path({str(copy)!r}))"
    (tmp_path / "matplotlibrc").write_text("font.size: 30\naxes.facecolor: red\n", encoding="utf-8")
    settings = {**os.environ, "PYTHONHASHSEED": "7", "MATPLOTLIBRC": str(tmp_path / "matplotlibrc")}
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, env=settings)
    assert (copy / "card.html").read_text(encoding="utf-8") == text


def test_what_a_build_may_have_besides(tmp_path):
    rows = [
        row("1", cluster="c", source="$roses$ \x07"),
        row("2", "test", cluster="c", label="unsafe", categories=["S1"], undecided=["S2"]),
        row("3", source="figs", label="unsafe"),
    ]
    drops = [drop(str(number), reason=f"reason {number % 11}", detail=f"rule {number % 2}") for number in range(30)]
    source = {"licence": "MIT", "role": "train", "dropped": {}, "read": 1, "kept": 1}
    dropped = Counter(one["reason"] for one in drops)
    folder = write(
        tmp_path / "out",
        rows,
        [pair("p1"), pair("p2", licence="ODC-By-1.0", language="de")],
        drops,
        sources=[
            {**source, "name": "gardens", "read": 33, "kept": 3, "dropped": dropped, "cautions": f"Mind {EVIL}"},
            {**source, "name": "$roses$ \x07"},
            {**source, "name": "figs", "licence": "CC-BY-NC-4.0"},
        ],
        noncommercial=["figs"],
        warnings=["source figs: ripe"],
    )
    probes = [
        {"name": "source", "probe": {"auroc": auroc}, "one_sided_share": 0.25, "values": 3} for auroc in (0.91, 0.62)
    ]
    report = {"rows": 2, "warn_above": 0.65, "effective_rows": 1.5}
    reports = {
        "before": {**report, "confounds": [probes[0]], "warnings": ["source tells all"]},
        "after": {**report, "confounds": [probes[1]], "warnings": [f"source tells {EVIL}"]},
    }
    (folder / "confounds.json").write_text(json.dumps(reports), encoding="utf-8")
    text = write_card(folder).read_text(encoding="utf-8")
    page = Page(text)
    words = " ".join(page.words)
    assert "1 rows come under licences that forbid commercial use: figs (CC-BY-NC-4.0)" in words
    assert "1 clusters have rows in both train and test" in words
    assert "source figs: ripe" in words
    assert f"source tells {EVIL}" in words
    assert page.table("Probes of confounds; of one label: share of weight under values that go with one label")[
        "source"
    ] == [
        "0.91",
        "0.62",
        "25.0\xa0%",
        "25.0\xa0%",
        3,
    ]
    assert page.table("What to know before trusting a source")["gardens"] == [f"Mind {EVIL}"]
    assert page.table("Preference pairs")["gardens"][-1] in (1, 2)
    assert page.table("Rows by language and label") == {
        "language": ["safe", "unsafe", "pair", "unsafe share"],
        "en": [1, 2, 1, "66.7\xa0%"],
        "de": [0, 0, 1, ""],
    }
    assert page.table("Unsafe rows by category and split")["S2"][-1] == 1  # undecided
    assert "other reasons" in words  # more than there are colours
    assert "rule 1" in words
    assert EVIL not in text


def test_the_command_says_where_the_card_of_a_build_of_pairs_alone_is(tmp_path):
    folder = write(tmp_path / "out", pairs=[pair("p1"), pair("p2", "dev")])
    app = typer.Typer()
    app.command()(command)
    done = CliRunner().invoke(app, [str(folder)], catch_exceptions=False)
    assert (done.exit_code, done.stdout) == (0, f"wrote {folder / 'card.html'}\n")
    page = Page((folder / "card.html").read_text(encoding="utf-8"))
    assert page.table("Rows by licence and label") == {"licence": ["pair", "unsafe share"], "MIT": [2, ""]}
    assert "Preference pairs" in page.words


def _manifest(folder, change):
    path = folder / "manifest.json"
    told = json.loads(path.read_text(encoding="utf-8"))
    change(told)
    path.write_text(json.dumps(told), encoding="utf-8")


def _damage(folder):
    path = folder / "train.parquet"
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 4] ^= 0xFF
    path.write_bytes(raw)
    _manifest(folder, lambda told: told["files"].update({path.name: hashlib.sha256(raw).hexdigest()}))


BREAKS = {
    "manifest.json: cannot be read: No such file": lambda folder: (folder / "manifest.json").unlink(),
    "manifest.json: not a manifest of a build: check document": lambda folder: (folder / "manifest.json").write_text(
        "{"
    ),
    r"check sources.0.read": lambda folder: _manifest(folder, lambda told: told["sources"][0].update(read="canary")),
    "lists 'train.parquet', which is not there": lambda folder: (folder / "train.parquet").unlink(),
    r"lists '\.\./x', which is not there": lambda folder: _manifest(
        folder, lambda told: told["files"].update({"../x": "1"})
    ),
    "dev.parquet: sha256 is": lambda folder: shutil.copy(folder / "train.parquet", folder / "dev.parquet"),
    "train has 2 rows, the manifest states 9": lambda folder: _manifest(
        folder, lambda told: told["splits"]["train"].update(rows=9)
    ),
    "counts of dropped rows differ": lambda folder: _manifest(
        folder, lambda told: told["sources"][0]["dropped"].update(duplicate=2)
    ),
    "confounds.json: not a report on confounds: check before, after": lambda folder: (
        folder / "confounds.json"
    ).write_text("{}"),
    "train.parquet": _damage,
}


@pytest.mark.parametrize("told", BREAKS)
def test_a_broken_build_is_an_error_that_names_the_file(tmp_path, told):
    folder = write(tmp_path / "out", [row("1", text="canary"), row("2", text="canary too")], drops=[drop("3")])
    BREAKS[told](folder)
    with pytest.raises(DataError, match=told) as caught:
        write_card(folder)
    assert "canary" not in str(caught.value)
    assert not (folder / "card.html").exists()


def test_undecided_clusters_and_weights_are_counted(tmp_path):
    rows = [
        row("1", cluster="a"),
        row("2", "dev", cluster="a", weight=0.5),
        row("3", undecided=["S1", "S2"], weight=2.0),
    ]
    found = compute_statistics(open_dataset(write(tmp_path / "out", rows)))
    assert found.cluster_sizes == {2: 1, 1: 1}
    assert found.shared_clusters == {("train", "dev"): 1}
    assert found.undecided == {"S1": 1, "S2": 1}
    assert sum(found.weights.values()) == 3.5
    assert found.drops == {}


@given(st.lists(st.integers(0, 50), min_size=1), st.floats(0.01, 1.0))
def test_a_quantile_is_the_smallest_length_that_enough_rows_do_not_pass(lengths, share):
    (found,) = quantiles(Counter(lengths), [share])
    assert sum(length <= found for length in lengths) >= share * len(lengths) - 1e-9
    assert sum(length < found for length in lengths) < share * len(lengths) + 1e-9


@given(st.text(), st.text())
def test_what_goes_into_a_page_comes_out_as_text(name, value):
    page = Page(html.table(name, ("", ""), [(value, html.link(f"https://{name}", value))]))
    assert page.tables == {name: [[value, value]]}
    assert [told["href"] for tag, told, _ in page.elements if tag == "a"] == [f"https://{name}"]
