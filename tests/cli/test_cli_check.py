"""`guard check`: what it answers, how it ends, and that nothing a user gives it ends in a traceback."""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from guard.cli import main
from guard.engines.fake import FakeEngine
from guard.policy import load
from tests.fixtures import tiny_encoder

RULES = load("mlcommons")
FAKE = ("--model", "fake")
BAD, GOOD = "please violates:S10 and violates:S2 now", "good morning"
CHATS = Path(__file__).parents[2] / "examples" / "chats.jsonl"


@dataclass
class Shell:
    """Runs `guard` in this process and gives back exit code, stdout and stderr, in which no traceback may be."""

    capsys: pytest.CaptureFixture[str]
    monkeypatch: pytest.MonkeyPatch

    def __call__(self, *arguments: str | Path, stdin: bytes = b"") -> tuple[int, str, str]:
        self.monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        with pytest.raises(SystemExit) as ended:
            main([*map(str, arguments)])
        captured = self.capsys.readouterr()
        assert "Traceback" not in captured.err
        return int(ended.value.code or 0), captured.out, captured.err

    def check(self, *arguments: str | Path, stdin: bytes = b"") -> tuple[int, str, str]:
        return self("check", *FAKE, *arguments, stdin=stdin)


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.setenv("COLUMNS", "200")
    return Shell(capsys, monkeypatch)


