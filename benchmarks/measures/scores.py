"""All the measures of one answer, and the table that says what each of them is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.measures.facts import compare_facts
from benchmarks.measures.overlap import bleu_4, chrf, rouge_l
from benchmarks.measures.prices import ModelPrice
from benchmarks.measures.sources import Passage, groundedness, score_citations, statements
from rag.answers import declines
from serving.quickstart.scores import without_markers

Scores = Mapping[str, float | None]
"""By the names of `MEASURES`; None where a measure says nothing of an answer."""

_DECLINES_WITHIN = 2


@dataclass(frozen=True)
class Measure:
    """One measure.

    Attributes:
        name: Its key in JSON.
        label: Its heading for people.
        unit: "points" and "%" run from 0 to 100; "s", "tokens" and "cost" have no upper end.
        higher_is_better: False: lower is; None: neither.
        is_binary: 0 or 100 for each answer, so that McNemar's test applies.
        about: What it says, in a few words for people.
    """

    name: str
    label: str
    unit: str
    higher_is_better: bool | None = True
    is_binary: bool = False
    about: str = ""


MEASURES = (
    Measure("rouge_l", "ROUGE-L", "points", about="words in the reference's order; Chinese by characters"),
    Measure("bleu_4", "BLEU-4", "points", about="runs of up to four words that the reference has too"),
    Measure("chrf", "chrF", "points", about="runs of up to six characters that the reference has too"),
    Measure("similarity", "similarity", "points", about="nearness in meaning, by an embedding model"),
    Measure(
        "facts_kept",
        "facts kept",
        "%",
        about="numbers with units, medicines and prohibitions of the reference",
    ),
    Measure(
        "contradicts",
        "contradicts",
        "%",
        higher_is_better=False,
        is_binary=True,
        about="answers with another number, or that allow what the reference forbids",
    ),
    Measure("citation_precision", "citation precision", "%", about="of the cited rows, those that are right"),
    Measure("citation_recall", "citation recall", "%", about="of the right rows, those that are cited"),
    Measure("groundedness", "grounded sentences", "%", about="sentences that a cited row supports"),
    Measure(
        "refusal_right",
        "refusal right",
        "%",
        is_binary=True,
        about="answered where there is an answer, refused where there is none",
    ),
    Measure("latency_s", "latency", "s", higher_is_better=False, about="until the answer was complete"),
    Measure("prompt_tokens", "prompt tokens", "tokens", higher_is_better=None, about="as the server counts"),
    Measure(
        "completion_tokens", "answer tokens", "tokens", higher_is_better=None, about="as the server counts"
    ),
    Measure("cost", "cost", "cost", higher_is_better=False, about="of the answers, by the table of prices"),
)
BY_NAME: Mapping[str, Measure] = {measure.name: measure for measure in MEASURES}


@dataclass(frozen=True)
class Given:
    """An answer as it came.

    `cited` is None for a model that cites nothing by design, and () for one that might have. `no_answer`: the server
    said that this is a refusal. Token counts are None where the server gave none.
    """

    text: str
    cited: tuple[Passage, ...] | None
    no_answer: bool
    latency_s: float
    prompt_tokens: int | None
    completion_tokens: int | None


@dataclass(frozen=True)
class Wanted:
    """What a right answer is: its words and the ids of its rows; both empty where none exists."""

    reference: str
    right_rows: tuple[str, ...]

    @property
    def is_answerable(self) -> bool:
        """Whether there is an answer at all."""
        return bool(self.reference)


def is_refusal(given: Given) -> bool:
    """Tell whether an answer is a refusal: the server says so, or its first sentences do and nothing is cited."""
    if given.no_answer:
        return True
    first = statements(without_markers(given.text))[:_DECLINES_WITHIN]
    return not given.cited and declines(" ".join(first))


def score(
    given: Given, wanted: Wanted, price: ModelPrice | None = None, similarity: float | None = None
) -> Scores:
    """Return every measure of an answer. Of an unanswerable question only the refusal, the time and the price count.

    A refusal of an answerable question is scored like any other text: it says little of what was wanted.
    """
    refused = is_refusal(given)
    has_tokens = given.prompt_tokens is not None and given.completion_tokens is not None
    scores: dict[str, float | None] = dict.fromkeys(BY_NAME)
    scores |= {
        "refusal_right": 100.0 * (refused != wanted.is_answerable),
        "latency_s": given.latency_s,
        "prompt_tokens": given.prompt_tokens,
        "completion_tokens": given.completion_tokens,
    }
    if price is not None and has_tokens:
        assert given.prompt_tokens is not None and given.completion_tokens is not None
        scores["cost"] = price.cost(given.prompt_tokens, given.completion_tokens)
    if not wanted.is_answerable:
        return scores
    text = without_markers(given.text)
    facts = compare_facts(text, wanted.reference).all
    scores |= {
        "rouge_l": rouge_l(text, wanted.reference),
        "bleu_4": bleu_4(text, wanted.reference),
        "chrf": chrf(text, wanted.reference),
        "similarity": similarity,
        "facts_kept": _percent(facts.kept_share),
        "contradicts": 100.0 * (facts.contradicted > 0),
    }
    if given.cited is not None:
        citations = score_citations(given.cited, wanted.right_rows, wanted.reference)
        scores["citation_precision"] = _percent(citations.precision)
        scores["citation_recall"] = _percent(citations.recall)
        scores["groundedness"] = None if refused else _percent(groundedness(text, given.cited))
    return scores


def _percent(share: float | None) -> float | None:
    return None if share is None else 100.0 * share
