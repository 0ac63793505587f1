from __future__ import annotations

from itertools import pairwise

import pytest

from data.records import HeldOutQuestion
from serving.quickstart.flow import choose_questions
from serving.quickstart.settings import AskSection

QUESTIONS = [HeldOutQuestion(f"问题{number}", f"{number:012x}", "", "") for number in range(185)]


@pytest.mark.parametrize("count", [1, 12, 100, 184])
@pytest.mark.parametrize("seed", range(5))
def test_questions_are_evenly_spaced(count: int, seed: int) -> None:
    chosen = choose_questions(QUESTIONS, AskSection(questions=count, seed=seed))
    places = [QUESTIONS.index(question) for question in chosen]
    assert len(places) == count
    assert chosen == choose_questions(QUESTIONS, AskSection(questions=count, seed=seed))
    step = len(QUESTIONS) / count
    assert all(int(step) <= after - before <= int(step) + 1 for before, after in pairwise(places))


def test_the_seed_draws_the_start() -> None:
    starts = {
        choose_questions(QUESTIONS, AskSection(questions=2, seed=seed))[0].question for seed in range(20)
    }
    assert len(starts) > 10


@pytest.mark.parametrize("count", [0, 185, 999])
def test_all_are_asked(count: int) -> None:
    assert choose_questions(QUESTIONS, AskSection(questions=count)) == QUESTIONS
