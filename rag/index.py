"""The build step: rows.jsonl of a dataset becomes a version of an index.

A version holds rows.jsonl (the rows it was made of, in order), vectors.npy (a vector each), chroma/ (the same, to be
searched), lexical/ and coverage/ (their terms), calibration.json (what a score means among them), and a manifest. It
is named by what it was made of. From one version to the next only rows that are new or changed are embedded and put
into Chroma; texts that were embedded before are not embedded again. Where versions lie and how one becomes current
is in rag.versions.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from data.artefacts import digest_of, folder_beside, link_folder, sha256_file
from data.errors import InputError
from data.manifest import MANIFEST_NAME, Manifest, folder_digest, is_current, read_manifest, write_manifest
from data.records import Row, read_records
from rag.changes import Changes, compare_rows
from rag.config import IndexSection
from rag.row_texts import row_text
from rag.versions import (
    current_version,
    list_versions,
    make_current,
    remove_old_versions,
    version_folder,
    writing,
)

if TYPE_CHECKING:
    from rag.embedding import SentenceEmbeddings

INDEX_KIND = "index"
CHROMA = "chroma"
LEXICAL = "lexical"
COVERAGE = "coverage"
ROWS = "rows.jsonl"
CALIBRATION = "calibration.json"
VECTORS = "vectors.npy"
CACHE = "vectors.sqlite3"

# Goes into the inputs' digest: raise it when the code makes another index of the same rows.
_FORMAT = 8
_NOT_IN_IT = {"device", "precision", "batch_size", "threads", "keep_versions", "chroma_url"}
_VERSION_DIGITS = 12
# So large a share of the rows may differ from those that were asked for the calibration. Of the 300 questions whose
# scores it holds, at most two are then other ones: less than a threshold is uncertain by.
_MOST_UNCALIBRATED = 0.005
_UNCALIBRATED = "uncalibrated_edits"


@dataclass(frozen=True)
class RowChanges:
    """How the rows differ from those of the version before, and the texts that had to be embedded for them."""

    num_added: int
    num_changed: int
    num_removed: int
    num_embedded: int


@dataclass(frozen=True)
class IndexBuild:
    """What `build_index` did. `switched`: the version was there already, and is current again."""

    version: str
    manifest: Manifest
    state: Literal["written", "switched", "up to date"]
    changes: RowChanges | None = None


def version_of(manifest_inputs: dict[str, str]) -> str:
    """Return the name of the version that is made of these inputs: equal ones give an equal name."""
    return digest_of(manifest_inputs)[:_VERSION_DIGITS]


def build_index(
    dataset: Path,
    embedding_folder: Path,
    out: Path,
    settings: IndexSection,
    embeddings: SentenceEmbeddings | None = None,
) -> IndexBuild:
    """Make the index `out` follow the dataset's rows. Readers of it go on meanwhile.

    `embeddings` is the model of `embedding_folder` where it is loaded already; otherwise it is loaded when there is
    a text to embed.

    Raises:
        InputError: the dataset or the embedding model cannot be used.
    """
    rows_file = dataset / ROWS
    if not rows_file.is_file():
        raise InputError(f"{rows_file}: not there; run `groundtune data prepare` first")
    if not embedding_folder.is_dir():
        raise InputError(
            f"{embedding_folder}: no embedding model; fetch it with `groundtune models fetch`, "
            "or set models.embedding to the folder of one"
        )
    if rows_file.stat().st_size == 0:
        raise InputError(f"{rows_file}: no rows; run `groundtune data prepare` on a workbook that has some")
    inputs = {
        "rows": sha256_file(rows_file),
        "embedding": folder_digest(embedding_folder),
        "index": digest_of([_FORMAT, settings.model_dump(mode="json", exclude=_NOT_IN_IT)]),
    }
    version = version_of(inputs)
    folder = version_folder(out, version)
    if current_version(out) == version and _is_whole(folder, inputs):
        _serve(out, version, settings)
        return IndexBuild(version, _manifest(folder), "up to date")
    with writing(out):
        if _is_whole(folder, inputs):
            # The newest again, also in the order of rolling back.
            os.utime(folder / MANIFEST_NAME)
            build = IndexBuild(version, _manifest(folder), "switched")
        else:
            with folder_beside(folder) as beside:
                shutil.copyfile(rows_file, beside / ROWS)
                changes = _fill(beside, out, inputs, embedding_folder, settings, embeddings)
                manifest = read_manifest(beside)
                assert manifest is not None, "filling ends with the manifest"
            build = IndexBuild(version, manifest, "written", changes)
        _serve(out, version, settings)
        make_current(out, version)
        _remove_single_folder_index(out)
        remove_old_versions(out, settings.keep_versions)
    return build


def collection_of(index: Path, version: str) -> str:
    """Return the name of a version's collection on a Chroma server, which may hold other indexes."""
    return f"groundtune-{digest_of(index.name)[:8]}-{version}"


def _serve(index: Path, version: str, settings: IndexSection) -> None:
    """Put a version on the Chroma server, where one is configured, before anybody reads it there."""
    if settings.chroma_url is None:
        return
    import numpy as np

    from rag.served_store import serve_store

    folder = version_folder(index, version)
    rows = read_records(folder / ROWS, Row)
    # Readers of the versions that are kept may go on.
    keep = {collection_of(index, info.version) for info in list_versions(index)}
    vectors = np.load(folder / VECTORS, mmap_mode="r")
    serve_store(
        settings.chroma_url,
        collection_of(index, version),
        rows,
        [row_text(row) for row in rows],
        vectors,
        keep,
    )


