"""Reward rows: what is parsed is written back the same, conversions conserve rows and weights, mistakes are named."""

import dataclasses
import json
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from guard import cli
from guard.conversation import Message
from guard.data.build import write
from guard.errors import DataError, InvalidInput
from guard.reward.convert import (
    FORMS,
    Account,
    agreement,
    convert_file,
    converted,
    guard_rows,
    pairs_of_ranking,
    unpaired,
)
from guard.reward.load import held_out, load_rows, require
from guard.reward.row import Opinion, RewardRow, parse_row, plain_row

CANARY = "Zebrafinch"
TEXT = st.text("abc é\n", min_size=1).filter(str.strip)
NUMBER = st.floats(-5, 5)
PROMPT = st.lists(TEXT.map(lambda text: Message("user", text)), min_size=1, max_size=2).map(tuple)
WEIGHT = st.sampled_from([1.0, 0.5, 3.0])


@st.composite
def rankings(draw):
    texts = draw(st.lists(TEXT, min_size=1, max_size=5, unique=True))
    ranks = draw(st.lists(st.integers(1, 4).map(float), min_size=len(texts), max_size=len(texts)))
    return RewardRow("r", draw(PROMPT), responses=tuple(texts), rank=tuple(ranks), weight=draw(WEIGHT))


SINGLES = st.builds(
    RewardRow,
    id=TEXT,
    prompt=PROMPT,
    response=TEXT,
    label=st.sampled_from([None, True, False]),
    verdict=st.sampled_from([None, "safe", "unsafe"]),
    attributes=st.dictionaries(st.sampled_from(["help", "truth"]), NUMBER),
    critique=st.none() | TEXT,
    weight=WEIGHT,
)
PAIRS = st.builds(
    lambda texts, **rest: RewardRow(chosen=texts[0], rejected=texts[1], **rest),
    st.lists(TEXT, min_size=2, max_size=2, unique=True),
    id=TEXT,
    prompt=PROMPT,
    margin=st.none() | st.floats(0, 3),
    opinions=st.lists(
        st.builds(Opinion, by=TEXT, kind=st.sampled_from(["human", "judge"]), prefers=st.sampled_from([None, "tie"])),
        max_size=2,
    ).map(tuple),
)
ROWS = st.lists(SINGLES | PAIRS | rankings(), max_size=6)


@given(SINGLES | PAIRS | rankings())
def test_a_row_survives_json(row):
    plain = json.loads(json.dumps(plain_row(row)))
    assert parse_row(plain) == row


@given(ROWS, st.sampled_from(FORMS))
def test_conversions_account_for_every_row(rows, form):
    account = Account()
    made = list(converted(rows, form, account))
    assert account.read == len(rows)
    assert account.written == len(made)
    for row in made:
        assert (row.chosen is not None) == (form in ("pairs", "best-worst"))
        assert row.label is not None or form != "unpaired"
        assert row.verdict is not None or form != "guard"


@given(rankings())
def test_a_ranking_becomes_pairs_that_share_its_weight(row):
    made = pairs_of_ranking(row)
    rank = dict(zip(row.responses, row.rank, strict=True))
    assert all(rank[pair.chosen] < rank[pair.rejected] for pair in made)
    expected = {(a, b) for a in rank for b in rank if rank[a] < rank[b]}
    assert {(pair.chosen, pair.rejected) for pair in made} == expected
    if made:
        assert sum(pair.weight for pair in made) == pytest.approx(row.weight)
        (extreme,) = pairs_of_ranking(row, extremes=True)
        assert rank[extreme.chosen] == min(row.rank)
        assert rank[extreme.rejected] == max(row.rank)


@given(rankings())
def test_a_ranking_splits_at_its_median(row):
    made = unpaired(row)
    rank = dict(zip(row.responses, row.rank, strict=True))
    good, bad = ([rank[each.response] for each in made if each.label is side] for side in (True, False))
    assert not good or not bad or max(good) < min(bad)
    if made:
        assert sum(each.weight for each in made) == pytest.approx(row.weight)


@given(PAIRS)
def test_a_pair_is_unpaired_and_paired_again(row):
    halves = unpaired(row)
    assert {(half.response, half.label) for half in halves} == {(row.chosen, True), (row.rejected, False)}
    assert sum(half.weight for half in halves) == pytest.approx(row.weight)
    (again,) = converted(halves, "pairs", Account())
    assert (again.prompt, again.chosen, again.rejected) == (row.prompt, row.chosen, row.rejected)


@given(SINGLES.filter(lambda row: row.label is not None and row.verdict is None))
def test_kto_rows_become_guard_rows_and_come_back(row):
    (told,) = guard_rows(row)
    (back,) = unpaired(dataclasses.replace(told, label=None))
    assert dataclasses.replace(back, verdict=None) == row


def test_rated_answers_become_pairs_with_their_margin():
    def answer(text, **marks):
        return RewardRow(text, (Message("user", "Why?"),), response=text, attributes=marks)

    rows = [answer("a", help=4.0, truth=1.0), answer("b", help=1.0, truth=1.0), answer("c", help=2.0, truth=5.0)]
    made = list(converted(rows, "pairs", Account(), "help"))
    assert {(pair.chosen, pair.rejected): pair.margin for pair in made} == {
        ("a", "b"): 3.0,
        ("a", "c"): 2.0,
        ("c", "b"): 1.0,
    }
    assert sum(pair.weight for pair in made) == pytest.approx(1)
    assert next(iter(converted(rows, "best-worst", Account()))).chosen == "c"


