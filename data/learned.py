"""Which answers a run's tuned model has learned, also once its dataset was prepared again from a newer workbook.

`data prepare` keeps the rows that the adapter was trained on (learned.json in the run's folder) before it replaces
the dataset that they stand in. What the weights hold can then still be told, whichever backend trained them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from data.artefacts import write_json
from data.conversations import conversation_of_line
from data.errors import InputError
from data.manifest import Manifest, read_manifest
from data.records import Row, read_records, revision_of
from data.workspace import Run

_KEPT = "learned.json"
_TRAIN = "train.jsonl"


def learned_rows(run: Run) -> list[Row] | None:
    """Return the rows whose answers the run's adapter was trained on, each with the answer as it then was.

    None where there is no adapter, or what it was trained on is gone and was never kept.

    Raises:
        InputError: a file of the run is damaged.
    """
    adapter = read_manifest(run.adapter)
    if adapter is None:
        return None
    if _is_of(run.dataset, adapter):
        return trained_rows(run.dataset)
    return _kept(run.folder / _KEPT, adapter)


def keep_learned(run: Run) -> None:
    """Keep what the adapter was trained on, if the dataset still is that; to be called before it is replaced.

    Raises:
        InputError: the dataset is damaged.
    """
    adapter = read_manifest(run.adapter)
    if adapter is None or not _is_of(run.dataset, adapter):
        return
    rows = [asdict(row) for row in trained_rows(run.dataset)]
    write_json(run.folder / _KEPT, {"train": adapter.inputs[_TRAIN], "rows": rows})


def trained_rows(dataset: Path) -> list[Row]:
    """Return the rows that a dataset's training conversations are about, each with the answer that they teach.

    Raises:
        InputError: the dataset is not there or damaged.
    """
    rows = {row.row_id: row for row in read_records(dataset / "rows.jsonl", Row)}
    path = dataset / _TRAIN
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        raise InputError(
            f"{path}: gone, though its manifest lists it; run `groundtune data prepare` again"
        ) from None
    found: dict[str, Row] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            taught = conversation_of_line(json.loads(line))
            row = rows[taught.row_id]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}:{number}: not a conversation ({error})") from error
        if taught.style == "grounded":
            # It teaches the answer without its footnote marks, which is no other answer.
            found.setdefault(row.row_id, row)
        else:
            found[row.row_id] = replace(row, answer=taught.output, revision=revision_of(taught.output))
    return list(found.values())


def _is_of(dataset: Path, adapter: Manifest) -> bool:
    """Tell whether `adapter` was trained on what stands in `dataset`."""
    manifest = read_manifest(dataset)
    stamp = manifest.files.get(_TRAIN) if manifest is not None else None
    return stamp is not None and adapter.inputs.get(_TRAIN) == stamp.sha256


def _kept(path: Path, adapter: Manifest) -> list[Row] | None:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        rows: Sequence[Row] = [Row(**row) for row in raw["rows"]]
        trained_on = raw["train"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: not readable ({error}); remove it: what the model learned before can then not be told"
        ) from error
    return list(rows) if trained_on == adapter.inputs.get(_TRAIN) else None