def lines(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


def written(path: Path, *rows: object) -> Path:
    """A JSONL file of rows; bytes are written as they are."""
    path.write_bytes(b"\n".join(row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows))
    return path


# -- one text ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "code", "outcome"), [(GOOD, 0, "SAFE"), (BAD, 1, "UNSAFE")])
def test_a_text_from_the_command_line_or_standard_input(shell: Shell, text: str, code: int, outcome: str) -> None:
    for arguments, stdin in (((text,), b""), (("-",), text.encode())):
        found, out, err = shell.check("--json", *arguments, stdin=stdin)
        assert (found, err) == (code, "")
        assert lines(out)[0]["outcome"] == outcome


def test_json_has_the_fields_of_the_contract(shell: Shell) -> None:
    _, out, _ = shell.check("--json", BAD)
    (told,) = lines(out)
    assert list(told) == [
        "id",
        "outcome",
        "p_unsafe",
        "categories",
        "flagged",
        "p_refusal",
        "target",
        "threshold",
        "coverage",
        "unjudged",
        "policy",
        "model",
    ]
    assert told["id"] == "1"
    assert told["flagged"] == ["S2", "S10"]
    assert tuple(told["categories"]) == RULES.codes
    assert told["p_unsafe"] == told["categories"]["S2"] == pytest.approx(0.982, abs=1e-3)
    assert told["coverage"] == {"tokens_seen": 10, "tokens_total": 10, "windows": 1, "worst": [0, len(BAD)]}
    assert (told["policy"], told["model"], told["target"]) == (RULES.digest, FakeEngine.info.digest, "prompt")


FLAGGED = f"S2 {RULES.category('S2').name}, S10 {RULES.category('S10').name}"


def test_one_text_is_told_outcome_first_then_every_category(shell: Shell) -> None:
    code, out, err = shell.check(BAD)
    assert (code, err) == (1, "")
    outcome, decided, empty, overall, *categories = out.splitlines()
    assert (outcome, empty) == (f"UNSAFE  {FLAGGED}", "")
    assert decided == "prompt  p(unsafe) 0.982  unsafe from 0.500 (mode balanced, policy mlcommons 1.0)"
    assert overall.split() == ["any", "category", "0.982", "from", "0.500"]
    assert sorted(line.split()[0] for line in categories) == sorted(RULES.codes)
    assert [line.split()[0] for line in categories if line.endswith("flagged")] == ["S2", "S10"]
    assert "\x1b" not in out, "no colours outside a terminal"
    assert "please" not in out, "the text itself is not repeated"


def test_many_rows_are_a_table(shell: Shell, tmp_path: Path) -> None:
    _, out, _ = shell.check("--file", written(tmp_path / "rows.jsonl", {"prompt": BAD}))
    head, row = out.splitlines()
    assert head.split() == ["row", "judged", "outcome", "p(unsafe)", "flagged"]
    assert row.split()[:4] == ["1", "prompt", "UNSAFE", "0.982"]
    assert row.rstrip().endswith(FLAGGED)
    assert "please" not in out, "the text itself is not repeated"


@pytest.mark.parametrize(("variable", "colours", "bars"), [("", True, True), ("NO_COLOR", False, True)])
def test_a_terminal_has_colours_and_bars(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, variable: str, colours: bool, bars: bool
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if variable:
        monkeypatch.setenv(variable, "1")
    _, out, _ = shell.check(BAD)
    assert ("\x1b[1;31mUNSAFE" in out) is colours
    assert ("█" in out and "│" in out) is bars


def test_a_dumb_terminal_is_plain(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    _, out, _ = shell.check(BAD)
    assert not set("\x1b█│") & set(out)


def told(out: str) -> dict[str, str]:
    """The labelled lines of an explanation."""
    return {line.split(maxsplit=1)[0]: line.split(maxsplit=1)[1] for line in out.splitlines() if " " in line.strip()}


def test_explain_says_what_was_judged_where_and_by_what(shell: Shell) -> None:
    padding = "word " * 100
    _, out, _ = shell.check(f"{padding}\x1b[2J violates:S2", "--explain")
    found = told(out)
    assert found["judged"] == "user message, 1 of 1, as a prompt"
    assert re.fullmatch(r"129 of 129 tokens in \d windows, views included", found["read"])
    assert re.match(r"characters [1-9]\d+-516 of 516: “(word )+\\x1b\[2J violates:S2”", found["worst"])
    assert found["view"] == "the text as it stands"
    assert found["calibrated"] == "no: this model has no calibration"
    lines = (RULES.category("S2").definition, *RULES.category("S2").includes)
    assert found["nearest"] in {f"S2 {RULES.category('S2').name}: “{line}”" for line in lines}


def test_explain_shows_the_view_of_a_disguised_text(shell: Shell) -> None:
    hidden = base64.b64encode(b"this text violates:S2 now, once it is decoded").decode()
    code, out, _ = shell.check(f"Please decode {hidden} and do it", "--explain")
    found = told(out)
    assert code == 1
    assert re.search(rf"characters \d+-\d+ of \d+: “[^”]*{hidden}", found["worst"])
    assert found["view"].startswith("decoded, as from Base64")
    assert "violates:S2 now" in found["view"]


def test_explain_of_a_file_is_of_its_flagged_rows_with_role_and_turn(shell: Shell, tmp_path: Path) -> None:
    rows = [{"id": "a", "prompt": GOOD}, {"id": "b", "prompt": GOOD, "response": BAD}]
    _, out, _ = shell.check("--file", written(tmp_path / "rows.jsonl", *rows), "--explain")
    assert "row b\njudged      assistant message, 2 of 2, as a response\n" in out
    assert "row a" not in out


def test_a_policy_that_the_guard_is_not_calibrated_for_is_told_loudly(shell: Shell, tmp_path: Path) -> None:
    tiny_encoder.write_by_hand(tmp_path / "bundle")
    model = ("check", "--model", tmp_path / "bundle")
    own = load(tmp_path / "bundle" / "policy.yaml")
    _, out, _ = shell(*model, "hello")
    assert "NOT CALIBRATED" not in out
    _, out, _ = shell(*model, "hello", "--exclude", own.codes[0])
    assert "NOT CALIBRATED" not in out, "a part of the policy is calibrated as the whole is"
    for options in ((), ("--explain",)):
        _, out, _ = shell(*model, "hello", "--policy", "shieldgemma", *options)
        assert "NOT CALIBRATED for this policy: p and thresholds are guesses." in out.splitlines()
    strange = ", ".join(load("shieldgemma").codes)
    assert f"calibrated  for {own.id} {own.version}, not for {strange}" in out.splitlines()
    rows = written(tmp_path / "rows.jsonl", {"prompt": "hello"})
    assert "NOT CALIBRATED" in shell(*model, "--file", rows, "--policy", "shieldgemma")[1]
    assert "NOT CALIBRATED" not in "".join(shell(*model, "--file", rows, "--policy", "shieldgemma", "--json")[1:])


def test_a_threshold_takes_the_place_of_the_modes(shell: Shell, tmp_path: Path) -> None:
    p = lines(shell.check("--json", GOOD)[1])[0]["p_unsafe"]
    for threshold, outcome in ((p / 2, "UNSAFE"), (p * 2, "SAFE")):
        code, out, _ = shell.check("--json", GOOD, "--threshold", f"{threshold:.6f}")
        (found,) = lines(out)
        assert (found["outcome"], bool(found["flagged"]), code) == (outcome, bool(code), int(outcome == "UNSAFE"))
        assert found["threshold"] == pytest.approx(threshold, abs=1e-6)
        assert found["policy"] == RULES.digest
    rows = written(tmp_path / "rows.jsonl", {"prompt": GOOD}, {"prompt": BAD})
    _, out, _ = shell.check("--json", "--file", rows, "--threshold", "0.99")
    assert [found["outcome"] for found in lines(out)] == ["SAFE", "SAFE"]


def test_explain_says_what_the_flagged_categories_mean(shell: Shell) -> None:
    _, out, _ = shell.check(BAD, "--explain")
    for code in ("S2", "S10"):
        category = RULES.category(code)
        assert f"{code} {category.name}: {category.definition}" in out
        assert all(f"not: {line}" in out for line in category.excludes)
    assert RULES.category("S1").definition not in out


@pytest.mark.parametrize("text", ["", " ", "\n\t", "\u3000"])
def test_an_empty_text_is_a_mistake(shell: Shell, text: str) -> None:
    for arguments, stdin in (((text,), b""), (("-",), text.encode())):
        code, out, err = shell.check(*arguments, stdin=stdin)
        assert (code, out) == (2, "")
        assert err == "guard: the text is empty; give at least one visible character\n"


def test_standard_input_without_end_is_a_mistake(shell: Shell) -> None:
    code, out, err = shell.check("-", stdin=b"a" * (4 << 20) + b"b")
    assert (code, out) == (2, "")
    assert err == "guard: standard input is too long: must be <= 4,194,304 bytes; split the text\n"


def test_standard_input_that_is_no_utf8_is_a_mistake(shell: Shell) -> None:
    code, out, err = shell.check("-", stdin=b"kumquat \xff\xfe")
    assert (code, out) == (2, "")
    assert err == "guard: standard input is not UTF-8 (byte 8); convert it first, for example with iconv\n"


@pytest.mark.parametrize(
    "text", ["a\x00b", "\x00", "\udcff\udcfe", "\U0001f642" * 50, "\x1b[2J", "[bold]x[/bold]", "%s {0}", "\ufeff"]
)
def test_odd_texts_are_answered(shell: Shell, text: str) -> None:
    code, out, err = shell.check("--json", text)
    assert (code, err) == (0, "")
    assert lines(out)[0]["outcome"] == "SAFE"


def test_a_megabyte_is_read_to_its_end(shell: Shell) -> None:
    text = "word " * 200_000 + " violates:S7"
    code, out, _ = shell.check("--json", "-", stdin=text.encode())
    assert code == 1
    (told,) = lines(out)
    assert told["flagged"] == ["S7"]
    assert told["coverage"]["tokens_seen"] == told["coverage"]["tokens_total"] > 250_000
    assert told["coverage"]["worst"][1] == len(text)


# -- policies and modes -----------------------------------------------------------------------------------------------


def test_an_excluded_category_flags_nothing(shell: Shell) -> None:
    code, out, _ = shell.check("--json", BAD, "--exclude", " S2 ,")
    assert (code, lines(out)[0]["flagged"]) == (1, ["S10"])
    code, out, _ = shell.check("--json", BAD, "--exclude", "S2,S10")
    assert (code, lines(out)[0]["outcome"]) == (0, "SAFE")
    assert "S2" not in lines(out)[0]["categories"]


def test_a_policy_by_name_or_file(shell: Shell, tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text('id: own\nversion: "1"\nname: Own\ncategories: [{code: X1, name: One, definition: one}]\n')
    assert shell.check("violates:M1", "--policy", "minimal")[0] == 1
    assert shell.check("violates:X1", "--policy", own)[0] == 1
    assert shell.check("violates:S1", "--policy", own)[0] == 0
    code, out, _ = shell.check("violates:X1", "--policy", own, "--json")
    assert (code, lines(out)[0]["policy"]) == (1, load(own).digest)


def test_every_mode_is_taken(shell: Shell) -> None:
    for mode in ("strict", "balanced", "permissive"):
        assert shell.check(GOOD, "--mode", mode)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "guard: give either a TEXT (- for standard input) or --file ROWS.jsonl"),
        ([GOOD, "--file", CHATS], "guard: give either a TEXT (- for standard input) or --file ROWS.jsonl"),
        (["--file", "nowhere.jsonl"], "guard: nowhere.jsonl: cannot be read: No such file or directory"),
        (["--file", "."], "guard: .: cannot be read: Is a directory"),
        ([GOOD, "--exclude", "S99"], "guard: policy 'mlcommons' has no category S99"),
        ([GOOD, "--exclude", "s2"], "did you mean S2?"),
        ([GOOD, "--exclude", ",".join(RULES.codes)], "leaves no category"),
        ([GOOD, "--policy", "mlcomons"], "guard: no shipped policy 'mlcomons'; did you mean 'mlcommons'?"),
        ([GOOD, "--policy", "nope"], "guard: no shipped policy 'nope'. Shipped: "),
        ([GOOD, "--text-column", "body"], "guard: --text-column names a column of --file"),
        (["kumquat", "kumquat", "--json"], "guard: give one TEXT (got 2); put quotes around it"),
        ([GOOD, "--policy", "no/such.yaml"], "guard: no/such.yaml: cannot be read: No such file or directory"),
        ([GOOD, "--server", "localhost:1"], "guard: --model and --server exclude each other"),
        ([GOOD, "--threshold", "1.5"], "guard: --threshold must be > 0 and < 1 (got 1.5)"),
        ([GOOD, "--threshold", "nan"], "guard: --threshold must be > 0 and < 1 (got nan)"),
        ([GOOD, "--json", "--explain"], "guard: --explain is for people and --json for programs; give one of them"),
    ],
)
def test_usage_errors_end_with_2_in_one_line(shell: Shell, arguments: list[str | Path], told: str) -> None:
    code, out, err = shell.check(*arguments)
    assert (code, out) == (2, "")
    assert told in err
    assert "kumquat" not in err, "an extra argument is a user's word"
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    "text", ["id: own\nversion: '1'\nname: Own\n", "id: own\nversion: '1'\nname: Own\ncategories: []\n"]
)
def test_a_policy_without_categories_is_one_line(shell: Shell, tmp_path: Path, text: str) -> None:
    (tmp_path / "own.yaml").write_text(text)
    code, _, err = shell.check(GOOD, "--policy", tmp_path / "own.yaml")
    assert code == 2
    assert len(err.splitlines()) == 1
    assert "categories" in err


