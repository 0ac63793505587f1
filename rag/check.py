"""The long look at a version: every recorded digest, and every row in Chroma against the files beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data.artefacts import sha256_file
from data.errors import InputError
from data.manifest import missing_files, read_manifest
from data.records import Row, read_records
from rag.index import CALIBRATION, CHROMA, COVERAGE, LEXICAL, ROWS, VECTORS
from rag.lexical import load_postings
from rag.row_texts import row_text
from rag.store import check_store


def check_version(folder: Path) -> None:
    """Read all of a version and compare it with itself.

    Raises:
        InputError: a file is not the recorded one, or Chroma holds other rows or vectors than rows.jsonl and
            vectors.npy say.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        raise InputError(f"{folder}: not a version of an index (no manifest); run `groundtune rag index`")
    if not {name.partition("/")[0] for name in manifest.files} >= {
        ROWS,
        VECTORS,
        LEXICAL,
        COVERAGE,
        CALIBRATION,
    }:
        raise InputError(f"{folder}: its manifest does not name all of its parts; run `groundtune rag index`")
    wrong = missing_files(folder, manifest) or [
        name for name, stamp in manifest.files.items() if sha256_file(folder / name) != stamp.sha256
    ]
    if wrong:
        raise InputError(f"{folder / wrong[0]}: gone or damaged; run `groundtune rag index` again")
    rows = read_records(folder / ROWS, Row)
    if len(load_postings(folder / LEXICAL).lengths) != len(rows):
        raise InputError(f"{folder / LEXICAL}: of other rows than {ROWS}; run `groundtune rag index` again")
    check_store(folder / CHROMA, rows, [row_text(row) for row in rows], np.load(folder / VECTORS))
