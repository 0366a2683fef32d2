"""Sets to evaluate on: each convention, and every way in which a file can be wrong."""

import csv
import gzip
import json

import pytest

from guard import policy as policies
from guard.errors import DataError, InvalidInput
from guard.evaluate import benchmarks
from guard.evaluate.benchmarks import BENCHMARKS, load
from guard.evaluate.file_sets import HARM_AREAS

MLCOMMONS, MINIMAL = policies.load("mlcommons"), policies.load("minimal")


def write_csv(root, name, rows):
    path = root / BENCHMARKS[name].path
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_flags(root, rows):
    path = root / BENCHMARKS["openai_moderation"].path
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(gzip.compress("\n".join(json.dumps(row) for row in rows).encode()))
    return path


def xstest_rows():
    safe = [{"prompt": f"how to end process {n}", "type": "homonyms", "label": "safe"} for n in range(250)]
    unsafe = [{"prompt": f"a question, {n}", "type": "contrast_homonyms", "label": "unsafe"} for n in range(200)]
    return safe + unsafe


def flag_rows():
    """522 unsafe rows, then 1158 safe ones."""
    unsafe = [{"prompt": f"line {n}", "S": 0, "H": 1} for n in range(522)]
    return unsafe + [{"prompt": f"line {n}", "S": 0, "S3": 0} for n in range(522, 1680)]


ALL_CLEAN = dict.fromkeys(("S", "H", "V", "HR", "SH", "S3", "H2", "V2"), 0)


def test_xstest(tmp_path):
    path = write_csv(tmp_path, "xstest", xstest_rows())
    suite = load("xstest", tmp_path, MLCOMMONS)
    assert (suite.title, suite.licence) == ("XSTest prompts", "CC-BY-4.0")
    first, last = suite.cases[0], suite.cases[-1]
    assert (first.label, first.subset) == ("safe", "homonyms")
    assert first.conversation.judged.content == "how to end process 0"
    assert (last.label, last.subset, last.truth) == ("unsafe", "contrast_homonyms", {})
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"process 0", b"process zero"))
    assert load("xstest", tmp_path, MLCOMMONS).digest != suite.digest


@pytest.mark.parametrize(
    ("flags", "label", "truth", "subset"),
    [
        (ALL_CLEAN, "safe", dict.fromkeys(("S1", "S4", "S10", "S11", "S12"), False), "all flags known"),
        ({"S": 0, "S3": 0}, "safe", {"S4": False, "S12": False}, "some flags missing"),
        ({"H": 1}, "unsafe", {"S10": True}, "some flags missing"),
        ({"H": 0}, "safe", {}, "some flags missing"),
        ({"H2": 1}, "unsafe", {"S1": True, "S10": True}, "some flags missing"),
        # Violence may or may not be a violent crime: S1 is unknown, all else is known to be absent.
        (ALL_CLEAN | {"V": 1}, "unsafe", dict.fromkeys(("S4", "S10", "S11", "S12"), False), "all flags known"),
        ({"HR": 1, "SH": 0, "V": 0, "V2": 0}, "unsafe", {"S11": False}, "some flags missing"),
    ],
)
def test_openai_moderation_masks_what_is_unknown(tmp_path, flags, label, truth, subset):
    rows = flag_rows()
    place = 0 if label == "unsafe" else -1
    rows[place] = {"prompt": "the one", **flags}
    write_flags(tmp_path, rows)
    case = load("openai_moderation", tmp_path, MLCOMMONS).cases[place]
    assert (case.label, case.truth, case.subset) == (label, truth, subset)


def test_simplesafetytests(tmp_path):
    areas = list(HARM_AREAS)
    rows = [{"harm_area": areas[n % 5], "prompts_final": f"an odd request, {n}"} for n in range(100)]
    write_csv(tmp_path, "simplesafetytests", rows)
    cases = load("simplesafetytests", tmp_path, MLCOMMONS).cases
    assert {case.label for case in cases} == {"unsafe"}
    assert [case.truth for case in cases[:5]] == [{"S11": True}, {"S1": True}, {"S2": True}, {"S2": True}, {"S4": True}]
    assert cases[4].subset == "Child safety"


def test_harmbench_leaves_the_contextual_rows_out(tmp_path):
    def row(n, kind, semantic):
        return {
            "Behavior": f"do thing {n}",
            "FunctionalCategory": kind,
            "SemanticCategory": semantic,
            "ContextString": "x",
        }

    rows = [row(0, "contextual", "illegal"), row(1, "standard", "chemical_biological"), row(2, "standard", "illegal")]
    rows += [row(n, "standard", "cybercrime_intrusion") for n in range(3, 160)]
    rows += [row(n, "copyright", "copyright") for n in range(160, 240)]
    write_csv(tmp_path, "harmbench_prompts", rows)
    cases = load("harmbench_prompts", tmp_path, MLCOMMONS).cases
    assert len(cases) == 239
    assert [case.truth for case in cases[:3]] == [{"S9": True}, {}, {"S2": True}]
    assert (cases[-1].truth, cases[-1].subset) == ({"S8": True}, "copyright")
    assert cases[0].conversation.judged.content == "do thing 1"