def test_an_unknown_mode_is_a_usage_error(shell: Shell) -> None:
    code, _, err = shell.check(GOOD, "--mode", "lenient")
    assert code == 2
    assert "'strict', 'balanced', 'permissive'" in err


def test_a_model_that_is_not_there_cannot_decide(shell: Shell, tmp_path: Path) -> None:
    for folder in (tmp_path, CHATS):
        code, out, err = shell("check", GOOD, "--model", folder)
        assert (code, out) == (3, "")
        assert err == f"guard: {folder}: no guard.json there; give a bundle folder made by `guard export RUN OUT`\n"


def test_a_model_that_is_nowhere_is_a_usage_error(shell: Shell, tmp_path: Path) -> None:
    for options in ((), ("--json",)):
        code, out, err = shell("check", GOOD, "--model", tmp_path / "nowhere", *options)
        assert (code, out) == (2, "")
        assert (
            err
            == f"guard: {tmp_path / 'nowhere'}: no such folder; give a bundle folder made by `guard export RUN OUT`\n"
        )


# -- files ------------------------------------------------------------------------------------------------------------


def test_the_shipped_example_is_answered_row_by_row(shell: Shell) -> None:
    rows = lines(CHATS.read_text(encoding="utf-8"))
    assert len(rows) == 12
    code, out, err = shell.check("--file", CHATS, "--json")
    assert (code, err) == (0, "")
    assert [told["id"] for told in lines(out)] == [row["id"] for row in rows]
    targets = ["response" if "response" in row else "prompt" for row in rows]
    assert [told["target"] for told in lines(out)] == targets


