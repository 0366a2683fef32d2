"""The three rules that keep benchmark rows out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.data.ingest.decontaminate import Match, load, match_rows
from guard.data.row import Row
from guard.errors import DataError
from tests.fixtures.made_up_garden import HELD_OUT_ANSWER, HELD_OUT_PROMPT, write_fingerprints


def row(prompt, response=None):
    kind = "prompt" if response is None else "response"
    return Row("made-up", kind, prompt, response, "safe", (), "en")


@pytest.fixture(scope="module")
def held_out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fingerprints")
    write_fingerprints(folder, [HELD_OUT_PROMPT, "Hello there"], [HELD_OUT_ANSWER, "Short."])
    return load(folder)


@pytest.mark.parametrize(
    ("prompt", "response", "expected"),
    [
        ("please tell my neighbour's GARDENER that the blue watering can leaks!", None, Match(True, True, False)),
        ("hello, there", None, Match(prompt_exact=True)),
        (f"Dear model. {HELD_OUT_PROMPT} Thank you.", None, Match(prompt_contains=True)),
        # 3 of the 5 8-grams, then 2: at least half is the rule.
        ("tell my neighbour's gardener that the blue watering can", None, Match(prompt_contains=True)),
        ("neighbour's gardener that the blue watering can leaks", None, Match()),
        ("Why is it blue?", HELD_OUT_ANSWER.upper(), Match(response_exact=True)),
        ("Why is it blue?", "Short.", Match()),
        (HELD_OUT_ANSWER, None, Match()),
    ],
)
def test_rules(held_out, prompt, response, expected):
    assert match_rows([row(prompt, response)], held_out) == [expected]
    assert bool(expected) == (expected != Match())


@given(before=st.text(), after=st.text())
def test_a_prompt_that_holds_a_held_out_one_is_flagged(held_out, before, after):
    assert all(match_rows([row(f"{before} {HELD_OUT_PROMPT} {after}")], held_out))


def test_half_of_an_even_number_of_grams_is_enough(tmp_path):
    words = [f"word{number}" for number in range(11)]  # 4 8-grams
    write_fingerprints(tmp_path, [" ".join(words)], [])
    found = match_rows([row(" ".join(words[:9])), row(" ".join(words[:8]))], load(tmp_path))
    assert [bool(match) for match in found] == [True, False]


def test_missing_and_broken_files_say_where(tmp_path):
    with pytest.raises(DataError, match="no fingerprints in"):
        load(tmp_path)
    write_fingerprints(tmp_path, [HELD_OUT_PROMPT], [])
    (tmp_path / "responses.sha256_16.txt.gz").unlink()
    with pytest.raises(DataError, match=r"responses\.sha256_16\.txt\.gz: cannot be read"):
        load(tmp_path)
    (tmp_path / "prompt_8grams.sha256_16.part-1.txt.gz").write_bytes(b"not gzip")
    with pytest.raises(DataError, match=r"part-1.*it is not gzip"):
        load(tmp_path)
