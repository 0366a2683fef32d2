"""The strict YAML reader: what each scalar means, where a mistake lies, and that only DocumentError escapes."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from guard import schema
from guard.errors import ConfigError, DocumentError, PolicyError


@dataclass(frozen=True, slots=True)
class Optimizer:
    __pydantic_config__ = schema.STRICT

    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    warmup: int = 0


@dataclass(frozen=True, slots=True)
class Schedule:
    __pydantic_config__ = schema.STRICT

    stages: int


@dataclass(frozen=True, slots=True)
class Config:
    __pydantic_config__ = schema.STRICT

    name: str
    mode: Literal["full", "lora"] = "lora"
    epochs: int = 1
    shuffle: bool = True
    out: Path = Path("out")
    layers: tuple[int, ...] = ()
    optimizer: Optimizer = Optimizer()
    optimizers: tuple[Optimizer, ...] = ()
    named: Mapping[str, Optimizer] = field(default_factory=dict)
    schedule: str | Schedule | None = None

    def __post_init__(self) -> None:
        if self.epochs > 9:
            raise schema.Misplaced("must be at most 9", "epochs")


def scalar(text: str) -> Any:
    return schema.parse(f"key: {text}\n", "f.yaml")[0]["key"]


def mistakes(text: str, cls: type = Config, error: type[DocumentError] = ConfigError) -> list[str]:
    with pytest.raises(error) as caught:
        read(text, cls, error)
    return str(caught.value).splitlines()


def read(text: str, cls: type = Config, error: type[DocumentError] = ConfigError) -> Any:
    data, lines = schema.parse(text, "f.yaml", error)
    return schema.convert(data, cls, "f.yaml", lines, error)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *((word, word) for word in ("no", "yes", "on", "off", "y", "n", "NO", "Off")),
        *((word, True) for word in ("true", "True", "TRUE")),
        *((word, False) for word in ("false", "False", "FALSE")),
        *((word, None) for word in ("~", "null", "Null", "NULL", "")),
        ("2e-4", 2e-4),
        ("1e3", 1000.0),
        ("1.", 1.0),
        (".5", 0.5),
        ("-.5e+2", -50.0),
        ("+1.5", 1.5),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("012", 12),
        ("-7", -7),
        ("0x1f", 31),
        ("0o17", 15),
        ("0b11", "0b11"),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("2024-01-02", "2024-01-02"),
        ("2024-01-02 03:04:05", "2024-01-02 03:04:05"),
        ("1.2.3", "1.2.3"),
        (".", "."),
        ("-", None),  # a list that holds null, checked below
        ("=", "="),
        ("'1'", "1"),
        ('"true"', "true"),
        ('"\\ud83d\\ude00"', "\U0001f600"),
        ("nullable", "nullable"),
    ],
)
def test_scalars_follow_the_core_schema(text: str, value: object) -> None:
    if text == "-":
        assert schema.parse("-\n", "f.yaml")[0] == [None]
        return
    found = scalar(text)
    assert found == value
    assert type(found) is type(value)


def test_nan_is_a_float() -> None:
    assert math.isnan(scalar(".nan"))


@pytest.mark.parametrize("key", ["1", "no", "true", "null", "2024-01-02", "<<", "1.5", "~"])
def test_keys_are_the_text_that_was_written(key: str) -> None:
    assert schema.parse(f"{key}: 1\n", "f.yaml")[0] == {key: 1}


def test_a_byte_order_mark_and_windows_line_ends_make_no_difference(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_bytes(b"\xef\xbb\xbfname: x\r\nepochs: many\r\n")
    with pytest.raises(ConfigError, match=r"f\.yaml:2: epochs: must be a valid integer"):
        schema.load(path, Config, ConfigError)
    path.write_bytes(b"\xef\xbb\xbfname: x\r\nepochs: 3\r\n")
    assert schema.load(path, Config, ConfigError) == Config("x", epochs=3)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "f.yaml: the document is empty"),
        ("# only a comment\n", "f.yaml: the document is empty"),
        ("a: &x 1\nb: *x\n", "f.yaml:2: not valid YAML: aliases (*name) are not supported; write the value out"),
        (
            "a: {x: 1}\nb:\n  <<: *a\n",
            "f.yaml:3: not valid YAML: aliases (*name) are not supported; write the value out",
        ),
        (
            "\na: !!python/object/apply:os.getcwd []\n",
            "f.yaml:2: not valid YAML: tags (!name) are not supported; only plain data is read",
        ),
        ("a: !!int x\n", "f.yaml:1: not valid YAML: tags (!name) are not supported; only plain data is read"),
        ("!!merge a: 1\n", "f.yaml:1: not valid YAML: tags (!name) are not supported; only plain data is read"),
        ("a: 1\n---\nb: 2\n", "f.yaml:2: not valid YAML: another document starts here; a file holds one"),
        ("a:\n\t- x\n", "f.yaml:2: not valid YAML: a tab stands where only spaces may; indent with spaces"),
        ("a: 1\nb: 2\na: 3\n", "f.yaml:3: key `a` was already given on line 1"),
        ("a: 1\n'a': 2\n", "f.yaml:2: key `a` was already given on line 1"),
        ("a:\n  - b: 1\n    b: 1\n", "f.yaml:3: key `b` was already given on line 2"),
        ("? [a]\n: b\n", "f.yaml:1: a key must be plain text"),
        ("a: 1\nb: " + "9" * 5000, "f.yaml:2: this value cannot be read as int"),
        ('a: "\\ud800"\n', "f.yaml:1: this value cannot be read as str"),
        ("a: [1, 2\nb: 3\n", "f.yaml:2: not valid YAML: expected ',' or ']', but got ':'"),
        ("[" * 500 + "]" * 500, "f.yaml:1: not valid YAML: the document is nested deeper than 32 levels"),
        ("[" * 100_000, "f.yaml:1: not valid YAML: the document is nested deeper than 32 levels"),
        ("- " * 3000 + "x", "f.yaml:1: not valid YAML: the document is nested deeper than 32 levels"),
    ],
)
def test_what_is_not_plain_data_is_refused_with_its_line(text: str, told: str) -> None:
    with pytest.raises(DocumentError) as caught:
        schema.parse(text, "f.yaml")
    assert str(caught.value) == told


def test_unreadable_escape_and_control_characters_are_document_errors() -> None:
    for text in ('"\\UFFFFFFFF"', "a: \x00", "%YAML " + "9" * 5000 + ".1\n--- a"):
        with pytest.raises(DocumentError, match=r"^f\.yaml: not valid YAML: "):
            schema.parse(text, "f.yaml")


def test_two_duplicates_are_both_told() -> None:
    assert mistakes("a: 1\na: 2\nb: 1\nb: 2\n") == [
        "f.yaml:2: key `a` was already given on line 1",
        "f.yaml:4: key `b` was already given on line 3",
    ]


def test_all_mistakes_are_told_in_the_order_of_their_lines() -> None:
    text = """\
