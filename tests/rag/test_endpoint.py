"""An embedding server in place of a model: a real HTTP server on this machine that embeds with a tiny model."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from data.errors import InputError
from data.workspace import open_workspace
from rag.cli import app
from rag.config import IndexSection
from rag.embedding import SentenceEmbeddings, load_embeddings
from rag.endpoint import (
    FILE,
    EmbeddingServerError,
    EndpointEncoder,
    embedding_folder,
    read_endpoint,
    write_endpoint,
)
from rag.index import build_index
from rag.knowledge import open_index
from tests.rag.rows import SALT


@dataclass
class Server:
    """What it was asked, and what it does."""

    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    status: int = 200
    scale: float = 3.0
    cut: int | None = None
    is_shuffled: bool = True


@pytest.fixture
def server(tiny_embedding: Path) -> Iterator[Server]:
    model = load_embeddings(tiny_embedding, precision="float32")
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            state.asked.append(body)
            state.keys.append(self.headers["Authorization"])
            # Servers need not normalise, and need not keep the order.
            vectors = np.concatenate([_embedded(model, text) for text in body["input"]]) * state.scale
            data = [
                {"index": n, "embedding": [float(v) for v in vector[: state.cut]]}
                for n, vector in enumerate(vectors)
            ]
            content = json.dumps({"data": data[::-1] if state.is_shuffled else data}).encode()
            self.send_response(state.status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None: ...

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    state.url = f"http://127.0.0.1:{http.server_port}/v1"
    yield state
    http.shutdown()
    http.server_close()
    model.close()


def _embedded(model: SentenceEmbeddings, text: str) -> Any:
    """Embed as the model's own prompts for questions and rows have it, which the client's stand for here."""
    return model.embed([text.removeprefix("query: ")], "query" if text.startswith("query: ") else "passage")


def noted(server: Server, folder: Path, **more: Any) -> Path:
    write_endpoint(folder, {"url": server.url, "model": "tiny", **more})
    return folder


def test_an_index_made_through_a_server_finds_what_the_models_own_finds(
    server: Server, tiny_embedding: Path, dataset: Path, tmp_path: Path
) -> None:
    remote = noted(server, tmp_path / "embedder", query_prompt="query: ")
    settings = IndexSection(precision="float32")
    found = []
    for name, folder in (("local", tiny_embedding), ("remote", remote)):
        build_index(dataset, folder, tmp_path / name, settings)
        opened = open_index(tmp_path / name, folder, index_settings=settings)
        try:
            hits = opened.search(SALT.question).hits
        finally:
            opened.close()
        found.append([(hit.row.row_id, round(hit.score, 4)) for hit in hits])
    assert found[0] == found[1]
    num_asked = len(server.asked)
    build_index(dataset, remote, tmp_path / "remote", settings)
    assert len(server.asked) == num_asked, "nothing changed, nothing is embedded"


def test_vectors_are_normalised_and_in_order_with_prompts_and_key(
    server: Server, tiny_embedding: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBEDDER_KEY", "secret")
    folder = noted(
        server, tmp_path / "e", api_key_env="EMBEDDER_KEY", query_prompt="query: ", passage_prompt="row: "
    )
    endpoint = read_endpoint(folder)
    assert endpoint is not None
    assert "secret" not in (folder / FILE).read_text()
    texts = ["盐", "感冒怎么办", "a"]
    vectors = EndpointEncoder(endpoint).encode(texts, "query")
    assert server.asked[-1] == {
        "model": "tiny",
        "input": [f"query: {text}" for text in texts],
        "encoding_format": "float",
    }
    assert server.keys[-1] == "Bearer secret"
    local = load_embeddings(tiny_embedding, precision="float32")
    np.testing.assert_allclose(vectors, local.embed(texts, "query"), atol=1e-5)
    np.testing.assert_allclose(
        EndpointEncoder(endpoint).encode(texts, "passage"),
        local.embed([f"row: {text}" for text in texts], "passage"),
        atol=1e-5,
    )
    local.close()
    monkeypatch.delenv("EMBEDDER_KEY")
    with pytest.raises(EmbeddingServerError, match="EMBEDDER_KEY"):
        EndpointEncoder(endpoint).encode(texts, "query")


def test_what_the_server_does_wrong_is_told(server: Server, tmp_path: Path) -> None:
    endpoint = read_endpoint(noted(server, tmp_path / "e"))
    assert endpoint is not None
    encoder = EndpointEncoder(endpoint)
    server.status = 429
    with pytest.raises(EmbeddingServerError, match="answered 429"):
        encoder.encode(["a"], "query")
    server.status, server.cut = 200, 5
    with pytest.raises(EmbeddingServerError, match="vectors of 5 values, not 32"):
        encoder.encode(["a"], "query")
    gone = endpoint.model_copy(update={"url": "http://127.0.0.1:9/v1"})
    with pytest.raises(EmbeddingServerError, match="cannot be reached"):
        EndpointEncoder(gone).encode(["a"], "query")


def test_a_file_that_is_wrong_names_its_field(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('{"url": "ftp://x", "model": "m", "dims": 3}')
    with pytest.raises(InputError, match="url"):
        embedding_folder(open_workspace(), str(tmp_path))
    (tmp_path / FILE).write_text('{"url": "http://x/v1", "model": "m"}')
    with pytest.raises(InputError, match="dims"):
        read_endpoint(tmp_path)
    (tmp_path / FILE).write_text("{")
    with pytest.raises(InputError, match="not readable as JSON"):
        read_endpoint(tmp_path)


def test_a_folder_that_holds_a_model_is_left_alone(server: Server, tiny_embedding: Path) -> None:
    with pytest.raises(InputError, match="holds something else"):
        noted(server, tiny_embedding)
    assert not (tiny_embedding / FILE).exists()


def test_the_command_notes_it_and_the_reference_is_the_folder(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "embedder"
    told = CliRunner().invoke(app, ["endpoint", str(folder), "--url", server.url, "--model", "tiny"])
    assert told.exit_code == 0, told.output
    assert "32 dimensions" in told.output
    assert embedding_folder(open_workspace(), f"path:{folder}") == folder
    embeddings = load_embeddings(folder)
    assert isinstance(embeddings, SentenceEmbeddings)
    assert embeddings.dims == 32
    assert len(embeddings.embed_query("盐")) == 32
    embeddings.close()
