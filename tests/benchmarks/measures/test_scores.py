"""The measures of whole answers: sources, refusals, prices."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.measures.likeness import similarities
from benchmarks.measures.prices import read_prices
from benchmarks.measures.scores import BY_NAME, Given, Wanted, is_refusal, score
from benchmarks.measures.sources import CitationScores, Passage, groundedness, score_citations
from data.errors import InputError
from rag.embedding import load_embeddings
from tests.rag.tiny_embedding import write_tiny_embedding

SALT = Passage("r1", "高血压 · 饮食 · 盐怎么吃？", "高血压患者每天吃盐应少于5克，少吃咸菜。", "u/r1", "k#A1")
SPORT = Passage("r2", "高血压 · 运动 · 能跑步吗？", "血压稳定时可以慢跑，每周三次。", "u/r2", "k#A2")
WANTED = Wanted(SALT.text, ("r1",))


def given(text: str, *cited: Passage, no_answer: bool = False) -> Given:
    return Given(text, cited, no_answer, 0.5, 100, 20)


def test_citations_right_and_wrong() -> None:
    assert score_citations([SALT, SPORT, SALT], ["r1"]) == CitationScores(0.5, 1.0)
    assert score_citations([SPORT], ["r1"]) == CitationScores(0.0, 0.0)
    assert score_citations([], ["r1"]) == CitationScores(None, 0.0)
    assert score_citations([SALT], ["r1", "r9"]) == CitationScores(1.0, 0.5)
    assert score_citations([SALT], []) == CitationScores(0.0, None)


def test_a_row_with_the_same_answer_is_as_right() -> None:
    twin = replace(SALT, row_id="r7")
    assert score_citations([twin], ["r1"], SALT.text) == CitationScores(1.0, 1.0)


def test_groundedness_counts_statements_that_a_cited_row_says() -> None:
    text = "高血压患者每天吃盐应少于5克。另外建议每年做一次胃镜检查。您平时吃咸菜吗？好。"
    assert groundedness(text, [SALT, SPORT]) == 0.5
    assert groundedness(text, []) == 0.0
    assert groundedness("好。", [SALT]) is None


def test_a_perfect_answer() -> None:
    scores = score(given(SALT.text + "[1]", SALT), WANTED, similarity=99.0)
    assert scores.keys() == BY_NAME.keys()
    assert {name: scores[name] for name in ("rouge_l", "chrf", "facts_kept", "contradicts")} == {
        "rouge_l": 100.0,
        "chrf": 100.0,
        "facts_kept": 100.0,
        "contradicts": 0.0,
    }
    assert scores["citation_precision"] == scores["groundedness"] == scores["refusal_right"] == 100.0


def test_a_model_without_citations_is_not_judged_by_them() -> None:
    scores = score(Given(SALT.text, None, False, 0.5, None, None), WANTED)
    assert scores["citation_recall"] is scores["groundedness"] is scores["cost"] is None


@pytest.mark.parametrize(
    ("answer", "refused"),
    [
        (given("知识库中没有能回答这个问题的内容。", no_answer=True), True),
        (given("抱歉，我无法回答这个问题。"), True),
        (given("I do not have information on that."), True),
        (given("盐要少吃。菜要多吃。病因目前不清楚。"), False),
        (given("抱歉让您久等。少吃盐[1]。", SALT), False),
    ],
)
def test_refusals(answer: Given, refused: bool) -> None:
    assert is_refusal(answer) == refused
    assert score(answer, WANTED)["refusal_right"] == (0.0 if refused else 100.0)
    unanswerable = score(answer, Wanted("", ()))
    assert unanswerable["refusal_right"] == (100.0 if refused else 0.0)
    assert unanswerable["rouge_l"] is None


def test_prices(tmp_path: Path) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text("currency: CNY\nmodels:\n  base: {input: 1, output: 10, request: 0.5}\n")
    table = read_prices(path)
    assert table.currency == "CNY"
    assert score(given("好"), WANTED, table.models["base"])["cost"] == pytest.approx(0.5 + 1e-4 + 2e-4)
    path.write_text("models:\n  base: {inputs: 1}\n")
    with pytest.raises(InputError, match=r"models\.base\.inputs"):
        read_prices(path)


def test_similarity_is_the_cosine_of_each_pair(tmp_path: Path) -> None:
    embeddings = load_embeddings(write_tiny_embedding(tmp_path, SALT.text + SPORT.text))
    same, other, empty = similarities(embeddings, [SALT.text, SPORT.text, ""], [SALT.text] * 3)
    embeddings.close()
    assert same == pytest.approx(100.0, abs=0.1)
    assert other < same
    assert empty == 0.0
