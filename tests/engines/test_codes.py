"""The walk over a policy's codes, against a made-up model whose probabilities are known."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.engines.codes import CodeWalk
from guard.prompts.grammar import VerdictGrammar

U, BREAK, S, COMMA, END = 1, 2, 3, 4, 5
ONE, TWO, TEN, ZERO = 11, 12, 20, 10
Model = Callable[[tuple[int, ...]], dict[int, float]]  # what was written → probabilities of the next token


def run(line: VerdictGrammar, model: Model) -> tuple[tuple[float, ...], int]:
    """The walk's result, and how many continuations it asked for."""
    walk = CodeWalk(line).steps()
    request, asked = next(walk), 0
    while True:
        asked += len(request)
        answer = []
        for ids in request:
            rows = [[model(ids[: end + 1]).get(token, 1e-9) for token in line.choices] for end in range(len(ids))]
            answer.append(np.log(np.array(rows, np.float32)))
        try:
            request = walk.send(answer)
        except StopIteration as stop:
            return tuple(stop.value.values()), asked


def line(*codes: tuple[int, ...]) -> VerdictGrammar:
    named = {f"C{index}": code for index, code in enumerate(codes)}
    return VerdictGrammar((9,), (U,), (U, BREAK), named, (COMMA,), (END,))


def test_first_step_is_the_share_of_each_code() -> None:
    def model(written: tuple[int, ...]) -> dict[int, float]:
        if written[-1] == S:
            return {ONE: 0.6, TWO: 0.3, TEN: 0.1}
        return {END: 0.9, COMMA: 0.1} if written[-1] in (ONE, TWO, TEN) else {S: 0.5}

    found, asked = run(line((S, ONE), (S, TWO), (S, TEN)), model)
    # After S1 the guard would rather end: the others had more at the first step than what a comma leaves them.
    assert found == pytest.approx((0.6, 0.3, 0.1), abs=1e-4)
    assert asked == 2


def test_a_later_code_is_weighed_after_the_codes_before_it() -> None:
    def model(written: tuple[int, ...]) -> dict[int, float]:
        if written[-1] == S:
            return {TEN: 0.95, TWO: 0.05} if ONE in written else {ONE: 0.98, TWO: 0.01, TEN: 0.01}
        if written[-1] in (ONE, TWO, TEN):
            return {COMMA: 0.9, END: 0.1} if written[-1] == ONE else {END: 1.0}
        return {S: 1.0}

    found, _ = run(line((S, ONE), (S, TWO), (S, TEN)), model)
    assert found == pytest.approx((0.98, 0.9 * 0.05, 0.9 * 0.95), abs=1e-4)


def test_a_code_that_longer_codes_start_with_competes_by_what_ends_it() -> None:
    def model(written: tuple[int, ...]) -> dict[int, float]:
        if written[-1] == ONE:
            return {ZERO: 0.3, END: 0.5, COMMA: 0.2}
        return {S: {ONE: 1.0}, ZERO: {END: 1.0}}.get(written[-1], {S: 1.0})

    found, _ = run(line((S, ONE), (S, ONE, ZERO)), model)
    assert found == pytest.approx((0.7, 0.3), abs=1e-4)


def test_probability_outside_the_grammar_does_not_count() -> None:
    def model(written: tuple[int, ...]) -> dict[int, float]:
        return {ONE: 0.03, TWO: 0.01, 99: 0.96} if written[-1] == S else {S: 0.01, END: 0.02, COMMA: 0.001}

    found, _ = run(line((S, ONE), (S, TWO)), model)
    assert found[:2] == pytest.approx((0.75, 0.25), abs=1e-4)


codes = st.lists(
    st.lists(st.sampled_from([ZERO, ONE, TWO, TEN]), min_size=1, max_size=3).map(lambda tail: (S, *tail)),
    min_size=1,
    max_size=8,
    unique=True,
).map(tuple)


@given(codes, st.integers(0, 2**32 - 1))
def test_every_code_gets_a_probability_and_the_first_step_shares_one(
    chosen: tuple[tuple[int, ...], ...], seed: int
) -> None:
    grammar = line(*chosen)

    def model(written: tuple[int, ...]) -> dict[int, float]:
        rng = np.random.default_rng([seed, *written])
        return dict(zip(grammar.choices, rng.dirichlet(np.ones(len(grammar.choices))), strict=True))

    found, asked = run(grammar, model)
    assert len(found) == len(chosen)
    assert all(0 <= p <= 1 + 1e-6 and math.isfinite(p) for p in found)
    assert sum(found) >= 1 - 1e-4  # no less than what the first step had
    assert asked <= len(chosen) ** 2
