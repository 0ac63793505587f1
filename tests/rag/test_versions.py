from __future__ import annotations

import multiprocessing
import random
import threading
import time
from pathlib import Path

import pytest

from data.errors import InputError
from data.records import Row, write_records
from rag.check import check_version
from rag.config import IndexSection
from rag.index import build_index
from rag.knowledge import KnowledgeIndex, open_index
from rag.versions import current_version, hold_current, list_versions, roll_back, version_folder
from tests.rag.rows import row

_NUM_ROWS = 60
_NUM_KILLS = 20


def rows_of(generation: int) -> list[Row]:
    """Rows whose answers all say which generation they are of; a few are added and dropped from one to the next."""
    kept = [number for number in range(_NUM_ROWS) if number % 7 != generation % 7]
    return [
        row(f"病{n}", "饮食", f"第{n}种病能吃盐吗", f"第{generation}版的回答，关于第{n}种病。") for n in kept
    ]


def build(index: Path, embedding: Path, generation: int) -> None:
    """Index that generation: what `groundtune rag index` does after `data prepare`."""
    dataset = index.with_name(f"dataset-{generation}")
    write_records(dataset / "rows.jsonl", rows_of(generation))
    build_index(dataset, embedding, index, IndexSection(keep_versions=2))


class Reader(threading.Thread):
    """Searches without a pause, always in the current version, and notes what is wrong."""

    def __init__(self, index: Path, embedding: Path) -> None:
        super().__init__()
        self.faults: list[str] = []
        self.generations: set[str] = set()
        self.num_searches = 0
        self._index, self._embedding = index, embedding
        self._stop_asked = threading.Event()

    def run(self) -> None:
        opened = open_index(self._index, self._embedding)
        try:
            while not self._stop_asked.is_set():
                if current_version(self._index) != opened.version:
                    newer = open_index(self._index, self._embedding, share_with=opened)
                    opened.close()
                    opened = newer
                self._search(opened)
        except Exception as error:
            self.faults.append(repr(error))
        finally:
            opened.close()

    def stop(self) -> None:
        self._stop_asked.set()
        self.join()

    def _search(self, opened: KnowledgeIndex) -> None:
        answers = [hit.row.answer for hit in opened.search("第8种病能吃盐吗", 5).hits]
        answers += [
            document.metadata["answer"] for document in opened.vector_store().similarity_search("盐", k=5)
        ]
        found = {answer.partition("版")[0] for answer in answers}
        if len(found) != 1 or len(answers) != 10:
            self.faults.append(f"{opened.version}: {answers}")
        self.generations |= found
        self.num_searches += 1


def test_a_reader_never_notices_that_builds_are_killed(tiny_embedding: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    started = time.monotonic()
    build(index, tiny_embedding, 0)
    usual_s = time.monotonic() - started
    # Its children have everything imported, as one that is killed in the middle of its work has.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["rag.index", "rag.embedder", "rag.store", "rag.calibration"])
    reader = Reader(index, tiny_embedding)
    reader.start()
    chance = random.Random(5)
    num_killed = 0
    try:
        for generation in range(1, 4 * _NUM_KILLS):
            child = context.Process(target=build, args=(index, tiny_embedding, generation))
            child.start()
            child.join(chance.uniform(0.1, 1.2) * usual_s)
            num_killed += child.is_alive()
            child.kill()
            child.join()
            if num_killed == _NUM_KILLS:
                break
        build(index, tiny_embedding, 1000)
        searches = reader.num_searches
        while reader.num_searches < searches + 3 and reader.is_alive():
            time.sleep(0.01)
    finally:
        reader.stop()
    assert num_killed == _NUM_KILLS
    assert reader.faults == []
    assert "第1000" in reader.generations
    current = current_version(index)
    assert current is not None
    check_version(version_folder(index, current))
    opened = open_index(index, tiny_embedding)
    assert list(opened.rows) == rows_of(1000)
    assert len(opened.vector_store().similarity_search("盐", k=2 * _NUM_ROWS)) == opened.num_rows
    opened.close()
    assert not [path.name for path in (index / "versions").iterdir() if path.name.startswith(".")]
    assert len(list_versions(index)) <= 3


def test_rolling_back_goes_to_the_version_before(tiny_embedding: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    for generation in (1, 2, 3):
        build(index, tiny_embedding, generation)
    third, second, first = (info.version for info in list_versions(index))
    assert current_version(index) == third
    assert roll_back(index).version == second
    assert roll_back(index).version == first
    opened = open_index(index, tiny_embedding)
    assert list(opened.rows) == rows_of(1)
    opened.close()
    with pytest.raises(InputError, match="no version older"):
        roll_back(index)
    with pytest.raises(InputError, match=f"no version 'x'; there are .*{third}"):
        roll_back(index, "x")
    roll_back(index, third)
    (version_folder(index, second) / "rows.jsonl").write_text("")
    with pytest.raises(InputError, match="not whole"):
        roll_back(index, second)
    assert current_version(index) == third


def test_a_version_in_use_stays(tiny_embedding: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    build(index, tiny_embedding, 1)
    held = hold_current(index)
    for generation in (2, 3, 4, 5):
        build(index, tiny_embedding, generation)
    assert (held.folder / "rows.jsonl").is_file()
    held.release()
    build(index, tiny_embedding, 6)
    assert not held.folder.exists()
