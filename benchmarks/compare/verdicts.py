"""From every answer's scores to what can be said: means, differences between arms, and sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from benchmarks.measures.scores import BY_NAME, MEASURES, Measure, Scores
from benchmarks.significance import CONFIDENCE, Comparison, Interval, compare_paired, mean_interval

SMALLEST_CATEGORY = 10


@dataclass(frozen=True)
class Pair:
    """Two arms in one measure, over all questions or those of one category; the difference is first - second."""

    first: str
    second: str
    measure: Measure
    category: str | None
    comparison: Comparison

    @property
    def better(self) -> str | None:
        """The arm that is better beyond chance; None where neither is known to be."""
        if not self.comparison.is_significant or self.measure.higher_is_better is None:
            return None
        first_is = (self.comparison.difference.mean > 0) == self.measure.higher_is_better
        return self.first if first_is else self.second


Table = Mapping[str, Sequence[Scores]]
"""Scores by arm; each arm's in the order of the questions."""


def summarise(table: Table) -> dict[str, dict[str, Interval | None]]:
    """Return each arm's mean of each measure, with its interval; None where no answer has a value."""
    return {
        arm: {measure.name: _mean([scores[measure.name] for scores in of_arm]) for measure in MEASURES}
        for arm, of_arm in table.items()
    }


def compare_all(table: Table, categories: Sequence[str], main: Measure) -> list[Pair]:
    """Compare every two arms in every measure, and in the main one for each category of enough questions.

    The intervals of the categories are so wide that all of a pair's hold together (Bonferroni).
    """
    arms = list(table)
    large = sorted({name for name in categories if name and categories.count(name) >= SMALLEST_CATEGORY})
    pairs = []
    for first, second in combinations(arms, 2):
        for measure in MEASURES:
            compared = _compare(table, first, second, measure, range(len(categories)), CONFIDENCE)
            if compared is not None:
                pairs.append(Pair(first, second, measure, None, compared))
        for name in large:
            places = [place for place, category in enumerate(categories) if category == name]
            confidence = 1 - (1 - CONFIDENCE) / len(large)
            compared = _compare(table, first, second, main, places, confidence)
            if compared is not None:
                pairs.append(Pair(first, second, main, name, compared))
    return pairs


def findings(
    table: Table, pairs: Sequence[Pair], main: Measure, num_unanswerable: int
) -> dict[str, list[str]]:
    """Say what the comparison shows: the best arm, every two arms, the categories, what is wrong and refused."""
    overall = [pair for pair in pairs if pair.category is None]
    best = _best(table, overall, main)
    faults = _plain_sentences(table, overall, BY_NAME["contradicts"], "contradict the reference")
    if num_unanswerable:
        faults += _plain_sentences(
            table, overall, BY_NAME["refusal_right"], "refuse exactly when they should"
        )
    told = {
        "best": [best] if best else [],
        "pairs": [_pair_sentence(pair) for pair in overall if pair.measure == main],
        "categories": _category_sentences(pairs),
        "faults": faults,
    }
    return {about: sentences for about, sentences in told.items() if sentences}


def _compare(
    table: Table, first: str, second: str, measure: Measure, places: Sequence[int], confidence: float
) -> Comparison | None:
    return compare_paired(
        [table[first][place][measure.name] for place in places],
        [table[second][place][measure.name] for place in places],
        is_binary=measure.is_binary,
        confidence=confidence,
    )


def _mean(values: Sequence[float | None]) -> Interval | None:
    known = [value for value in values if value is not None]
    return mean_interval(known) if known else None


