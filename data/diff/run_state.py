"""What a run was made of, read from its files: which answers its models learned, which rows its index holds.

Knows training and the index by the manifests that they leave; runs neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from data.diff.changes import Change
from data.errors import InputError
from data.learned import learned_rows
from data.manifest import read_manifest
from data.records import Row, read_records
from data.workspace import Run

Weights = Literal["none", "adapter", "merged", "unknown"]


@dataclass(frozen=True)
class RunState:
    """What a run's models and index know.

    `weights` says where trained answers are: in an adapter, in a merged model made of it too, nowhere, or in an
    adapter whose dataset is gone and was not kept ("unknown"). `learned` holds (row_id, revision) of each
    answer learned; `indexed` the rows of the index, None without one.
    """

    name: str
    weights: Weights
    learned: frozenset[tuple[str, str]]
    indexed: tuple[Row, ...] | None

    def has_learned(self, row: Row | None) -> bool:
        """Tell whether a row's answer, in this revision, is in the weights."""
        return row is not None and (row.row_id, row.revision) in self.learned


@dataclass(frozen=True)
class IndexWork:
    """What the index needs: rows to embed (again), and ids of rows to take out."""

    embed: tuple[Row, ...]
    drop: tuple[str, ...]


def read_run_state(run: Run) -> RunState:
    """Read the state of a run.

    Raises:
        InputError: the run has neither a dataset nor an adapter nor an index, or a file of it is damaged.
    """
    dataset, adapter = read_manifest(run.dataset), read_manifest(run.adapter)
    index_rows = run.index / "current" / "rows.jsonl"
    indexed = tuple(read_records(index_rows, Row)) if index_rows.is_file() else None
    if dataset is None and adapter is None and indexed is None:
        raise InputError(f"{run.folder}: no such run, or nothing in it yet; see `ls {run.folder.parent}`")
    if adapter is None:
        return RunState(run.name, "none", frozenset(), indexed)
    learned = learned_rows(run)
    if learned is None:
        return RunState(run.name, "unknown", frozenset(), indexed)
    merged = read_manifest(run.merged)
    is_merged = merged is not None and merged.inputs.get("adapter") == adapter.digest
    answers = frozenset((row.row_id, row.revision) for row in learned)
    return RunState(run.name, "merged" if is_merged else "adapter", answers, indexed)


def index_work(changes: Sequence[Change], new: Sequence[Row], state: RunState | None) -> IndexWork:
    """Return what brings an index to the new rows.

    With a run that has an index, that index is compared with the new rows; without, the index is taken to hold
    the old rows. The id of a row covers its question and the revision its answer: both are embedded.
    """
    if state is None or state.indexed is None:
        embed = [change.new for change in changes if change.new is not None and change.kind != "moved"]
        drop = [
            change.old.row_id
            for change in changes
            if change.old is not None and (change.new is None or change.new.row_id != change.old.row_id)
        ]
        return IndexWork(tuple(embed), tuple(drop))
    known = {row.row_id: row.revision for row in state.indexed}
    wanted = {row.row_id for row in new}
    return IndexWork(
        tuple(row for row in new if known.get(row.row_id) != row.revision),
        tuple(row_id for row_id in known if row_id not in wanted),
    )
