"""The probability of each category code after `unsafe`, by a greedy walk along the line of codes.

The line is forced to the grammar: codes of the policy in numeric order, separated, then the end. At every step all
codes that may come next are weighed at once and the likeliest is taken; the walk ends where the guard would rather end
than go on. A code's probability is the largest that it had at any step, given the codes taken before: the first step
alone would starve every code but the first. The path is greedy, so where two codes are equally likely within rounding
it may differ, and with it the probabilities of the codes that would have come after.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Generator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from guard.prompts.grammar import VerdictGrammar
from guard.prompts.window import Ids

Request = list[Ids]  # continuations of one prompt
Answer = list[npt.NDArray[np.float32]]  # for each: log-probabilities [its tokens, grammar.choices], after each token
Steps = Generator[Request, Answer, dict[str, float]]
STOP = -1  # the choice to end a code that longer codes start with


class CodeWalk:
    """The walk over the codes of one grammar."""

    def __init__(self, grammar: VerdictGrammar) -> None:
        self.grammar = grammar
        column = {token: place for place, token in enumerate(grammar.choices)}
        self._column, self._end, self._separator = column, column[grammar.end[0]], column[grammar.separator[0]]

    def steps(self) -> Steps:
        """Asks for continuations, is sent their log-probabilities, and returns the probability of each code."""
        codes = tuple(self.grammar.codes.values())
        probabilities = [0.0] * len(codes)
        line, last = self.grammar.start, -1
        while last + 1 < len(codes):
            choices = _choices(codes[last + 1 :])
            lead = line if last < 0 else (*line, *self.grammar.separator)
            paths = [path for path in choices if not any(_leads(path, other) for other in choices)]
            answer = yield [(*lead, *path) for path in paths]
            going_on = 1.0 if last < 0 else self._going_on(answer[0][len(line) - 1])
            after = {
                path[:size]: rows[len(lead) - 1 + size]
                for path, rows in zip(paths, answer, strict=True)
                for size in range(len(path) + 1)
            }
            step = [going_on * self._probability(code, choices, after) for code in codes[last + 1 :]]
            for index, probability in enumerate(step, last + 1):
                probabilities[index] = max(probabilities[index], probability)
            if going_on < 0.5:
                break
            last += 1 + max(range(len(step)), key=step.__getitem__)
            line = (*lead, *codes[last])
        return dict(zip(self.grammar.codes, probabilities, strict=True))

    def _going_on(self, row: npt.NDArray[np.float32]) -> float:
        """The probability of another code against the end, after a code."""
        end, separator = row[self._end], row[self._separator]
        return 1 / (1 + math.exp(min(float(end) - float(separator), 700.0)))

    def _probability(
        self, code: Ids, choices: Mapping[Ids, set[int]], after: Mapping[Ids, npt.NDArray[np.float32]]
    ) -> float:
        """That this code is written next: at each of its tokens, its share among the tokens that the grammar allows."""
        total = 1.0
        for size in range(len(code) + 1):
            options = choices.get(code[:size])
            if options is None:  # a whole code that no longer one starts with
                break
            weights = {option: self._weight(option, after[code[:size]]) for option in options}
            chosen = weights[code[size] if size < len(code) else STOP]
            total *= math.exp(chosen - float(np.logaddexp.reduce(list(weights.values()))))
        return total

    def _weight(self, option: int, row: npt.NDArray[np.float32]) -> float:
        if option == STOP:
            return float(np.logaddexp(row[self._end], row[self._separator]))
        return float(row[self._column[option]])


def _choices(codes: Sequence[Ids]) -> dict[Ids, set[int]]:
    """What may follow each beginning of a code that leaves a choice: tokens, or STOP where a code is complete."""
    options: defaultdict[Ids, set[int]] = defaultdict(set)
    for code in codes:
        for size, token in enumerate(code):
            options[code[:size]].add(token)
    for code in codes:
        if code in options:
            options[code].add(STOP)
    return dict(options)


def _leads(path: Ids, other: Ids) -> bool:
    return len(path) < len(other) and other[: len(path)] == path
