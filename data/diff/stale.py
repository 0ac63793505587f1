"""The answers that a run's tuned model learned and that are no longer so.

Knows training by what it left on disk, and models not at all: whether the model still says the old answer is asked
of it (`groundtune compare`).
"""

from __future__ import annotations

from collections.abc import Sequence

from data.diff.changes import Change, ChangeKind, diff_rows
from data.learned import learned_rows
from data.manifest import read_manifest
from data.records import Row
from data.workspace import Run

STALE_KINDS: tuple[ChangeKind, ...] = ("revised", "rewritten", "removed")


def stale_answers(run: Run, current: Sequence[Row]) -> list[Change] | None:
    """Return the changes from what the run's tuned model learned to the `current` rows that made an answer stale.

    None where that cannot be told: the merged model is of another adapter than the run's, or what the adapter was
    trained on is gone and was never kept. A run without an adapter has learned nothing.

    Raises:
        InputError: a file of the run is damaged.
    """
    adapter, merged = read_manifest(run.adapter), read_manifest(run.merged)
    if adapter is None:
        return []
    if merged is not None and merged.inputs.get("adapter") != adapter.digest:
        return None
    learned = learned_rows(run)
    if learned is None:
        return None
    return [change for change in diff_rows(learned, current).changes if change.kind in STALE_KINDS]
