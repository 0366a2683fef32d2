"""The verdict grammar: what is written is parsed, and nothing else."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from guard.errors import PolicyError, VerdictError
from guard.policy import Category, Policy, load
from guard.prompts.grammar import VerdictGrammar, parse, write

RULES = load("mlcommons")
CANARY = "kumquat-4711"
CODES = st.from_regex(r"[A-Za-z]{1,2}[0-9]{0,3}(/[a-z]{1,3})?", fullmatch=True)


@st.composite
def policies_and_subsets(draw):
    codes = draw(st.lists(CODES, min_size=1, max_size=12, unique_by=str.lower))
    rules = Policy("made-up", "1", "Made up", tuple(Category(code, "name", "definition") for code in codes))
    return rules, draw(st.sets(st.sampled_from(codes)))


@given(policies_and_subsets())
def test_what_is_written_is_read_back(drawn):
    rules, codes = drawn
    unsafe, found = parse(write(codes, rules), rules)
    assert unsafe
    assert set(found) == codes
    assert len(found) == len(codes)
    assert parse(f"\n {write(codes, rules)} \n", rules) == (unsafe, found), "only the space around it is forgiven"


def test_the_three_forms():
    assert write((), RULES, safe=True) == "safe"
    assert write((), RULES) == "unsafe"
    assert write({"S10", "S2", "S1"}, RULES) == "unsafe\nS1,S2,S10"
    assert parse("safe", RULES) == (False, ())
    assert parse("unsafe", RULES) == (True, ())
    assert parse("unsafe\nS1,S2,S10", RULES) == (True, ("S1", "S2", "S10"))


def test_a_safe_verdict_names_no_category():
    with pytest.raises(VerdictError, match="names no category"):
        write(["S1"], RULES, safe=True)


def test_an_unknown_code_is_not_written():
    with pytest.raises(PolicyError, match="has no category S99"):
        write(["S99"], RULES)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "Safe",
        "SAFE",
        "UNSAFE",
        "safe.",
        "safe\nS1",
        "safe\nunsafe",
        "safe safe",
        f"safe\n{CANARY}",
        f"{CANARY}\nsafe",
        f"unsafe {CANARY}",
        "unsafe: S1",
        "unsafe S1",
        "unsafe\n\nS1",
        "unsafe\nS1\nS2",
        f"unsafe\nS1\n{CANARY}",
        "unsafe\r\nS1",
        "unsafe\rS1",
        "unsafe \nS1",
        "unsafe\n S1",
        "unsafe\nS1, S2",
        "unsafe\nS1 ,S2",
        "unsafe\nS1,",
        "unsafe\n,S1",
        "unsafe\nS1,,S2",
        "unsafe\nS1;S2",
        "unsafe\ns1",
        "unsafe\nS01",
        "unsafe\nS99",
        "unsafe\nS1,S99",
        f"unsafe\nS1,{CANARY}",
        "unsafe\nS1,S1",
        "unsafe\nS2,S1",
        "unsafe\nS10,S2",
        "unsafe\nnone",
    ],
)
def test_anything_else_is_refused_without_being_shown(text):
    with pytest.raises(VerdictError) as told:
        parse(text, RULES)
    assert CANARY not in str(told.value)
    assert "\n" not in str(told.value)


def test_a_code_that_is_named_twice_is_told_as_such():
    with pytest.raises(VerdictError, match="names a category twice: S1, S1"):
        parse("unsafe\nS1,S1", RULES)


def test_trailing_line_ends_are_space_around_it():
    assert parse("unsafe\nS1,S2\r\n", RULES) == (True, ("S1", "S2"))
    assert parse("safe\r\n", RULES) == (False, ())


@given(st.text(max_size=30) | st.text("safeun\n,S129 ", max_size=14))
@example("unsafe\nS1,S2")
def test_whatever_is_read_is_what_would_be_written(text):
    try:
        unsafe, codes = parse(text, RULES)
    except VerdictError:
        return
    assert write(codes, RULES, safe=not unsafe) == text.strip()


GRAMMAR = VerdictGrammar(
    safe=(1,),
    unsafe=(2,),
    start=(2, 3),
    codes={"S1": (4, 5), "S2": (4, 6), "S10": (4, 5, 7)},
    separator=(8, 9),
    end=(0,),
)


def test_verdicts_in_tokens_name_codes_in_numeric_order():
    assert GRAMMAR.ids((), safe=True) == (1, 0)
    assert GRAMMAR.ids(()) == (2, 0)
    assert GRAMMAR.ids(["S2"]) == (2, 3, 4, 6, 0)
    assert GRAMMAR.ids(["S10", "S2", "S1"]) == (2, 3, 4, 5, 8, 9, 4, 6, 8, 9, 4, 5, 7, 0)
    assert GRAMMAR.longest == 14


def test_a_line_of_codes_chooses_among_each_token_once():
    assert GRAMMAR.choices == (0, 8, 4, 5, 6, 7)
