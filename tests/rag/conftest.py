from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from data.manifest import write_manifest
from data.records import HeldOutQuestion, write_records
from rag.config import IndexSection
from rag.index import build_index
from rag.knowledge import KnowledgeIndex, open_index
from tests.rag.rows import COLD, ROWS, SALT, STOP
from tests.rag.tiny_embedding import write_tiny_embedding


def write_dataset(folder: Path) -> Path:
    """A dataset folder as `groundtune data prepare` leaves one."""
    write_records(folder / "rows.jsonl", ROWS)
    asked = {"每天吃盐不要超过多少": SALT, "降压药能停吗": STOP, "感冒怎么办好": COLD}
    questions = [HeldOutQuestion(text, row.row_id, row.answer, row.source) for text, row in asked.items()]
    write_records(folder / "paraphrases.jsonl", [*questions, HeldOutQuestion("哪家医院好", "", "", "x")])
    write_manifest(folder, "dataset", {}, {"num_rows": len(ROWS)})
    return folder


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "dataset")


@pytest.fixture(scope="session")
def tiny_embedding(tmp_path_factory: pytest.TempPathFactory) -> Path:
    texts = "".join(row.title + row.answer for row in ROWS)
    return write_tiny_embedding(tmp_path_factory.mktemp("models") / "tiny", texts)


@pytest.fixture(scope="module")
def knowledge(tmp_path_factory: pytest.TempPathFactory, tiny_embedding: Path) -> Iterator[KnowledgeIndex]:
    folder = tmp_path_factory.mktemp("knowledge")
    build_index(write_dataset(folder / "dataset"), tiny_embedding, folder / "index", IndexSection())
    opened = open_index(folder / "index", tiny_embedding)
    yield opened
    opened.close()
