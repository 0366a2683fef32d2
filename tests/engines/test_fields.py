"""The verdict on a response behind other answers: the sum over all that may have been written, and nothing else."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.engines.fields import field_steps
from guard.prompts.window import Ids, Score

NO, YES = (10,), (20, 21)
BETWEEN = ((1, 2), (3,))
odds = st.floats(-20, 20)


def drive(first: float, after: Mapping[tuple[Ids, ...], float]) -> Score:
    """Plays the model: `after` is its log-odds of yes behind the answers so far."""
    steps = field_steps(first, (NO, YES), BETWEEN)
    paths = {
        (*one, *BETWEEN[0], *(() if other is None else (*other, *BETWEEN[1]))): (one,)
        if other is None
        else (one, other)
        for one in (NO, YES)
        for other in (None, NO, YES)
    }
    request = next(steps)
    while True:
        answers = []
        for path in request:
            rows = np.full((len(path), 2), 99.0, np.float32)  # read anywhere but at the end they would spoil the sum
            rows[-1] = (0.0, after[paths[path]])
            answers.append(rows)
        try:
            request = steps.send(answers)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]


@given(odds, st.lists(odds, min_size=6, max_size=6))
def test_every_way_to_the_last_answer_counts_by_its_probability(first: float, values: list[float]) -> None:
    histories = [(NO,), (YES,), *itertools.product((NO, YES), repeat=2)]
    after = dict(zip(histories, (float(np.float32(z)) for z in values), strict=True))
    found = drive(first, after)

    def p(z: float, yes: bool) -> float:
        return 1 / (1 + math.exp(-z if yes else z))

    harm = sum(
        p(first, one == YES) * p(after[(one,)], other == YES) * p(after[(one, other)], True)
        for one in (NO, YES)
        for other in (NO, YES)
    )
    refusal = sum(p(first, one == YES) * p(after[(one,)], True) for one in (NO, YES))
    assert p(found.unsafe, True) == pytest.approx(harm, abs=1e-6)
    assert found.refusal is not None
    assert p(found.refusal, True) == pytest.approx(refusal, abs=1e-6)
