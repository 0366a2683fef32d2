"""Plain data into dataclasses: where a mistake lies, and that only DocumentError escapes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from guard import document, schema
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


def mistakes(text: str, cls: type = Config, error: type[DocumentError] = ConfigError) -> list[str]:
    with pytest.raises(error) as caught:
        read(text, cls, error)
    return str(caught.value).splitlines()


def read(text: str, cls: type = Config, error: type[DocumentError] = ConfigError) -> Any:
    data, lines = document.parse(text, "f.yaml", error)
    return schema.convert(data, cls, "f.yaml", lines, error)


def test_a_byte_order_mark_and_windows_line_ends_make_no_difference(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_bytes(b"\xef\xbb\xbfname: x\r\nepochs: many\r\n")
    with pytest.raises(ConfigError, match=r"f\.yaml:2: epochs: must be a valid integer"):
        schema.load(path, Config, ConfigError)
    path.write_bytes(b"\xef\xbb\xbfname: x\r\nepochs: 3\r\n")
    assert schema.load(path, Config, ConfigError) == Config("x", epochs=3)


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
    data, lines = document.parse(text, "f.yaml")
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