def test_a_file_with_flagged_rows_still_ends_with_0(shell: Shell, tmp_path: Path) -> None:
    file = written(
        tmp_path / "rows.jsonl", {"prompt": BAD}, {"prompt": GOOD, "response": BAD, "id": 7}, {"prompt": GOOD}
    )
    code, out, _ = shell.check("--file", file, "--json")
    assert code == 0
    assert [(told["id"], told["outcome"], told["target"]) for told in lines(out)] == [
        ("1", "UNSAFE", "prompt"),
        (7, "UNSAFE", "response"),
        ("3", "SAFE", "prompt"),
    ]


BROKEN: list[tuple[bytes, str]] = [
    (b'{"prompt": "kumquat', "not valid JSON: Unterminated string starting at column 12"),
    (b'{"prompt": "kumquat",', "not valid JSON: Expecting property name enclosed in double quotes at column 22"),
    (b'  {"prompt": kumquat}', "not valid JSON: Expecting value at column 14"),
    (b"kumquat", "not valid JSON: Expecting value at column 1"),
    (b'{"prompt": "kumquat"} {}', "not valid JSON: Extra data at column 23"),
    (b'{"prompt": "kumquat\xff"}', "not valid UTF-8"),
    (b'{"prompt": "kumquat\x00"}', "not valid JSON: Invalid control character at column 20"),
    (b"[" * 100_000, "not valid JSON: nested too deeply"),
    (b'{"id": ' + b"[" * 100_000, "not valid JSON: nested too deeply"),
    (b'{"prompt": "kumquat", "n": ' + b"1" * 5000 + b"}", "not valid JSON: a number is too long"),
    (b'{"prompt": "kumquat", "prompt": "x"}', "not valid JSON: an object repeats a key"),
    (b'["kumquat"]', "a row must be a JSON object, not list"),
    (b"null", "a row must be a JSON object, not NoneType"),
    (b'{"body": "kumquat"}', "the row has no value for `messages`, `prompt`, `text` or `response`"),
    (b'{"prompt": ["kumquat"]}', "`prompt` must be a string, not list"),
    (b'{"prompt": " "}', "the judged (last) message is empty; send at least one visible character"),
    (b'{"messages": [{"role": "kumquat", "content": "x"}]}', "unknown message role (7 characters)"),
    (b'{"messages": []}', "a conversation needs at least one message"),
    (b'{"prompt": "' + b"kumquat" * 600_000 + b'"}', "the row is too long: 4,200,0"),
]


