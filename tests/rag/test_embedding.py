from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from data.errors import InputError
from rag.embedding import load_embeddings


def test_vectors_are_normalised_and_in_the_order_of_the_texts(tiny_embedding: Path) -> None:
    embeddings = load_embeddings(tiny_embedding, batch_size=2)
    texts = ["多喝温水，注意休息", "盐", "take 325 mg", "盐", "a"]
    done: list[int] = []
    vectors = embeddings.embed(texts, "passage", done.append)
    assert vectors.shape == (5, embeddings.dims) == (5, 32)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    assert np.allclose(vectors[1], vectors[3], atol=1e-2)
    assert np.allclose(vectors[0], embeddings.embed_documents([texts[0]])[0], atol=1e-2)
    assert done == [2, 4, 5]
    embeddings.close()


def test_the_prompts_of_the_model_are_used(tiny_embedding: Path) -> None:
    embeddings = load_embeddings(tiny_embedding, precision="float32")
    asked = np.array(embeddings.embed_query("盐"))
    assert not np.allclose(asked, embeddings.embed(["盐"], "passage")[0], atol=1e-3)
    # The tokenizer keeps prompts apart from nothing: "query: " is plain text in front.
    plain = load_embeddings(tiny_embedding, precision="float32")._model.encode("query: 盐")
    assert np.allclose(asked, plain, atol=1e-5)
    embeddings.close()


def test_half_precision_gives_nearly_the_same(tiny_embedding: Path) -> None:
    exact = load_embeddings(tiny_embedding, precision="float32").embed(["多喝温水"], "query")
    half = load_embeddings(tiny_embedding, precision="bfloat16").embed(["多喝温水"], "query")
    assert float((exact @ half.T)[0, 0]) > 0.995
    assert abs(float(np.linalg.norm(half)) - 1.0) < 1e-5


def test_one_embedding_is_used_from_many_threads(tiny_embedding: Path) -> None:
    embeddings = load_embeddings(tiny_embedding, precision="float32", num_threads=1)
    texts = [f"多喝温水 {number}" for number in range(40)]
    alone = [embeddings.embed_query(text) for text in texts]
    with ThreadPoolExecutor(8) as pool:
        assert np.allclose(list(pool.map(embeddings.embed_query, texts)), alone, atol=1e-6)
    embeddings.close()


def test_a_caller_keeps_its_own_number_of_threads(tiny_embedding: Path) -> None:
    before = torch.get_num_threads()
    embeddings = load_embeddings(tiny_embedding, num_threads=1)
    embeddings.embed_query("盐")
    assert embeddings._worker.submit(torch.get_num_threads).result() == 1
    assert torch.get_num_threads() == before
    embeddings.close()


def test_nothing_to_embed_gives_no_vectors(tiny_embedding: Path) -> None:
    assert load_embeddings(tiny_embedding).embed([], "query").shape == (0, 32)


def test_a_folder_without_a_model_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no sentence-transformers model .*models fetch"):
        load_embeddings(tmp_path)


def test_pickled_weights_are_not_loaded(tiny_embedding: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pickled"
    folder.mkdir()
    for path in tiny_embedding.iterdir():
        if path.is_file() and path.name != "model.safetensors":
            (folder / path.name).write_bytes(path.read_bytes())
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(InputError, match="cannot be loaded"):
        load_embeddings(folder)
