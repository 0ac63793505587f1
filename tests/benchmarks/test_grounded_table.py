"""Which side of a comparison is the better one does not depend on which stands first."""

from __future__ import annotations

from typing import Any

from benchmarks.tables.training_sections import TRAINING_SECTIONS

(SECTION,) = (section for section in TRAINING_SECTIONS if section.file == "grounded-training")


def _run(first: str, second: str, mean: float) -> dict[str, Any]:
    figure = {"mean": 70.0, "low": 60.0, "high": 80.0, "num": 48}
    means = {
        arm: dict.fromkeys(("rouge_l", "facts_kept", "citation_recall"), figure)
        for arm in ("base-rag", "tuned-rag", "tuned")
    }
    pair = {
        "first": first,
        "second": second,
        "difference": {"mean": mean, "low": mean - 3, "high": mean + 1, "num": 48},
        "confidence": 0.99,
        "better": None,
    }
    other = {**pair, "first": "tuned-rag", "second": "tuned"}
    return {
        "num_answerable": 48,
        "num_conversations": {"plain": 184, "grounded": 49},
        "means": means,
        "rouge_l_pairs": [other, pair],
    }


def test_the_difference_is_that_of_tuned_rag() -> None:
    runs = {
        "bare": _run("base-rag", "tuned-rag", 6.0),
        "both": _run("tuned-rag", "base-rag", 7.0),
    }
    result = {"epochs": 4, "runs": runs}
    ((_, told),) = SECTION.lines(result)
    assert "bare questions -6.0 [-7.0, -3.0]" in told
    assert "rows in the prompt +7.0 [4.0, 8.0]" in told
    body = SECTION.body(result)
    assert body.count("| base-rag |") == 1 and body.count("| tuned-rag |") == body.count("| tuned |") == 2
    assert "of 184 bare questions, and of 49 with rows in the prompt" in body