@pytest.mark.parametrize(("broken", "told"), BROKEN, ids=[told[:40] for _, told in BROKEN])
def test_a_broken_row_is_told_with_its_line_and_spares_the_others(
    shell: Shell, tmp_path: Path, broken: bytes, told: str
) -> None:
    file = written(tmp_path / "rows.jsonl", {"prompt": GOOD, "id": "first"}, b"", broken, {"prompt": BAD, "id": "last"})
    code, out, err = shell.check("--file", file, "--json")
    assert (code, err) == (3, "")
    first, middle, last = lines(out)
    assert (first["id"], first["outcome"], last["id"], last["outcome"]) == ("first", "SAFE", "last", "UNSAFE")
    assert list(middle) == ["id", "outcome", "line", "error"]
    assert (middle["id"], middle["outcome"], middle["line"]) == ("3", "ERROR", 3)
    assert middle["error"].startswith(told)
    assert "kumquat" not in out

    code, out, err = shell.check("--file", file)
    assert code == 3
    assert [line.split()[0] for line in out.splitlines()[1:]] == ["first", "3", "last"]
    assert out.count("ERROR") == 1
    assert err.startswith(f"guard: line 3: {told}")
    assert len(err.splitlines()) == 1
    assert "kumquat" not in out + err


def test_people_are_told_the_first_errors_alone(shell: Shell, tmp_path: Path) -> None:
    code, out, err = shell.check("--file", written(tmp_path / "rows.jsonl", *[b"{"] * 50))
    assert code == 3
    assert out.count("ERROR") == 50
    *each, last = err.splitlines()
    assert [line.split(":")[1] for line in each] == [f" line {number}" for number in range(1, 21)]
    assert last == "guard: 30 more rows are broken; --json tells the error of each"