name: 1
mode: half
epochs: 2.5
shuffle: yes
layers: [1, x]
optimizer:
  lerning_rate: 2e-4
  warmup: true
optimizers:
  - learning_rate: 0
  - {}
  - 3
named:
  first: {warmpu: 3}
schedule: {stage: 2}
zzz: null
"""
    optimizer = "learning_rate, warmup"
    assert mistakes(text) == [
        "f.yaml:1: name: must be text; put the value in quotes (given: 1)",
        "f.yaml:2: mode: must be 'full' or 'lora' (given: 'half')",
        "f.yaml:3: epochs: must be a valid integer (given: 2.5)",
        "f.yaml:4: shuffle: must be a valid boolean (given: 'yes')",
        "f.yaml:5: layers.1: must be a valid integer (given: 'x')",
        f"f.yaml:7: unknown key `lerning_rate`; did you mean `learning_rate`? Allowed: {optimizer}",
        "f.yaml:8: optimizer.warmup: must be a valid integer (given: true)",
        "f.yaml:10: optimizers.0.learning_rate: must be greater than 0 (given: 0)",
        "f.yaml:12: optimizers.2: must be a mapping (key: value) (given: 3)",
        f"f.yaml:14: unknown key `warmpu`; did you mean `warmup`? Allowed: {optimizer}",
        "f.yaml:15: schedule: must be text; put the value in quotes",
        "f.yaml:15: required key `schedule.Schedule.stages` is missing",
        "f.yaml:15: unknown key `stage`; did you mean `stages`? Allowed: stages",
        "f.yaml:16: unknown key `zzz`; allowed: epochs, layers, mode, name, named, optimizer, optimizers, out, "
        "schedule, shuffle",
    ]


def test_a_missing_key_is_told_where_its_mapping_starts() -> None:
    assert mistakes("epochs: 3\n") == ["f.yaml:1: required key `name` is missing"]


@pytest.mark.parametrize("text", ["[]", "- a", "just words", "3", "~"])
def test_the_root_must_be_a_mapping(text: str) -> None:
    (told,) = mistakes(text)
    assert told.startswith("f.yaml:1: the document: must be a mapping (key: value)")


def test_a_check_of_the_dataclass_can_name_its_key() -> None:
    assert mistakes("name: x\nshuffle: false\nepochs: 12\n") == ["f.yaml:3: epochs: must be at most 9"]


def test_good_values_become_their_types() -> None:
    text = "name: no\nout: a/b\nlayers: [0, 0x10]\nepochs: 3\noptimizer: {learning_rate: 1}\nschedule: {stages: 2}"
    data, lines = schema.parse(text, "f.yaml")
    found = schema.convert(data, Config, "f.yaml", lines)
    assert found == Config(
        "no", out=Path("a/b"), layers=(0, 16), epochs=3, optimizer=Optimizer(1.0), schedule=Schedule(2)
    )
    assert type(found.optimizer.learning_rate) is float


def test_plain_data_without_lines_is_told_by_path() -> None:
    with pytest.raises(ConfigError) as caught:
        schema.convert({"name": "x", "optimizer": {"warmup": "3"}}, Config, "request", error=ConfigError)
    assert str(caught.value) == "request: optimizer.warmup: must be a valid integer (given: '3')"


def test_a_long_value_is_shown_cut() -> None:
    (told,) = mistakes(f"name: x\nmode: {'m' * 5000}\n")
    assert len(told) < 150


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "No such file or directory"), (b"name: \xff\n", "it is not UTF-8"), ("folder", "Is a directory")],
)
def test_a_file_that_cannot_be_read(tmp_path: Path, content: bytes | str | None, reason: str) -> None:
    path = tmp_path / "f.yaml"
    if content == "folder":
        path.mkdir()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    with pytest.raises(PolicyError) as caught:
        schema.load(path, Config, PolicyError)
    assert str(caught.value) == f"{path}: cannot be read: {reason}"


def test_a_path_with_a_nul_character_is_a_document_error() -> None:
    with pytest.raises(DocumentError, match="NUL"):
        schema.load(Path("a\0.yaml"), Config)


def test_override_sets_dotted_keys_by_the_yaml_rules() -> None:
    before = {"name": "a", "optimizer": {"warmup": 1}}
    after = schema.override(
        before,
        ["name=no", "optimizer.learning_rate=2e-4", "new.deep.key=[1, x]", "empty=", "equation=a=b", 'text="1"'],
        "f.yaml",
    )
    assert after == {
        "name": "no",
        "optimizer": {"warmup": 1, "learning_rate": 2e-4},
        "new": {"deep": {"key": [1, "x"]}},
        "empty": None,
        "equation": "a=b",
        "text": "1",
    }
    assert before == {"name": "a", "optimizer": {"warmup": 1}}, "the input is left as it was"


def test_the_last_override_of_a_key_wins() -> None:
    assert schema.override({}, ["a=1", "a=2"], "f.yaml") == {"a": 2}


@pytest.mark.parametrize(
    ("assignment", "told"),
    [
        ("epochs", "override `epochs`: must look like key=value or section.key=value"),
        ("=3", "override `=3`: must look like key=value or section.key=value"),
        ("a..b=3", "override `a..b=3`: must look like key=value or section.key=value"),
        ("name.first=3", "override `name.first=3`: `name` holds no keys; set it as a whole"),
        ("a=[1", "override `a=[1`:1: not valid YAML: expected ',' or ']', but got '<stream end>'"),
        ("a=*x", "override `a=*x`:1: not valid YAML: aliases (*name) are not supported; write the value out"),
    ],
)
def test_a_bad_override_is_named(assignment: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        schema.override({"name": "x"}, [assignment], "f.yaml")
    assert str(caught.value) == told


def test_all_bad_overrides_are_named_and_a_list_takes_none() -> None:
    with pytest.raises(ConfigError) as caught:
        schema.override({}, ["a", "b=1", "c"], "f.yaml")
    assert [line[:12] for line in str(caught.value).splitlines()] == ["override `a`", "override `c`"]
    with pytest.raises(ConfigError, match=r"f\.yaml: only a document of keys and values"):
        schema.override([1], ["a=1"], "f.yaml")  # type: ignore[arg-type]


def test_load_with_overrides_tells_which_mistakes_are_theirs(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_text("name: x\nepochs: 2\noptimizer:\n  warmup: 3\nmode: half\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        schema.load(path, Config, ConfigError, ["epochs=many", "epoch=3", "optimizer={warmup: true}"])
    told = str(caught.value).splitlines()
    assert f"{path} with overrides: epochs: must be a valid integer (given: 'many')" in told
    assert any(line.startswith(f"{path} with overrides: unknown key `epoch`; did you mean `epochs`?") for line in told)
    assert any(line.startswith(f"{path} with overrides: optimizer") for line in told)
    assert f"{path}:5: mode: must be 'full' or 'lora' (given: 'half')" in told
    good = schema.load(path, Config, ConfigError, ["mode=full", "optimizer.warmup=4"])
    assert good == Config("x", "full", 2, optimizer=Optimizer(warmup=4))


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=40), inner, max_size=4),
    max_leaves=12,
)
tricky = st.sampled_from(
    ["no", "1e3", "08", "0o17", "1_0", "1:30", "<<", "=", "~", "", " x", "x ", "- a", "#a", "2024-01-02"]
)


@given(plain | st.lists(tricky) | st.dictionaries(tricky, tricky))
def test_what_is_dumped_reads_back_here_and_in_other_readers(data: Any) -> None:
    text = schema.dump(data)
    assert schema.parse(text, "f.yaml")[0] == data
    assert yaml.safe_load(text) == data


@given(plain)
def test_json_is_read_as_json(data: Any) -> None:
    compact = json.dumps(data, separators=(",", ":")).replace("\x7f", "\\u007f")  # YAML wants DEL escaped
    assert schema.parse(compact, "f.yaml")[0] == data


@given(
    st.text()
    | st.lists(
        st.sampled_from(
            [
                "name",
                ": ",
                "x",
                "\n",
                "  ",
                "- ",
                "[",
                "{",
                "}",
                "]",
                ",",
                "&a",
                "*a",
                "!t ",
                "'",
                '"',
                "|",
                ">",
                "---",
                "...",
                "%",
                "\t",
                "?",
                "#",
                "\\",
                "0x",
                ".",
            ]
        )
    ).map("".join)
)
def test_any_text_is_a_config_or_a_config_error(text: str) -> None:
    try:
        found = read(text)
    except ConfigError as error:
        found = str(error)
    assert isinstance(found, Config) or found.startswith("f.yaml")