def _best(table: Table, overall: Sequence[Pair], main: Measure) -> str:
    means = {arm: _mean([scores[main.name] for scores in of_arm]) for arm, of_arm in table.items()}
    known = {arm: interval for arm, interval in means.items() if interval is not None}
    if not known:
        return ""
    sign = 1 if main.higher_is_better else -1
    best = max(known, key=lambda arm: sign * known[arm].mean)
    of_best = [pair for pair in overall if pair.measure == main and best in (pair.first, pair.second)]
    beaten = [pair.second if pair.first == best else pair.first for pair in of_best if pair.better == best]
    level = [pair.second if pair.first == best else pair.first for pair in of_best if pair.better is None]
    said = f"{best} comes first in {main.label}, {_with_interval(known[best], main)}"
    if beaten:
        said += f"; better than {_listed(beaten)} beyond chance"
    if level:
        said += f"; not told apart from {_listed(level)} by these {known[best].num} questions"
    return said + "."


def _pair_sentence(pair: Pair) -> str:
    difference = pair.comparison.difference
    better = pair.better
    if better is None:
        # The arm named first in the command is the one that the other is measured against.
        amount = _signed(-difference.mean, -difference.high, -difference.low, pair.measure)
        confidence = _confidence(pair.comparison.confidence)
        return (
            f"{pair.second} adds nothing significant over {pair.first}: {amount}; confidence in the direction "
            f"{confidence}."
        )
    other = pair.second if better == pair.first else pair.first
    flipped = better == pair.second
    ends = (-difference.high, -difference.low) if flipped else (difference.low, difference.high)
    amount = _signed(-difference.mean if flipped else difference.mean, *ends, pair.measure)
    confidence = _confidence(pair.comparison.confidence)
    return f"{better} is better than {other} on these {difference.num} questions: {amount}, confidence {confidence}."


def _category_sentences(pairs: Sequence[Pair]) -> list[str]:
    told = []
    by_arms: dict[tuple[str, str], list[Pair]] = {}
    for pair in pairs:
        if pair.category is not None:
            by_arms.setdefault((pair.first, pair.second), []).append(pair)
    for (first, second), of_pair in by_arms.items():
        parts = []
        for arm in (first, second):
            won = [pair.category or "" for pair in of_pair if pair.better == arm]
            if won:
                parts.append(f"{arm} is better in {_listed(won)}")
        undecided = sum(pair.better is None for pair in of_pair)
        if parts:
            rest = f"; {undecided} others undecided" if undecided else ""
            told.append(f"By category, {first} against {second}: {'; '.join(parts)}{rest}.")
        else:
            told.append(f"By category, {first} against {second}: none of {len(of_pair)} decided.")
    return told


def _plain_sentences(table: Table, overall: Sequence[Pair], measure: Measure, what: str) -> list[str]:
    means = {arm: _mean([scores[measure.name] for scores in of_arm]) for arm, of_arm in table.items()}
    parts = [f"{arm} {_with_interval(mean, measure)}" for arm, mean in means.items() if mean is not None]
    if not parts:
        return []
    if measure.higher_is_better is False and not any(
        mean.mean for mean in means.values() if mean is not None
    ):
        return [f"No arm's answers {what}, as far as words tell."]
    told = f"Answers that {what}: {', '.join(parts)}."
    decided = [
        f"{pair.better} better than {pair.second if pair.better == pair.first else pair.first} "
        f"(McNemar p = {pair.comparison.mcnemar_p:.2g})"
        for pair in overall
        if pair.measure == measure and pair.better is not None
    ]
    return [told + (f" Beyond chance: {'; '.join(decided)}." if decided else " No two differ beyond chance.")]


def _with_interval(interval: Interval, measure: Measure) -> str:
    unit = "%" if measure.unit == "%" else ""
    return f"{interval.mean:.1f}{unit} [{interval.low:.1f}, {interval.high:.1f}]"


def _signed(mean: float, low: float, high: float, measure: Measure) -> str:
    digits = 1 if measure.unit in ("points", "%", "tokens") else 3
    # Adding zero takes the sign from a minus zero.
    mean, low, high = (round(end, digits) + 0.0 for end in (mean, low, high))
    return f"{mean:+.{digits}f} {measure.label} [{low:.{digits}f}, {high:.{digits}f}]"


def _confidence(share: float) -> str:
    return "above 99.9%" if share > 0.999 else f"{share:.1%}"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