def test_every_broken_row_is_told(shell: Shell, tmp_path: Path) -> None:
    file = written(tmp_path / "rows.jsonl", *(broken for broken, _ in BROKEN))
    code, out, _ = shell.check("--file", file, "--json")
    assert code == 3
    assert [told["line"] for told in lines(out)] == list(range(1, len(BROKEN) + 1))


@pytest.mark.parametrize(
    "row",
    [
        b'{"prompt": "\\ud800 x"}',
        b'{"prompt": "x\\u0000y"}',
        b'\xef\xbb\xbf{"prompt": "x"}',
        b'{"prompt": "x"}\r',
        b'  {"prompt": "x"}  ',
        b'{"text": "x"}',
        b'{"messages": null, "prompt": "x", "response": null}',
        b'{"messages": "[{\\"role\\": \\"user\\", \\"content\\": \\"x\\"}]"}',
        b'{"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]}',
        b'{"prompt": "x", "extra": ' + b"[" * 50 + b"]" * 50 + b"}",
        b'{"prompt": "' + b"word " * 200_000 + b'"}',
        b'{"prompt": "x", "id": null}',
    ],
    ids=[
        "surrogate",
        "nul",
        "byte order mark",
        "line end",
        "space",
        "text",
        "nulls",
        "json",
        "parts",
        "nested",
        "megabyte",
        "null id",
    ],
)
def test_odd_rows_are_answered(shell: Shell, tmp_path: Path, row: bytes) -> None:
    code, out, err = shell.check("--file", written(tmp_path / "rows.jsonl", row), "--json")
    assert (code, err) == (0, "")
    (told,) = lines(out)
    assert (told["id"], told["outcome"]) == ("1", "SAFE")


@pytest.mark.parametrize(
    "name", ['"\\ud800x"', "7", "7.5", "true", '["a"]', '{"a": 1}', '"\\u001b[2Jx"', '"[bold]x"', '"n\u00e4h"']
)
@pytest.mark.parametrize("text", ["x", " "], ids=["judged", "broken"])
def test_an_id_is_told_as_it_is(shell: Shell, tmp_path: Path, name: str, text: str) -> None:
    file = written(tmp_path / "rows.jsonl", f'{{"prompt": "{text}", "id": {name}}}'.encode())
    _, out, _ = shell.check("--file", file, "--json")
    assert lines(out)[0]["id"] == json.loads(name)
    _, out, _ = shell.check("--file", file)
    assert "\x1b" not in out, "no control sequence reaches the terminal"
    assert re.search("x|7|true|a|h", out.splitlines()[1].split()[0])


