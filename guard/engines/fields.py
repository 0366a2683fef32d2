"""The verdict on a response by a guard that first writes other answers, as WildGuard does: request, refusal, response.

Each answer is one of two words. What it says about the response depends on what it wrote before, so all it may have
written is weighed by its probability: p(harmful) = sum of p(request) p(refusal | request) p(harmful | both). No answer
is taken for granted, and no small difference makes a large one.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

from guard.engines.codes import Answer, Request
from guard.prompts.window import Ids, Score
from guard.verdict import log_odds, sigmoid

FieldSteps = Generator[Request, Answer, Score]


def field_steps(first: float, words: tuple[Ids, Ids], between: Sequence[Ids]) -> FieldSteps:
    """Asks for continuations, is sent the log-probabilities of the first tokens of `words` after each of their tokens,
    and returns the score: unsafe is the last answer, refusal the one before it.

    first: log-odds of the second word against the first where the first answer is read. between: the tokens between the
    answers, of which there are two or more.
    """
    paths: dict[Ids, float] = {(): 1.0}  # what may have been written so far, and how likely that is
    odds, answers = [first], [first]
    for lead in between:
        paths = {
            (*path, *word, *lead): likely * share
            for (path, likely), z in zip(paths.items(), odds, strict=True)
            for word, share in zip(words, (sigmoid(-z), sigmoid(z)), strict=True)
        }
        rows = yield list(paths)
        odds = [float(row[-1][1]) - float(row[-1][0]) for row in rows]
        answers.append(log_odds(sum(p * sigmoid(z) for p, z in zip(paths.values(), odds, strict=True))))
    return Score(answers[-1], (), answers[-2])