def test_people_and_judges_agree_as_often_as_they_do():
    def pair(human, judge):
        opinions = tuple(Opinion(kind, kind, side) for kind, side in (("human", human), ("judge", judge)) if side)
        return RewardRow("1", (Message("user", "Why?"),), chosen="a", rejected="b", opinions=opinions)

    both = [pair("chosen", "chosen"), pair("chosen", "rejected"), pair("rejected", "rejected"), pair("tie", "tie")]
    found = agreement([*both, pair("chosen", None), pair(None, "rejected")])
    assert (found.pairs, found.agreed) == (4, 0.75)
    assert found.kappa == pytest.approx((0.75 - 5 / 16) / (1 - 5 / 16))
    assert agreement([pair("chosen", None)]) is None


def test_a_judges_row_keeps_who_judged():
    judge = {"model": "small-judge", "template": "abc"}
    row = parse_row({"prompt": "Why?", "chosen": "a", "rejected": "b", "margin": 2, "judge": judge})
    assert row.opinions == (Opinion("small-judge", "judge", "chosen", None, "abc"),)


@pytest.mark.parametrize(
    ("plain", "told"),
    [
        ({"response": CANARY}, "column `prompt` is missing"),
        ({"prompt": CANARY, "chosen": CANARY, "rejected": CANARY}, "are equal"),
        ({"prompt": CANARY, "chosen": CANARY}, "both `chosen` and `rejected`"),
        ({"prompt": CANARY, "response": " \n"}, "`response` is empty"),
        ({"prompt": CANARY, "response": CANARY, "attributes": {"help": float("nan")}}, "`attributes`.*not finite"),
        ({"prompt": CANARY, "responses": [CANARY], "rank": [1, 2]}, "2 entries for 1"),
        ({"prompt": CANARY, "response": CANARY, "label": "good"}, "must be `safe` or `unsafe`"),
        ({"prompt": CANARY, "response": CANARY, "label": [1]}, "must be true or false"),
        ({"prompt": CANARY, "response": [{"role": "user", "content": CANARY}]}, "one assistant message"),
        ({"prompt": CANARY, "chosen": "a", "rejected": "b", "margin": -1}, "`margin` must be >= 0"),
    ],
)
def test_mistakes_are_named_without_the_text(plain, told):
    with pytest.raises(InvalidInput, match=told) as problem:
        parse_row(plain)
    assert CANARY not in str(problem.value)


def test_missing_columns_are_named_with_a_row_shown_by_its_shape():
    row = parse_row({"id": "7", "prompt": CANARY, "response": CANARY})
    with pytest.raises(
        DataError, match=r"bt needs the column chosen and rejected.*'7'.*response \(10 characters\)"
    ) as e:
        require([row], ("prompt", "chosen", "rejected"), "bt")
    assert CANARY not in str(e.value)
    require([row], ("prompt", "response|chosen"), "kto")


def test_built_pairs_are_loaded(tmp_path):
    import pyarrow
    import pyarrow.parquet

    turns = [{"role": "user", "content": "Why?"}]
    stored = {"id": "1", "prompt": turns, "chosen": "a", "rejected": "b", "source": "s", "licence": "l", "weight": 2.0}
    stored |= {"role": "train", "language": "en", "cluster": "c"}
    table = pyarrow.Table.from_pylist([stored], schema=write.pair_features().arrow_schema)
    path = tmp_path / "pairs-train.parquet"
    pyarrow.parquet.write_table(table, path)
    (row,) = load_rows(path)
    assert (row.prompt, row.chosen, row.rejected, row.weight) == ((Message("user", "Why?"),), "a", "b", 2.0)


def test_broken_files_are_refused(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "Why?"}\n{"prompt": "Why?", "chosen": "Zebrafinch"}\n')
    with pytest.raises(DataError, match=r"1 of 2 rows are broken:\n.*:2: row: a pair needs"):
        load_rows(path)
    with pytest.raises(DataError, match="no such file"):
        load_rows(tmp_path / "nothing")


@given(st.lists(SINGLES, max_size=20))
def test_prompts_are_held_out_whole(rows):
    train, apart = held_out(rows, 0.5)
    assert len(train) + len(apart) == len(rows)
    assert not {row.prompt_key for row in train} & {row.prompt_key for row in apart}


def test_the_command_converts_reward_rows(tmp_path):
    rows, out = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    ranking = {"id": "1", "prompt": "Why?", "responses": ["a", "b", "c"], "rank": [2, 1, 1]}
    tied = {"id": "2", "prompt": "How?", "responses": ["a", "b"], "rank": [1, 1]}
    rows.write_text(json.dumps(ranking) + "\n" + json.dumps(tied) + "\n")
    done = CliRunner().invoke(cli.app, ["data", "convert", str(rows), str(out), "--to", "pairs"])
    assert done.exit_code == 0, done.output
    assert "read 2 = converted 1 + left out 1" in done.output
    made = [json.loads(line) for line in out.read_text().splitlines()]
    weights = defaultdict(float)
    for row in made:
        weights[row["group"]] += row["weight"]
    assert weights == {"1": 1.0}
    rows.write_text('{"chosen": "a"}\n')
    with pytest.raises(DataError, match="broken rows, the first"):
        convert_file(rows, out, "pairs")