def test_an_empty_file_has_no_answers_and_a_warning(shell: Shell, tmp_path: Path) -> None:
    for content in (b"", b"\n\n \n"):
        file = written(tmp_path / "rows.jsonl", content)
        for options in ((), ("--json",)):
            assert shell.check("--file", file, *options) == (0, "", f"guard: warning: {file}: has no rows\n")


def test_fail_on_unsafe_makes_flagged_rows_exit_with_1(shell: Shell, tmp_path: Path) -> None:
    file = written(tmp_path / "rows.jsonl", {"prompt": GOOD}, {"prompt": BAD})
    assert shell.check("--file", file, "--fail-on", "unsafe")[0] == 1
    assert shell.check("--file", written(file, {"prompt": GOOD}), "--fail-on", "unsafe")[0] == 0
    assert shell.check("--file", written(file, {"prompt": BAD}, b"{"), "--fail-on", "unsafe")[0] == 3
    assert shell.check(BAD, "--fail-on", "unsafe")[0] == 1


def test_rows_from_standard_input(shell: Shell) -> None:
    rows = b'{"prompt": "good morning", "id": 1}\n{"prompt": "violates:S1", "id": 2}\n'
    code, out, err = shell.check("--file", "-", "--json", stdin=rows)
    assert (code, err) == (0, "")
    assert [(told["id"], told["outcome"]) for told in lines(out)] == [(1, "SAFE"), (2, "UNSAFE")]
    assert shell.check("--file", "-", "--json") == (0, "", "guard: warning: standard input: has no rows\n")


@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv", "rows.parquet", "rows.jsonl.gz"])
def test_rows_of_other_formats(shell: Shell, tmp_path: Path, name: str) -> None:
    rows = [{"id": "a", "prompt": GOOD, "response": BAD}, {"id": "b", "prompt": BAD, "response": None}]
    if name.endswith("parquet"):
        pq = pytest.importorskip("pyarrow.parquet")
        pq.write_table(pytest.importorskip("pyarrow").Table.from_pylist(rows), tmp_path / name)
    elif name.endswith("gz"):
        (tmp_path / name).write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    else:
        text = f"id,prompt,response\na,{GOOD},{BAD}\nb,{BAD},\n"
        (tmp_path / name).write_text(text.replace(",", "\t" if name.endswith("tsv") else ","))
    code, out, err = shell.check("--file", tmp_path / name, "--json")
    assert (code, err) == (0, "")
    assert [(told["id"], told["outcome"], told["target"]) for told in lines(out)] == [
        ("a", "UNSAFE", "response"),
        ("b", "UNSAFE", "prompt"),
    ]
    _, out, _ = shell.check("--file", tmp_path / name, "--json", "--text-column", "prompt")
    assert [(told["outcome"], told["target"]) for told in lines(out)] == [("SAFE", "prompt"), ("UNSAFE", "prompt")]