def test_categories_count_only_where_the_policy_means_the_same(tmp_path):
    write_flags(tmp_path, flag_rows())
    assert load("openai_moderation", tmp_path, MINIMAL).cases[0].truth == {}
    other = policies.from_text(
        'id: other\nversion: "1"\nname: Other\ncategories:\n'
        "  - {code: S10, name: Sports, definition: Talk of sports.}\n"
        "  - {code: S12, name: Sexual Content, definition: Erotica.}\n",
        "other.yaml",
    )
    truths = [case.truth for case in load("openai_moderation", tmp_path, other).cases]
    assert {code for truth in truths for code in truth} == {"S12"}


def broken(change):
    rows = xstest_rows()
    change(rows)
    return rows


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (broken(lambda rows: rows.pop()), "449 rows of which 199 unsafe, published are 450 and 200"),
        (broken(lambda rows: rows[3].update(prompt="  ")), "row 4: the judged .* is empty"),
        ([{"text": "x", "type": "homonyms"}], "row 1: has no text `prompt`"),
    ],
)
def test_a_changed_benchmark_is_refused(tmp_path, rows, message):
    write_csv(tmp_path, "xstest", rows)
    with pytest.raises(DataError, match=message) as caught:
        load("xstest", tmp_path, MLCOMMONS)
    assert BENCHMARKS["xstest"].upstream in str(caught.value)


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: raw[: len(raw) // 2],
        lambda raw: raw[:40] + bytes(40) + raw[80:],
        lambda raw: b"no gzip",
        lambda raw: gzip.compress(b'{"prompt": "x"'),
        lambda raw: gzip.compress(b"[1]"),
        lambda raw: gzip.compress(b"\xff\xfe"),
        lambda raw: gzip.compress(b'{"prompt": "x", "S": 2}'),
    ],
)
def test_a_damaged_benchmark_is_refused(tmp_path, damage):
    path = write_flags(tmp_path, flag_rows())
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=r"samples-1680\.jsonl\.gz"):
        load("openai_moderation", tmp_path, MLCOMMONS)


def test_a_missing_benchmark_says_which_file_and_from_where(tmp_path):
    with pytest.raises(DataError, match=r"xstest_prompts\.csv: cannot be read.*https://github\.com/paul-rottger"):
        load("xstest", tmp_path, MLCOMMONS)
    with pytest.raises(InvalidInput, match=r"--root.*xstest_prompts\.csv"):
        load("xstest", None, MLCOMMONS)


@pytest.mark.parametrize("name", ["xtest", "data:folder", "data::dev", "data:folder:", "rows.doc"])
def test_a_name_of_nothing_says_what_there_is(tmp_path, name):
    with pytest.raises(InvalidInput, match=r"data:FOLDER:SPLIT"):
        load(name, tmp_path, MLCOMMONS)


def test_your_own_rows(tmp_path):
    path = tmp_path / "own.jsonl"
    turns = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}]
    rows = [
        {"prompt": "bread", "label": "safe"},
        {"messages": turns, "label": "unsafe", "categories": ["M2"], "note": "ignored"},
        {"prompt": "a", "response": "b", "label": "unsafe"},
        {"prompt": "c", "label": "unsafe", "categories": []},
        {"prompt": "d", "label": "safe", "categories": None},
    ]
    path.write_text("\n\n".join(json.dumps(row) for row in rows) + "\n", encoding="utf-8")
    suite = load(str(path), None, MINIMAL)
    assert suite.name == "own.jsonl"
    assert [case.label for case in suite.cases] == ["safe", "unsafe", "unsafe", "unsafe", "safe"]
    clean = {"M1": False, "M2": False}
    assert [case.truth for case in suite.cases] == [clean, {"M1": False, "M2": True}, {}, {}, clean]
    assert [case.conversation.target.value for case in suite.cases[:3]] == ["prompt", "response", "response"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"prompt": "canary", "label": "unsafe"', "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ('["canary"]', "must be a JSON object"),
        ('{"prompt": "canary"}', "has no field `label`"),
        ('{"prompt": "canary", "label": "canary"}', "`label` holds a label .* it lists: safe, unsafe, unlabelled"),
        ('{"prompt": "canary", "label": ["safe", "unsafe"]}', "`label` holds a list of 2 labels"),
        ('{"label": "safe"}', "the row has no value for `messages`, `prompt` or `response`"),
        ('{"prompt": " ", "label": "safe"}', "is empty"),
        ('{"prompt": "canary", "label": "unsafe", "categories": "M1 M2"}', "names 1 codes that are not in the policy"),
        ('{"prompt": "canary", "label": "unsafe", "categories": [1]}', "names 1 codes that are not in the policy"),
        ('{"prompt": "canary", "label": "safe", "categories": ["M1"]}', "a safe row violates no category"),
        (
            '{"prompt": "canary", "label": "unsafe", "categories": ["canary"]}',
            "names 1 codes that are not in the policy",
        ),
    ],
)
def test_a_broken_row_is_told_with_its_line_and_not_its_text(tmp_path, line, message):
    path = tmp_path / "own.jsonl"
    path.write_text(f'{{"prompt": "fine", "label": "safe"}}\n\n{line}\n', encoding="utf-8")
    with pytest.raises(DataError, match=message) as caught:
        load(str(path), None, MINIMAL)
    assert "own.jsonl row 3: " in str(caught.value)
    assert "canary" not in str(caught.value)


