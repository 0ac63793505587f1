"""The vectors in a Chroma server: the Rust one, a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from data.errors import InputError
from data.manifest import write_manifest
from data.records import Row, read_records, write_records
from rag.config import IndexSection
from rag.filters import RowFilter
from rag.index import build_index, collection_of
from rag.knowledge import open_index
from rag.served_store import VectorServerError
from rag.versions import current_version
from serving.engines.ports import free_ports
from tests.rag.rows import SALT


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A server's process and its URL."""
    (port,) = free_ports(1)
    folder = tmp_path_factory.mktemp("chroma")
    command = [str(Path(sys.executable).parent / "chroma"), "run", "--path", str(folder), "--port", str(port)]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 120
    while True:
        try:
            if httpx.get(f"{url}/api/v2/heartbeat").status_code == 200:
                break
        except httpx.TransportError:
            pass
        assert running.poll() is None and time.monotonic() < deadline, "the server does not come up"
        time.sleep(0.1)
    yield running, url
    running.terminate()
    running.wait(10)


@pytest.fixture(scope="module")
def server(process: tuple[subprocess.Popen[bytes], str]) -> str:
    return process[1]


def collections(server: str) -> str:
    return f"{server}/api/v2/tenants/default_tenant/databases/default_database/collections"


def names(server: str) -> set[str]:
    return {found["name"] for found in httpx.get(collections(server)).json()}


def changed(dataset: Path, number: int) -> None:
    rows = read_records(dataset / "rows.jsonl", Row)
    write_records(dataset / "rows.jsonl", [replace(rows[0], answer=f"第{number}种回答。"), *rows[1:]])
    write_manifest(dataset, "dataset", {"n": str(number)}, {"num_rows": len(rows)})


def test_a_search_in_the_server_finds_what_one_in_the_folder_finds(
    server: str, dataset: Path, tiny_embedding: Path, tmp_path: Path
) -> None:
    index = tmp_path / "found"
    served = IndexSection(chroma_url=server)
    assert build_index(dataset, tiny_embedding, index, IndexSection()).state == "written"
    with pytest.raises(InputError, match="has not this index's version"):
        open_index(index, tiny_embedding, index_settings=served)
    # The same version: it is only put there.
    assert build_index(dataset, tiny_embedding, index, served).state == "up to date"
    found = []
    for settings in (IndexSection(), served):
        opened = open_index(index, tiny_embedding, index_settings=settings)
        try:
            for only in (None, RowFilter(info_1=("高血压",))):
                hits = opened.search(SALT.question, only=only).hits
                found.append([(hit.row.row_id, round(hit.score, 4)) for hit in hits])
            documents = opened.vector_store().similarity_search(SALT.question, k=1)
            assert documents[0].metadata["answer"] == SALT.answer
        finally:
            opened.close()
    assert found[:2] == found[2:]


def test_versions_follow_the_rows_and_old_ones_go(
    server: str, dataset: Path, tiny_embedding: Path, tmp_path: Path
) -> None:
    index, settings = tmp_path / "follow", IndexSection(chroma_url=server, keep_versions=1)
    made = []
    for number in range(4):
        changed(dataset, number)
        build_index(dataset, tiny_embedding, index, settings)
        made.append(collection_of(index, current_version(index) or ""))
        assert made[-1] in names(server)
        opened = open_index(index, tiny_embedding, index_settings=settings)
        first = opened.search(f"第{number}种回答").hits
        opened.close()
        assert any(hit.row.answer == f"第{number}种回答。" for hit in first)
    mine = {name for name in names(server) if name.startswith(made[0].rpartition("-")[0])}
    # One older version is kept; the one that was dropped since goes with the next version.
    assert made[-1] in mine
    assert made[-2] in mine
    assert made[0] not in mine


def test_a_half_filled_collection_is_made_anew(
    server: str, dataset: Path, tiny_embedding: Path, tmp_path: Path
) -> None:
    index, settings = tmp_path / "half", IndexSection(chroma_url=server)
    build_index(dataset, tiny_embedding, index, settings)
    name = collection_of(index, current_version(index) or "")
    (found,) = [one for one in httpx.get(collections(server)).json() if one["name"] == name]
    httpx.post(f"{collections(server)}/{found['id']}/delete", json={"ids": [SALT.row_id]}).raise_for_status()
    with pytest.raises(InputError, match="rag index"):
        open_index(index, tiny_embedding, index_settings=settings)
    build_index(dataset, tiny_embedding, index, settings)
    opened = open_index(index, tiny_embedding, index_settings=settings)
    assert opened.search(SALT.question).hits[0].row.row_id == SALT.row_id
    opened.close()


def test_without_a_server_the_old_version_stays_current(
    dataset: Path, tiny_embedding: Path, tmp_path: Path
) -> None:
    index = tmp_path / "index"
    build_index(dataset, tiny_embedding, index, IndexSection())
    before = current_version(index)
    changed(dataset, 9)
    gone = IndexSection(chroma_url="http://127.0.0.1:9")
    with pytest.raises(VectorServerError, match=r"127\.0\.0\.1:9.*chroma run"):
        build_index(dataset, tiny_embedding, index, gone)
    assert current_version(index) == before
    with pytest.raises(VectorServerError):
        open_index(index, tiny_embedding, index_settings=gone)


def test_a_server_that_says_nothing_is_not_waited_for(
    process: tuple[subprocess.Popen[bytes], str],
    dataset: Path,
    tiny_embedding: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("_REACH_S", "_SEARCH_S", "_FILL_S"):
        monkeypatch.setattr(f"rag.served_store.{name}", 1.0)
    running, server = process
    index, settings = tmp_path / "silent", IndexSection(chroma_url=server)
    build_index(dataset, tiny_embedding, index, settings)
    opened = open_index(index, tiny_embedding, index_settings=settings)
    running.send_signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        with pytest.raises(VectorServerError, match="does not answer"):
            opened.search(SALT.question)
        with pytest.raises(VectorServerError, match=r"no Chroma server that can be used \(timed out\)"):
            open_index(index, tiny_embedding, index_settings=settings)
        assert time.monotonic() - began < 10
    finally:
        running.send_signal(signal.SIGCONT)
    assert opened.search(SALT.question).hits[0].row.row_id == SALT.row_id
    opened.close()
