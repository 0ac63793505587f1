"""Likeness of an answer's wording to its reference: ROUGE-L, BLEU-4 and chrF, each from 0 to 100.

ROUGE-L is the quickstart's own (characters of Chinese, words otherwise; serving.quickstart.scores), BLEU and chrF
are sacrebleu's. The only file here that imports sacrebleu.
"""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import TYPE_CHECKING

from rag.terms import has_cjk
from serving.quickstart.scores import rouge_l

if TYPE_CHECKING:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

__all__ = ["bleu_4", "chrf", "rouge_l"]


def bleu_4(answer: str, reference: str) -> float:
    """Return sacrebleu's sentence BLEU; a reference with Chinese, Japanese or Korean is cut into characters.

    With the effective order: an answer of fewer than four tokens is judged by the n-grams that it has.
    """
    return float(_bleu("zh" if has_cjk(reference) else "13a").sentence_score(answer, [reference]).score)


def chrf(answer: str, reference: str) -> float:
    """Return sacrebleu's sentence chrF2 (character n-grams up to 6, none of words; Popović 2015)."""
    return float(_chrf().sentence_score(answer, [reference]).score)


@lru_cache(maxsize=2)
def _bleu(tokenizer: str) -> BLEU:
    from sacrebleu.metrics.bleu import BLEU

    # It warns of every answer that is tokenised already, by which it means one with a blank before the full stop.
    logging.getLogger("sacrebleu").setLevel(logging.ERROR)
    return BLEU(tokenize=tokenizer, effective_order=True)


@lru_cache(maxsize=1)
def _chrf() -> CHRF:
    from sacrebleu.metrics.chrf import CHRF

    return CHRF()
