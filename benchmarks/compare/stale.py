"""The stale-knowledge probe: where a row's answer has changed since training, which of the two does the model give?

Asked twice: the tuned model alone, and as it is served, where such questions are answered from the rows
(rag.stale). What tells the two answers apart is what only one of them says: the share of the old answer's own
character n-grams that the model's answer has, against that of the new one's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from benchmarks.compare.arms import Arm
from benchmarks.compare.questions import Question
from benchmarks.measures.scores import Given, Wanted, is_refusal
from data.diff.changes import Change
from data.diff.stale import stale_answers
from data.records import Row, read_records
from data.similarity import plain_grams
from data.workspace import Run
from rag.versions import current_version, version_folder
from serving.quickstart.scores import without_markers

Says = Literal["old", "new", "neither", "refused"]
SAYS: tuple[Says, ...] = ("old", "new", "neither", "refused")
_SAID_FROM = 0.5
"""An answer gives a text when it has at least this share of what only that text says."""


@dataclass(frozen=True)
class ProbeArms:
    """The tuned model's two arms."""

    alone: Arm
    served: Arm


def probe_arms(tuned: Arm) -> ProbeArms:
    """Return the arms of a run's tuned model."""
    own = {"groundtune": {"ground_stale": False}}
    return ProbeArms(
        Arm(f"{tuned.label} alone", tuned.model, tuned.url, own),
        Arm(f"{tuned.label} as served", tuned.model, tuned.url),
    )


def stale_of_run(run: Run) -> list[Change] | None:
    """Return what a run's tuned model learned and its index says otherwise; None where that cannot be told.

    Raises:
        InputError: a file of the run is damaged.
    """
    version = current_version(run.index)
    if version is None:
        return []
    return stale_answers(run, read_records(version_folder(run.index, version) / "rows.jsonl", Row))


def stale_questions(changes: Sequence[Change]) -> list[Question]:
    """Return a question for each change, as training put it; a row that is gone has no right answer any more."""
    return [
        Question(
            (change.new or _old(change)).question,
            Wanted(change.new.answer, (change.new.row_id,)) if change.new else Wanted("", ()),
            change.row.info_1,
            change.row.source,
        )
        for change in changes
    ]


def says(given: Given, old: str, new: str | None) -> Says:
    """Tell which of two texts an answer gives; `new` is None where there is none any more."""
    answer = plain_grams(without_markers(given.text))
    before, after = plain_grams(old), plain_grams(new or "")
    has_old, has_new = (
        len(answer & own) / len(own) if own else 0.0 for own in (before - after, after - before)
    )
    if max(has_old, has_new) >= _SAID_FROM and has_old != has_new:
        return "old" if has_old > has_new else "new"
    return "refused" if is_refusal(given) else "neither"


def probe_record(
    changes: Sequence[Change], num_stale: int, answers: Mapping[str, Sequence[Given]]
) -> dict[str, Any]:
    """Return the report's part: what each arm said of each change, and how often."""
    rows: list[dict[str, Any]] = []
    for place, change in enumerate(changes):
        old = _old(change)
        rows.append(
            {
                "question": (change.new or old).question,
                "change": change.kind,
                "source": change.row.source,
                "old": old.answer,
                "new": change.new.answer if change.new else None,
                "answers": {
                    arm: {
                        "text": of_arm[place].text,
                        "says": says(of_arm[place], old.answer, change.new.answer if change.new else None),
                        "cited": [asdict(passage) for passage in of_arm[place].cited or ()],
                    }
                    for arm, of_arm in answers.items()
                },
            }
        )
    counted = {arm: Counter(row["answers"][arm]["says"] for row in rows) for arm in answers}
    return {
        "num_stale": num_stale,
        "num_asked": len(rows),
        "counts": {arm: {what: of_arm[what] for what in SAYS} for arm, of_arm in counted.items()},
        "rows": rows,
    }


def probe_sentence(probe: Mapping[str, Any]) -> str:
    """Say what the probe shows."""
    parts = [
        f"{arm} gives the old answer to {of_arm['old']}, the new one to {of_arm['new']}, neither to {of_arm['neither']}"
        + (f" and refuses {of_arm['refused']}" if of_arm["refused"] else "")
        for arm, of_arm in probe["counts"].items()
    ]
    asked = f" (asked about {probe['num_asked']})" if probe["num_asked"] < probe["num_stale"] else ""
    return f"{probe['num_stale']} answers changed since training{asked}: {'; '.join(parts)}."


def _old(change: Change) -> Row:
    assert change.old is not None, "a stale answer was learned"
    return change.old
