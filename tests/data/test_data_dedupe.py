"""Duplicates, conflicts and empty texts: rows are conserved, whatever comes in."""

from hypothesis import given
from hypothesis import strategies as st

from guard.data.clean import clean
from guard.data.dedupe import CONFLICT, drop_duplicates, drop_repeats
from guard.data.fingerprint import text_key
from guard.data.row import Row

rows = st.lists(
    st.builds(
        Row,
        source=st.sampled_from(["one", "two"]),
        kind=st.just("prompt"),
        prompt=st.sampled_from(["Prune it", "prune it!", "water it", "", " \ud800", "?", "!"]),
        response=st.none(),
        label=st.sampled_from(["safe", "unsafe"]),
        categories=st.none(),
        language=st.sampled_from(["en", "fr"]),
    ),
    max_size=20,
)


@given(rows)
def test_every_step_conserves_rows(given_rows):
    for step in (clean, drop_repeats, drop_duplicates):
        kept, drops = step(given_rows)
        assert len(kept) + len(drops) == len(given_rows)
        assert all(drop.reason for drop in drops)


@given(rows)
def test_one_row_and_one_label_a_text_remain(given_rows):
    kept, drops = drop_duplicates(given_rows)
    keys = [text_key(row.prompt) for row in kept]
    assert len(keys) == len(set(keys))
    conflicting = {text_key(drop.row.prompt) for drop in drops if drop.reason == CONFLICT}
    for key in {text_key(row.prompt) for row in given_rows}:
        labels = {row.label for row in given_rows if text_key(row.prompt) == key}
        assert (key in conflicting) == (len(labels) == 2)
        assert (key in keys) == (len(labels) == 1)


@given(rows)
def test_clean_texts_encode_and_have_no_outer_space(given_rows):
    for row in clean(given_rows)[0]:
        assert row.prompt.encode()
        assert row.prompt == row.prompt.strip()


def test_the_first_of_equal_rows_wins():
    first, second = (Row(source, "prompt", "Prune it", None, "safe", (), "en") for source in ("one", "two"))
    assert drop_duplicates([first, second])[0] == [first]
    assert drop_duplicates([second, first])[0] == [second]


def test_a_response_and_a_prompt_are_not_duplicates():
    prompt = Row("one", "prompt", "Prune it", None, "safe", (), "en")
    response = Row("one", "response", "Prune it", "No.", "unsafe", None, "en")
    assert drop_duplicates([prompt, response])[0] == [prompt, response]
