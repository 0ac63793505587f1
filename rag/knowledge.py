"""An opened index: search by every stage, fused; the rows; the embedding model.

Reads one version of an index folder, the one that was current when it was opened. Which stages there are is decided
in `open_index`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from langchain_core.vectorstores import VectorStore

from data.errors import InputError
from data.manifest import Manifest, folder_digest, missing_files, read_manifest
from data.records import Row, read_records
from rag.answerability import shipped_answerability
from rag.calibration import load_calibration
from rag.config import IndexSection, RetrieveSection
from rag.coverage import open_coverage
from rag.embedding import SentenceEmbeddings, load_embeddings
from rag.filters import Parts, RowFilter
from rag.fusion import Fused, Rankings, fuse_ranks, fuse_scores
from rag.index import CALIBRATION, CHROMA, COVERAGE, INDEX_KIND, LEXICAL, ROWS, VECTORS, collection_of
from rag.judgement import Judge
from rag.lexical import SPREADS_PER_BM25, open_lexical
from rag.rerank import NAME as RERANK
from rag.rerank import Reranker, reranked
from rag.served_store import open_served_store
from rag.signs import Background
from rag.stages import Hit, Query, Search, Stage
from rag.store import DenseStage, open_store
from rag.versions import HeldVersion, hold_current

# A question said whole in a long message weighs as much as two and a half of them.
_SPREADS_OF_COVERAGE = 2.5
# Scores closer than half a standard deviation of the cosines between rows say little: in a fifth of the sample's
# paraphrases the first two are, and for half of those the second is the right one.
_SPREADS_OF_A_TIE = 0.5


class EmbeddingsOwner(Protocol):
    """Whoever has the embedding model loaded: an opened index, for one."""

    def share_embeddings(self) -> SentenceEmbeddings:
        """Return the model, to be closed once more than without this call."""


class KnowledgeIndex:
    """The rows of a knowledge base, to be searched; safe to use from any thread.

    Attributes:
        version: Names what is searched: equal rows, embedding and settings give an equal version. Another one than
            `rag.versions.current_version` of the folder: the index has been made again since.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        embeddings: SentenceEmbeddings,
        dense: DenseStage,
        others: Sequence[Stage],
        settings: RetrieveSection,
        held: HeldVersion,
        judge: Judge,
        tie: float = 0.0,
        reranker: Reranker | None = None,
    ) -> None:
        self.version = held.version
        self._held = held
        self._judge = judge
        self._tie = tie
        self._reranker = reranker
        self._rows = {row.row_id: row for row in rows}
        self._parts = Parts(rows)
        self._embeddings = embeddings
        self._dense = dense
        self._stages: tuple[Stage, ...] = (dense, *others)
        self._settings = settings

    @property
    def rows(self) -> tuple[Row, ...]:
        """The rows, in the order of the workbook."""
        return tuple(self._rows.values())

    @property
    def folder(self) -> Path:
        """The version's folder (rag.index says what is in it); not to be changed."""
        return self._held.folder

    @property
    def lexical_gain(self) -> float:
        """What a BM25 score of 1 is worth on the scale of a cosine."""
        return next(stage.gain for stage in self._stages if stage.name == "lexical")

    @property
    def cosine_spread(self) -> float:
        """The standard deviation of the cosines between rows."""
        return self.lexical_gain / SPREADS_PER_BM25

    @property
    def num_rows(self) -> int:
        """How many rows there are."""
        return len(self._rows)

    @property
    def stages(self) -> tuple[str, ...]:
        """The names of the stages, as in `Hit.ranks`."""
        last = () if self._reranker is None else (RERANK,)
        return (*(stage.name for stage in self._stages), *last)

    def search(self, question: str, top_k: int | None = None, only: RowFilter | None = None) -> Search:
        """Return the `top_k` best rows for a question, best first; none for a blank one.

        Without `top_k`, every row that a stage ranked at the configured depth. `only` limits the rows.

        Raises:
            InputError: `only` leaves no row.
        """
        part = self._parts.part(only) if only is not None else None
        if not question.strip():
            return Search((), {"embed": 0.0, "retrieve": 0.0})
        started = time.perf_counter()
        query = Query(question, self._embeddings.embed_query(question), part)
        embedded = time.perf_counter()
        depth = min(max(self._settings.depth, top_k or 0), part.num_rows if part else len(self._rows))
        rankings = {stage.name: stage.rank(query, depth) for stage in self._stages}
        fused = self._fuse(rankings, depth)
        hits = tuple(Hit(self._rows[found.row_id], found.score, found.ranks) for found in fused)
        tied = len(hits) > 1 and hits[0].score - hits[1].score < self._tie
        judged = self._judge.judge(query, rankings, depth, hits, tied=tied)
        done = time.perf_counter()
        timings_ms = {"embed": (embedded - started) * 1e3, "retrieve": (done - embedded) * 1e3}
        ordered = hits
        if self._reranker is not None and len(hits) > 1:
            ordered = reranked(self._reranker, question, hits, self._settings.rerank_depth)
            timings_ms[RERANK] = (time.perf_counter() - done) * 1e3
        # Whether two may be meant, or one is the very row, was judged by the fused scores of the first.
        same_first = ordered is hits or ordered[0].row is hits[0].row
        return Search(
            ordered[:top_k],
            timings_ms,
            num_best=2 if tied and top_k != 1 and ordered is hits else 1,
            evidence=judged.evidence,
            answerability=judged.answerability,
            is_doubtful=judged.is_doubtful,
            is_verbatim=judged.is_verbatim and same_first,
        )

    def _fuse(self, rankings: Rankings, depth: int) -> list[Fused]:
        weights = {stage.name: self._settings.weight(stage.name) for stage in self._stages}
        if self._settings.fusion == "ranks":
            return fuse_ranks(rankings, weights, self._settings.rrf_k)
        gains = {stage.name: stage.gain * weights[stage.name] for stage in self._stages}
        return fuse_scores(rankings, gains, depth)

    def row(self, row_id: str) -> Row | None:
        """Return a row by its id."""
        return self._rows.get(row_id)

    def embed(self, texts: Sequence[str], kind: Literal["query", "passage"]) -> list[list[float]]:
        """Embed texts with the index's model; L2-normalised."""
        return [[float(value) for value in vector] for vector in self._embeddings.embed(texts, kind)]

    def share_embeddings(self) -> SentenceEmbeddings:
        """Return the embedding model, to be closed once more than without this call."""
        return self._embeddings.share()

    def vector_store(self) -> VectorStore:
        """The dense part as a LangChain vector store, for people's own chains; `source` is not in its metadata."""
        return self._dense.vector_store()

    def close(self) -> None:
        """Let go of the index's files and of the embedding thread."""
        self._dense.close()
        self._embeddings.close()
        self._held.release()