def test_all_broken_rows_are_told_up_to_a_bound(tmp_path):
    path = tmp_path / "own.jsonl"
    path.write_text('{"prompt": "fine", "label": "safe"}\n' + "{}\n" * 25, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        load(str(path), None, MINIMAL)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"{path}:"
    assert len(lines) == 12
    assert lines[-1] == "… and 15 more broken rows"


def test_an_empty_or_missing_file_is_refused(tmp_path):
    path = tmp_path / "own.jsonl"
    with pytest.raises(DataError, match="cannot be read"):
        load(str(path), None, MINIMAL)
    path.write_text("\n", encoding="utf-8")
    with pytest.raises(DataError, match="has no rows"):
        load(str(path), None, MINIMAL)


def built(folder, *rows):
    """A folder of built data whose splits are `dev`, with these rows, and an empty `test`."""
    import pyarrow
    import pyarrow.parquet

    from guard.data.build import write

    def stored(number, prompt, response, label, categories, source):
        turns = [("user", prompt)] + ([] if response is None else [("assistant", response)])
        return {
            "id": f"{number:016x}",
            "messages": [{"role": role, "content": content} for role, content in turns],
            "label": label,
            "categories": list(categories or ()),
            "categories_known": label == "safe" or categories is not None,
            "undecided": [],
            **dict.fromkeys(("source", "licence", "role", "language", "kind", "cluster"), source),
            "weight": 1.0,
        }

    folder.mkdir()
    for split, chosen in (("dev", rows), ("test", ())):
        listed = [stored(number, *row) for number, row in enumerate(chosen)]
        made = pyarrow.Table.from_pylist(listed, schema=write.features().arrow_schema)
        pyarrow.parquet.write_table(made, folder / f"{split}.parquet")
    return folder


def test_a_split_of_built_data(tmp_path):
    folder = built(
        tmp_path / "out:en",
        ("bread", None, "safe", (), "one"),
        ("odd", None, "unsafe", ("S2",), "one"),
        ("odder", "sure", "unsafe", None, "two"),
    )
    suite = load(f"data:{folder}:dev", None, MLCOMMONS)
    assert [case.subset for case in suite.cases] == ["one", "one", "two"]
    assert [case.conversation.target.value for case in suite.cases] == ["prompt", "prompt", "response"]
    bread, odd, odder = (case.truth for case in suite.cases)
    assert set(bread) == set(odd) == set(MLCOMMONS.codes)
    assert not any(bread.values())
    assert [code for code, true in odd.items() if true] == ["S2"]
    assert odder == {}
    assert list(benchmarks.data_folders(["xstest", f"data:{folder}:dev"])) == [folder]


def test_a_split_for_another_policy_or_without_rows_is_refused(tmp_path):
    folder = built(tmp_path / "out", ("odd", None, "unsafe", ("S2",), "one"))
    with pytest.raises(DataError, match=r"name S2, which policy 'minimal' has not"):
        load(f"data:{folder}:dev", None, MINIMAL)
    with pytest.raises(DataError, match="has no rows"):
        load(f"data:{folder}:test", None, MLCOMMONS)
    with pytest.raises(DataError, match="unknown split"):
        load(f"data:{folder}:nope", None, MLCOMMONS)


def test_no_repr_shows_a_text(tmp_path):
    path = tmp_path / "own.jsonl"
    path.write_text('{"prompt": "canary", "label": "safe"}\n', encoding="utf-8")
    suite = load(str(path), None, MINIMAL)
    assert "canary" not in repr(suite) + repr(suite.cases)
