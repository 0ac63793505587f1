"""The build step: rows.jsonl of a dataset becomes an index folder.

The folder holds chroma/ (vectors), lexical/ (BM25), coverage/, rows.jsonl (the rows it was made of, in order) and a
manifest. Made beside its place and renamed over it, so that a reader never sees half of one.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data.artefacts import digest_of, folder_beside, sha256_file
from data.errors import InputError
from data.manifest import Manifest, folder_digest, is_current, read_manifest, write_manifest
from data.records import Row, read_records, write_records
from rag.config import IndexSection

INDEX_KIND = "index"
CHROMA = "chroma"
LEXICAL = "lexical"
COVERAGE = "coverage"
ROWS = "rows.jsonl"

# Goes into the inputs' digest: raise it when the code makes another index of the same rows.
_FORMAT = 2
_SPEED_ONLY = {"device", "precision", "batch_size", "threads"}


def row_title(row: Row) -> str:
    """Return the text of the `question` view: info_1, info_2 and Q."""
    return " ".join(part for part in (row.info_1, row.info_2, row.question) if part)


def row_text(row: Row) -> str:
    """Return all of a row as one text: the `row` view, and the row's document in Chroma."""
    return f"{row_title(row)}\n{row.answer}"


def build_index(
    dataset: Path, embedding_folder: Path, out: Path, settings: IndexSection
) -> tuple[Manifest, bool]:
    """Make the index `out` of the dataset's rows, unless it is there already.

    Returns:
        Its manifest, and whether it was made now.

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
    inputs = {
        "rows": sha256_file(rows_file),
        "embedding": folder_digest(embedding_folder),
        "index": digest_of([_FORMAT, settings.model_dump(mode="json", exclude=_SPEED_ONLY)]),
    }
    if is_current(out, INDEX_KIND, inputs):
        manifest = read_manifest(out)
        assert manifest is not None, "a current folder has a manifest"
        return manifest, False
    rows = read_records(rows_file, Row)
    if not rows:
        raise InputError(f"{rows_file}: no rows; run `groundtune data prepare` on a workbook that has some")
    return _build(rows, embedding_folder, out, settings, inputs), True


def _build(
    rows: Sequence[Row], embedding_folder: Path, out: Path, settings: IndexSection, inputs: dict[str, str]
) -> Manifest:
    # Imported when there is something to do: together they take seconds.
    from rag.coverage import write_coverage
    from rag.embedding import load_embeddings
    from rag.lexical import write_lexical
    from rag.store import write_store

    embeddings = load_embeddings(
        embedding_folder,
        precision=settings.precision,
        device=settings.device,
        max_tokens=settings.max_tokens,
        batch_size=settings.batch_size,
        num_threads=settings.threads,
    )
    try:
        vectors = _row_vectors(rows, embeddings, settings)
    finally:
        embeddings.close()
    with folder_beside(out) as folder:
        write_records(folder / ROWS, rows)
        write_lexical(folder / LEXICAL, rows, settings.question_weight)
        write_coverage(folder / COVERAGE, rows)
        write_store(folder / CHROMA, rows, [row_text(row) for row in rows], vectors)
        facts = {
            "num_rows": len(rows),
            "embedding": embedding_folder.name,
            "dims": int(vectors.shape[1]),
            "views": list(settings.views),
            "cosine_spread": _cosine_spread(vectors),
        }
        return write_manifest(folder, INDEX_KIND, inputs, facts)


def _row_vectors(rows: Sequence[Row], embeddings: Any, settings: IndexSection) -> Any:
    """Return one vector a row (len(rows), dims): the normalised mean of its views' vectors."""
    import numpy as np
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    text_of = {"question": row_title, "answer": lambda row: row.answer, "row": row_text}
    texts = [text_of[view](row) for view in settings.views for row in rows]
    columns = (TextColumn("embedding"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as progress:
        task = progress.add_task("embedding", total=len(texts))
        vectors = embeddings.embed(texts, "passage", lambda done: progress.update(task, completed=done))
    mean = vectors.reshape(len(settings.views), len(rows), -1).mean(axis=0)
    return mean / np.linalg.norm(mean, axis=1, keepdims=True)


def _cosine_spread(vectors: Any) -> float:
    """Return the standard deviation of the cosines between (at most 1000, evenly spaced) rows.

    Embedding models differ in how far apart they put texts; scores of another kind are scaled by this.
    """
    import numpy as np

    some = vectors[:: max(1, len(vectors) // 1000)][:1000]
    cosines = (some @ some.T)[np.triu_indices(len(some), 1)]
    return float(cosines.std()) if len(cosines) > 1 else 0.0