def open_index(
    index_folder: Path,
    embedding_folder: Path,
    settings: RetrieveSection | None = None,
    index_settings: IndexSection | None = None,
    share_with: EmbeddingsOwner | None = None,
    reranker: Reranker | None = None,
) -> KnowledgeIndex:
    """Open the current version of the index in `index_folder`, with the embedding model that it was made with.

    Of `index_settings` only what makes no other index is used: device, threads, precision, chroma_url. `share_with`
    has the same model loaded, as an index opened before has; it is then not loaded again: it goes when both are closed.
    `reranker` is what `settings.rerank` names, loaded.

    Raises:
        InputError: there is no whole index, or it was made with another embedding model.
    """
    with ExitStack() as undo:
        held = hold_current(index_folder)
        undo.callback(held.release)
        folder = held.folder
        manifest = _checked_manifest(folder, embedding_folder)
        chosen = index_settings or IndexSection()
        rows = read_records(folder / ROWS, Row)
        if share_with is None:
            embeddings = load_embeddings(
                embedding_folder,
                precision=chosen.precision,
                device=chosen.device,
                max_tokens=chosen.max_tokens,
                num_threads=chosen.threads,
            )
        else:
            embeddings = share_with.share_embeddings()
        undo.callback(embeddings.close)
        retrieve = settings or RetrieveSection()
        spread = float(manifest.facts["cosine_spread"])
        tie = _SPREADS_OF_A_TIE * spread if retrieve.fusion == "scores" else 0.0
        row_ids = [row.row_id for row in rows]
        lexical_gain = SPREADS_PER_BM25 * spread
        lexical = open_lexical(folder / LEXICAL, row_ids, lexical_gain)
        calibration = load_calibration(folder / CALIBRATION)
        vectors = np.load(folder / VECTORS, mmap_mode="r")
        judge = Judge(
            calibration,
            Background(row_ids, vectors, spread, lexical, calibration.usual_terms),
            shipped_answerability(),
            {row.row_id: row for row in rows},
            lexical_gain,
            wrong_answer_rate=retrieve.wrong_answer_rate,
            wrong_row_rate=retrieve.verbatim_error_rate if retrieve.verbatim else None,
        )
        others = (
            lexical,
            open_coverage(folder / COVERAGE, row_ids, _SPREADS_OF_COVERAGE * spread),
        )
        if chosen.chroma_url is None:
            dense = open_store(folder / CHROMA, embeddings, len(rows))
        else:
            served = collection_of(index_folder, held.version)
            dense = open_served_store(chosen.chroma_url, served, embeddings, len(rows))
        undo.pop_all()
    return KnowledgeIndex(rows, embeddings, dense, others, retrieve, held, judge, tie, reranker)


def _checked_manifest(index_folder: Path, embedding_folder: Path) -> Manifest:
    manifest = read_manifest(index_folder)
    if manifest is None or manifest.kind != INDEX_KIND:
        raise InputError(f"{index_folder}: no index; run `groundtune rag index` first")
    if missing := missing_files(index_folder, manifest):
        raise InputError(
            f"{index_folder}: not whole ({missing[0]} is gone or damaged); run `groundtune rag index` again"
        )
    if not (index_folder / CHROMA).is_dir():
        raise InputError(f"{index_folder}: not whole ({CHROMA} is gone); run `groundtune rag index` again")
    if manifest.inputs.get("embedding") != folder_digest(embedding_folder):
        raise InputError(
            f"{index_folder}: made with another embedding model ({manifest.facts.get('embedding')}) than "
            f"{embedding_folder}; run `groundtune rag index` again, or set models.embedding to that one"
        )
    return manifest
