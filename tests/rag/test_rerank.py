from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast
from typer.testing import CliRunner

from data.errors import InputError
from data.records import Row, read_records
from data.workspace import open_workspace
from rag.cli import app
from rag.config import IndexSection, RetrieveSection
from rag.evaluation import evaluate
from rag.index import build_index
from rag.knowledge import KnowledgeIndex, open_index
from rag.rerank import CrossEncoderReranker, open_reranker
from tests.rag.conftest import write_dataset
from tests.rag.rows import COLD, SALT, STOP


class Prefers:
    """Puts the rows of these ids first, in this order."""

    def __init__(self, *rows: Row) -> None:
        self._ids = [row.row_id for row in rows]
        self.seen: list[int] = []

    def scores(self, question: str, rows: Sequence[Row]) -> list[float]:
        self.seen.append(len(rows))
        return [-float(self._ids.index(row.row_id)) if row.row_id in self._ids else -9.0 for row in rows]


def write_cross_encoder(folder: Path, tiny_embedding: Path, num_labels: int = 1) -> Path:
    torch.manual_seed(3)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tiny_embedding)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
        num_labels=num_labels,
    )
    model = BertForSequenceClassification(config)
    with torch.no_grad():
        model.classifier.weight.normal_(std=1.0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def made(tmp_path: Path, tiny_embedding: Path) -> Path:
    build_index(write_dataset(tmp_path / "dataset"), tiny_embedding, tmp_path / "index", IndexSection())
    return tmp_path / "index"


def opened(index: Path, embedding: Path, reranker: object, **settings: object) -> KnowledgeIndex:
    return open_index(
        index,
        embedding,
        RetrieveSection.model_validate(settings),
        reranker=reranker,  # type: ignore[arg-type]
    )


def test_the_rerankers_order_is_the_searchs(made: Path, tiny_embedding: Path) -> None:
    plain = opened(made, tiny_embedding, None)
    before = plain.search(SALT.question)
    plain.close()
    assert before.hits[0].row.row_id == SALT.row_id
    index = opened(made, tiny_embedding, Prefers(COLD, STOP, SALT))
    found = index.search(SALT.question)
    assert [hit.row.row_id for hit in found.hits[:3]] == [COLD.row_id, STOP.row_id, SALT.row_id]
    assert [hit.ranks["rerank"] for hit in found.hits] == [1, 2, 3, 4]
    assert {hit.row.row_id: hit.score for hit in found.hits} == {h.row.row_id: h.score for h in before.hits}
    assert "rerank" in found.timings_ms
    assert "rerank" not in before.timings_ms
    assert index.stages[-1] == "rerank"
    index.close()


def test_rows_below_its_depth_stay_where_they_were(made: Path, tiny_embedding: Path) -> None:
    plain = opened(made, tiny_embedding, None)
    before = [hit.row.row_id for hit in plain.search(SALT.question).hits]
    plain.close()
    reranker = Prefers()
    index = opened(made, tiny_embedding, reranker, rerank_depth=2)
    after = index.search(SALT.question).hits
    index.close()
    assert [hit.row.row_id for hit in after][2:] == before[2:]
    assert reranker.seen == [2]
    assert "rerank" not in after[2].ranks


def test_a_row_is_quoted_word_for_word_only_if_it_stays_first(made: Path, tiny_embedding: Path) -> None:
    for reranker, expected in ((Prefers(SALT), True), (Prefers(COLD), False)):
        index = opened(made, tiny_embedding, reranker, verbatim=True)
        assert index.search(SALT.question).is_verbatim is expected
        index.close()


def test_evaluation_tells_the_reranked_order_as_a_stage(
    made: Path, tiny_embedding: Path, dataset: Path
) -> None:
    from data.records import HeldOutQuestion

    index = opened(made, tiny_embedding, Prefers(COLD, STOP, SALT))
    report = evaluate(index, read_records(dataset / "paraphrases.jsonl", HeldOutQuestion))
    index.close()
    assert report.stages["rerank"] == report.stages["fused"]
    assert report.stages["fused"]["hit@1"].mean == pytest.approx(1 / 3)


def test_a_cross_encoder_of_a_folder(made: Path, tiny_embedding: Path, tmp_path: Path) -> None:
    folder = write_cross_encoder(tmp_path / "cross", tiny_embedding)
    reranker = open_reranker(open_workspace(), RetrieveSection(rerank=str(folder)), "cpu")
    assert isinstance(reranker, CrossEncoderReranker)
    scores = dict(zip((SALT, STOP, COLD), reranker.scores("盐", [SALT, STOP, COLD]), strict=True))
    assert len(set(scores.values())) == 3
    index = opened(made, tiny_embedding, reranker)
    order = [hit.row for hit in index.search("盐").hits if hit.row in scores]
    index.close()
    assert order == sorted(scores, key=lambda row: -scores[row])


def test_what_is_no_cross_encoder_is_refused(tiny_embedding: Path, tmp_path: Path) -> None:
    two = write_cross_encoder(tmp_path / "two", tiny_embedding, num_labels=2)
    with pytest.raises(InputError, match="gives 2 scores"):
        CrossEncoderReranker(two)
    with pytest.raises(InputError, match="not fetched"):
        open_reranker(open_workspace(), RetrieveSection(rerank="hf:BAAI/bge-reranker-base"), "cpu")


def test_the_command_line_shows_its_rank(
    made: Path, tiny_embedding: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_cross_encoder(tmp_path / "cross", tiny_embedding)
    monkeypatch.setenv("GROUNDTUNE_VAR", str(tmp_path / "var"))
    (tmp_path / "var" / "index").mkdir(parents=True)
    made.rename(tmp_path / "var" / "index" / "quickstart")
    chosen = [f"models.embedding={tiny_embedding}", f"retrieve.rerank={folder}"]
    words = [word for setting in chosen for word in ("--set", setting)]
    told = CliRunner().invoke(app, ["search", "盐", "--json", *words])
    assert told.exit_code == 0, told.output
    record = json.loads([line for line in told.output.splitlines() if line.startswith("{")][-1])
    assert [hit["ranks"]["rerank"] for hit in record["hits"]] == [1, 2, 3, 4]
