from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from data.errors import InputError
from data.manifest import missing_files
from data.records import Row, read_records, write_records
from rag.check import check_version
from rag.config import IndexSection
from rag.index import RowChanges, build_index
from rag.knowledge import open_index
from tests.rag.rows import COLD, ROWS, SALT, row
from tests.rag.tiny_embedding import write_tiny_embedding


def files_of(folder: Path) -> dict[str, tuple[int, int]]:
    """Each file's inode and time of change."""
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_an_index_says_what_it_is(dataset: Path, tiny_embedding: Path, tmp_path: Path) -> None:
    build = build_index(dataset, tiny_embedding, tmp_path / "index", IndexSection())
    manifest = build.manifest
    assert build.state == "written"
    assert build.changes == RowChanges(num_added=4, num_changed=0, num_removed=0, num_embedded=8)
    assert manifest.kind == "index"
    assert manifest.facts["num_rows"] == 4
    assert manifest.facts["embedding"] == "tiny"
    assert manifest.facts["dims"] == 32
    assert manifest.facts["cosine_spread"] > 0
    assert {"rows", "embedding", "index"} == set(manifest.inputs)
    assert read_records(tmp_path / "index" / "current" / "rows.jsonl", Row) == list(ROWS)


def test_equal_inputs_are_not_indexed_again(dataset: Path, tiny_embedding: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    build_index(dataset, tiny_embedding, index, IndexSection())
    before = files_of(index)
    again = build_index(
        dataset, tiny_embedding, index, IndexSection(threads=2, batch_size=3, keep_versions=0)
    )
    assert again.state == "up to date"
    assert files_of(index) == before


def test_searching_leaves_the_index_current(dataset: Path, tiny_embedding: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    build = build_index(dataset, tiny_embedding, index, IndexSection())
    for _ in range(2):
        opened = open_index(index, tiny_embedding)
        assert opened.search("盐", 1).hits
        opened.close()
    assert missing_files(index / "current", build.manifest) == []
    check_version(index / "current")
    assert build_index(dataset, tiny_embedding, index, IndexSection()).state == "up to date"


@pytest.mark.parametrize("change", ["rows", "settings", "embedding"])
def test_a_change_of_any_input_makes_a_new_index(
    change: str, dataset: Path, tiny_embedding: Path, tmp_path: Path
) -> None:
    index = tmp_path / "index"
    first = build_index(dataset, tiny_embedding, index, IndexSection())
    settings = IndexSection(views=("row",)) if change == "settings" else IndexSection()
    if change == "rows":
        write_records(dataset / "rows.jsonl", ROWS[:3])
    if change == "embedding":
        tiny_embedding = write_tiny_embedding(tmp_path / "other", "盐", seed=8)
    second = build_index(dataset, tiny_embedding, index, settings)
    assert second.state == "written"
    assert second.version != first.version
    opened = open_index(index, tiny_embedding)
    assert opened.num_rows == (3 if change == "rows" else 4)
    opened.close()


def test_an_edited_answer_replaces_the_old_one(dataset: Path, tiny_embedding: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    build_index(dataset, tiny_embedding, index, IndexSection())
    edited = row(SALT.info_1, SALT.info_2, SALT.question, "每天六克以内。")
    write_records(dataset / "rows.jsonl", [edited, *ROWS[1:]])
    build_index(dataset, tiny_embedding, index, IndexSection())
    opened = open_index(index, tiny_embedding)
    assert opened.num_rows == 4
    assert opened.row(SALT.row_id) == edited
    assert [
        document.metadata["answer"] for document in opened.vector_store().similarity_search("盐", k=9)
    ].count(edited.answer) == 1
    opened.close()


def test_what_a_killed_build_left_is_replaced(dataset: Path, tiny_embedding: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    versions = index / "versions"
    for name in (".0123456789ab.partial", ".abcdef012345.retired"):
        (versions / name / "chroma").mkdir(parents=True)
        (versions / name / "chroma" / "chroma.sqlite3").write_text("half")
    (index / ".current.1.partial").symlink_to("versions/nothing")
    build = build_index(dataset, tiny_embedding, index, IndexSection())
    assert [path.name for path in versions.iterdir()] == [build.version]
    assert not [path for path in index.iterdir() if path.name.endswith(".partial")]
    opened = open_index(index, tiny_embedding)
    assert opened.search(COLD.question, 1).hits
    opened.close()


def _open_under(folder: Path, descriptors: Path) -> list[str]:
    held = []
    for descriptor in descriptors.iterdir():
        try:
            held.append(str(descriptor.readlink()))
        except FileNotFoundError:
            continue
    return [name for name in held if str(folder) in name]


def test_the_build_leaves_no_file_open(dataset: Path, tiny_embedding: Path, tmp_path: Path) -> None:
    build_index(dataset, tiny_embedding, tmp_path / "index", IndexSection())
    descriptors = Path("/proc/self/fd")
    if not descriptors.is_dir():
        pytest.skip("no /proc here")
    # Chroma's own threads close its connections, a moment after close() returns.
    deadline = time.monotonic() + 10
    while held := _open_under(tmp_path, descriptors):
        assert time.monotonic() < deadline, held
        time.sleep(0.05)


def test_blank_fields_are_indexed(tiny_embedding: Path, tmp_path: Path) -> None:
    write_records(tmp_path / "dataset" / "rows.jsonl", [row("", "", "盐", "五克"), row("", "", "药", "不停")])
    build_index(tmp_path / "dataset", tiny_embedding, tmp_path / "index", IndexSection())
    opened = open_index(tmp_path / "index", tiny_embedding)
    assert opened.search("盐", 1).hits[0].row.question == "盐"
    opened.close()


def test_one_row_is_enough(tiny_embedding: Path, tmp_path: Path) -> None:
    write_records(tmp_path / "dataset" / "rows.jsonl", [SALT])
    build = build_index(tmp_path / "dataset", tiny_embedding, tmp_path / "index", IndexSection())
    assert build.manifest.facts["cosine_spread"] == 0.0
    opened = open_index(tmp_path / "index", tiny_embedding)
    assert [hit.row for hit in opened.search("随便问问", 3).hits] == [SALT]
    opened.close()


def test_faults_of_the_inputs_name_the_fix(tiny_embedding: Path, dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="data prepare"):
        build_index(tmp_path / "nothing", tiny_embedding, tmp_path / "index", IndexSection())
    with pytest.raises(InputError, match="models fetch"):
        build_index(dataset, tmp_path / "nothing", tmp_path / "index", IndexSection())
    (dataset / "rows.jsonl").write_text("")
    with pytest.raises(InputError, match="no rows"):
        build_index(dataset, tiny_embedding, tmp_path / "index", IndexSection())
    assert not (tmp_path / "index").exists()


def test_the_version_does_not_depend_on_when_or_where(
    dataset: Path, tiny_embedding: Path, tmp_path: Path
) -> None:
    builds = [
        build_index(dataset, tiny_embedding, tmp_path / name, IndexSection()) for name in ("one", "two")
    ]
    opened = open_index(tmp_path / "one", tiny_embedding)
    assert opened.version == builds[0].version == builds[1].version
    opened.close()
    assert len(opened.version) == 12
    assert str(tmp_path) not in json.dumps(dict(builds[0].manifest.facts))
