"""The measures of wording against the libraries that define them."""

from __future__ import annotations

import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import Tokenizer

from benchmarks.measures.overlap import bleu_4, chrf, rouge_l
from serving.quickstart.scores import units

ENGLISH = [
    ("Take one tablet twice a day with food.", "Take one tablet with food, two times a day."),
    ("No.", "Ibuprofen may be taken with paracetamol, but not with other NSAIDs."),
    ("It is 5 mg; do not exceed 10 mg in 24 hours!", "Do not exceed 10 mg in 24 hours."),
    ("the cat sat on the mat", "the cat sat on the mat"),
]
CHINESE = [
    ("高血压患者每天盐的摄入量不超过5克。", "高血压病人每日食盐应少于5克,并多吃蔬菜。"),
    ("不可以。", "孕妇不宜服用布洛芬，如需止痛请咨询医生。"),
    ("建议口服 Metformin 500mg，每日2次", "建议口服二甲双胍（Metformin）500mg，每日两次"),
]


class Units(Tokenizer):  # type: ignore[misc]
    """The quickstart's units for rouge-score."""

    def tokenize(self, text: str) -> list[str]:
        return units(text)


@pytest.mark.parametrize(("answer", "reference"), ENGLISH)
def test_rouge_l_of_english_is_that_of_rouge_score(answer: str, reference: str) -> None:
    theirs = RougeScorer(["rougeL"]).score(reference, answer)["rougeL"].fmeasure
    assert rouge_l(answer, reference) == pytest.approx(100 * theirs)


@pytest.mark.parametrize(("answer", "reference"), CHINESE)
def test_rouge_l_of_chinese_is_that_of_rouge_score_over_characters(answer: str, reference: str) -> None:
    theirs = RougeScorer(["rougeL"], tokenizer=Units()).score(reference, answer)["rougeL"].fmeasure
    assert rouge_l(answer, reference) == pytest.approx(100 * theirs)
    assert theirs > 0


@pytest.mark.parametrize(
    ("answer", "reference", "tokenizer"),
    [(*pair, "13a") for pair in ENGLISH] + [(*pair, "zh") for pair in CHINESE],
)
def test_bleu_and_chrf_are_those_of_sacrebleu(answer: str, reference: str, tokenizer: str) -> None:
    theirs = sacrebleu.sentence_bleu(answer, [reference], tokenize=tokenizer, use_effective_order=True)
    assert bleu_4(answer, reference) == pytest.approx(theirs.score)
    assert chrf(answer, reference) == pytest.approx(sacrebleu.sentence_chrf(answer, [reference]).score)


def test_chinese_is_not_one_long_word() -> None:
    answer, reference = CHINESE[0]
    assert bleu_4(answer, reference) > 5 > sacrebleu.sentence_bleu(answer, [reference]).score


def test_an_empty_answer_is_worth_nothing() -> None:
    assert (rouge_l("", "a b"), bleu_4("", "a b"), chrf("", "a b")) == (0, 0, 0)