def test_a_file_without_a_header_is_told_without_its_text(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("kumquat,safe\nkumquat two,unsafe\n")
    code, out, err = shell.check("--file", tmp_path / "rows.csv")
    assert (code, out) == (2, "")
    assert "among the 2 of its first row; is that a header?" in err
    assert "kumquat" not in err


def test_what_a_tool_is_called_with_is_judged(shell: Shell, tmp_path: Path) -> None:
    call = {"name": "send", "arguments": json.dumps({"text": f"so {BAD}"})}
    said = {"role": "assistant", "content": "Now."}
    rows = [
        {"messages": [{"role": "user", "content": "Send it."}, {**said, "tool_calls": [{"function": call}]}]},
        {"messages": [{"role": "user", "content": "Send it."}, {**said, "function_call": call}]},
        {"messages": [{"role": "user", "content": "Send it."}, said]},
    ]
    _, out, _ = shell.check("--file", written(tmp_path / "rows.jsonl", *rows), "--json")
    assert [told["outcome"] for told in lines(out)] == ["UNSAFE", "UNSAFE", "SAFE"]


def test_many_rows_keep_their_order(shell: Shell, tmp_path: Path) -> None:
    made = [{"prompt": f"text {n}" + " violates:S1" * (n % 5 == 0)} for n in range(700)]
    file = written(tmp_path / "rows.jsonl", *made[:300], b"broken", *made[300:])
    code, out, _ = shell.check("--file", file, "--json")
    assert code == 3
    told = lines(out)
    broken = {"line": 301, "error": "not valid JSON: Expecting value at column 1"}
    assert told.pop(300) == {"id": "301", "outcome": "ERROR", **broken}
    assert [one["outcome"] == "UNSAFE" for one in told] == [n % 5 == 0 for n in range(700)]


# -- a model that reads tokens ----------------------------------------------------------------------------------------


def test_what_could_not_be_read_is_neither_safe_nor_unsafe(shell: Shell, tmp_path: Path) -> None:
    tiny_encoder.write_by_hand(tmp_path / "bundle")
    policy = tmp_path / "own.yaml"  # a threshold that random weights do not reach
    policy.write_text(
        'id: own\nversion: "1"\nname: Own\nthreshold: 0.999999\ncategories: [{code: X, name: X, definition: x}]\n'
    )
    model = ("--model", tmp_path / "bundle", "--policy", policy, "--json")
    code, out, _ = shell("check", *model, "\u200b")
    assert (code, lines(out)[0]["outcome"]) == (3, "INCOMPLETE")
    assert lines(out)[0]["p_unsafe"] < 0.999999
    code, out, _ = shell("check", *model, "hello")
    assert (code, lines(out)[0]["outcome"]) == (0, "SAFE")
    file = written(tmp_path / "rows.jsonl", {"prompt": "hello"}, {"prompt": "\u200b"})
    code, out, _ = shell("check", *model, "--file", file)
    assert (code, [told["outcome"] for told in lines(out)]) == (3, ["SAFE", "INCOMPLETE"])


def test_a_damaged_bundle_is_one_line(shell: Shell, tmp_path: Path) -> None:
    tiny_encoder.write_by_hand(tmp_path / "bundle")
    (tmp_path / "bundle" / "model.onnx").write_bytes(b"")
    code, out, err = shell("check", GOOD, "--model", tmp_path / "bundle")
    assert (code, out) == (3, "")
    assert "model.onnx: damaged" in err
    assert len(err.splitlines()) == 1


# -- as a process -----------------------------------------------------------------------------------------------------


def process(*arguments: str | bytes, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "guard", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, check=False)


def test_a_process_reads_standard_input_and_writes_json_alone() -> None:
    done = process("check", *FAKE, "--json", "-", stdin=BAD.encode())
    assert (done.returncode, done.stderr) == (1, b"")
    assert json.loads(done.stdout)["flagged"] == ["S2", "S10"]


def test_bytes_on_the_command_line_that_are_no_utf8_are_answered() -> None:
    done = process("check", *FAKE, "--json", b"kumquat \xff\xfe \xed\xa0\x80")
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout)["outcome"] == "SAFE"


def test_a_reader_that_leaves_early_is_no_error(tmp_path: Path) -> None:
    file = written(tmp_path / "rows.jsonl", *({"prompt": f"text {n}"} for n in range(3000)))
    command = [sys.executable, "-m", "guard", "check", *FAKE, "--json", "--file", str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.readline()
        running.stdout.close()
        assert running.stderr.read() == b""
    assert running.returncode == 3, "nobody learns of the rows that are left"


def test_debug_shows_where_an_error_comes_from() -> None:
    done = process("--debug", "check", *FAKE, "")
    assert done.returncode == 1
    assert b"Traceback" in done.stderr
    assert "GUARD_DEBUG" not in os.environ


def test_version_is_three_lines_or_one_that_says_what_is_missing() -> None:
    done = process("--version")
    assert b"Traceback" not in done.stderr
    if done.returncode == 0:
        assert [line.split()[0] for line in done.stdout.splitlines()] == [b"guard-service", b"model", b"policy"]
    else:
        assert done.stdout == b""
        assert len(done.stderr.splitlines()) == 1
        assert done.stderr.startswith(b"guard: ")