def _manifest(folder: Path) -> Manifest:
    manifest = read_manifest(folder)
    assert manifest is not None, "a whole version has a manifest"
    return manifest


def _is_whole(folder: Path, inputs: dict[str, str]) -> bool:
    return is_current(folder, INDEX_KIND, inputs) and any((folder / CHROMA).glob("*"))


def _fill(
    folder: Path,
    index: Path,
    inputs: dict[str, str],
    embedding_folder: Path,
    settings: IndexSection,
    embeddings: SentenceEmbeddings | None,
) -> RowChanges:
    """Make a version in `folder`, which holds its rows.jsonl, from the current version where that helps."""
    # Imported when there is something to do: together they take seconds.
    import numpy as np

    from rag.calibration import questions_to_ask
    from rag.coverage import write_coverage
    from rag.embedder import CachedEmbedder
    from rag.lexical import write_lexical
    from rag.row_vectors import cosine_spread, row_vectors
    from rag.store import update_store, write_store

    if sha256_file(folder / ROWS) != inputs["rows"]:
        raise InputError(f"{ROWS} was changed while it was read; run `groundtune rag index` again")
    base = _base(index, inputs)
    lines: dict[str, Row] = {}
    old = read_records(base / ROWS, Row, lines) if base else []
    changes = compare_rows(read_records(folder / ROWS, Row, lines), old)
    rows = changes.rows
    uncalibrated = _uncalibrated_edits(base, changes)
    with CachedEmbedder(
        index / CACHE, inputs["embedding"], embedding_folder, settings, embeddings
    ) as embedder:
        vectors, num_embedded = row_vectors(changes, base and base / VECTORS, embedder, settings)
        asked = questions_to_ask(rows) if uncalibrated == 0 else []
        questions = [rows[place].question for place in asked]
        asked_vectors = embedder.embed(questions, "query")[0] if asked else vectors[:0]
    np.save(folder / VECTORS, vectors, allow_pickle=False)
    write_lexical(folder / LEXICAL, rows, settings.question_weight, base and base / LEXICAL, changes.same)
    if base and changes.keeps_questions:
        link_folder(base / COVERAGE, folder / COVERAGE)
    else:
        write_coverage(folder / COVERAGE, rows)
    spread = cosine_spread(vectors)
    if base and uncalibrated:
        shutil.copyfile(base / CALIBRATION, folder / CALIBRATION)
    else:
        _calibrate(folder, rows, vectors, spread, asked, asked_vectors)

    some = [rows[place] for place in changes.new]
    documents = [row_text(row) for row in some]
    if not base or not update_store(
        folder / CHROMA, base / CHROMA, changes.removed, some, documents, vectors[changes.new], len(old)
    ):
        write_store(folder / CHROMA, rows, [row_text(row) for row in rows], vectors)
    facts = {
        "num_rows": len(rows),
        "embedding": embedding_folder.name,
        "dims": int(vectors.shape[1]),
        "views": list(settings.views),
        "cosine_spread": spread,
        _UNCALIBRATED: uncalibrated,
    }
    write_manifest(folder, INDEX_KIND, inputs, facts, unrecorded=[CHROMA])
    num_changed = changes.num_changed
    return RowChanges(len(some) - num_changed, num_changed, len(changes.removed), num_embedded)


def _uncalibrated_edits(base: Path | None, changes: Changes) -> int:
    """Return how many rows differ from those that `base` was calibrated on; 0: the new version is to be calibrated."""
    manifest = read_manifest(base) if base else None
    if manifest is None:
        return 0
    edits = int(manifest.facts.get(_UNCALIBRATED, 0)) + changes.num_edits
    return edits if edits <= len(changes.rows) * _MOST_UNCALIBRATED else 0


def _calibrate(
    folder: Path, rows: Sequence[Row], vectors: Any, spread: float, asked: Sequence[int], asked_vectors: Any
) -> None:
    from rag.calibration import calibrate
    from rag.lexical import SPREADS_PER_BM25, open_lexical

    lexical = open_lexical(folder / LEXICAL, [row.row_id for row in rows], SPREADS_PER_BM25 * spread)
    calibrate(rows, vectors, lexical, spread, asked, asked_vectors).save(folder / CALIBRATION)


def _base(index: Path, inputs: dict[str, str]) -> Path | None:
    """Return the folder of the current version if the new one differs from it in rows only."""
    version = current_version(index)
    if version is None:
        return None
    folder = version_folder(index, version)
    manifest = read_manifest(folder)
    if manifest is None or not _is_whole(folder, {**inputs, "rows": manifest.inputs.get("rows", "")}):
        return None
    return folder


def _remove_single_folder_index(index: Path) -> None:
    """Remove an index as it was before there were versions: its files lay where the versions' folder is."""
    if not (index / MANIFEST_NAME).is_file():
        return
    print(f"{index}: made by an earlier version of GroundTune; replaced", file=sys.stderr)
    for name in (MANIFEST_NAME, ROWS):
        (index / name).unlink(missing_ok=True)
    for name in (CHROMA, LEXICAL, COVERAGE):
        shutil.rmtree(index / name, ignore_errors=True)
