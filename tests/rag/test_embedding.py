from __future__ import annotations

import dataclasses
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch

from data.errors import InputError
from rag.bert import BertShape, load_bert, read_shape
from rag.embedding import load_embeddings, load_transformer


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
    encoder = load_bert(tiny_embedding, _shape(tiny_embedding, query_prompt=""), torch.float32, 512)
    assert np.allclose(asked, encoder.encode(["query: 盐"], "query")[0], atol=1e-5)
    embeddings.close()


def _shape(folder: Path, **changes: Any) -> BertShape:
    shape = read_shape(folder)
    assert shape is not None
    return dataclasses.replace(shape, **changes)


@pytest.mark.parametrize("kind", ["query", "passage"])
def test_bert_gives_what_sentence_transformers_gives(
    kind: Literal["query", "passage"], tiny_embedding: Path
) -> None:
    texts = ["多喝温水，注意休息", "盐", " take 325 mg ", "盐" * 300, "?"]
    exact = load_transformer(tiny_embedding, torch.float32, "cpu", 512).encode(texts, kind)
    ours = load_bert(tiny_embedding, _shape(tiny_embedding), torch.float32, 512)
    np.testing.assert_allclose(ours.encode(texts, kind), exact, atol=1e-5)
    # A text's vector does not depend on those beside it.
    np.testing.assert_allclose(ours.encode(texts[1:2], kind), exact[1:2], atol=1e-5)
    half = load_bert(tiny_embedding, _shape(tiny_embedding), torch.bfloat16, 512).encode(texts, kind)
    assert (half * exact).sum(axis=1).min() > 0.999


def test_a_text_is_cut_at_the_limit(tiny_embedding: Path) -> None:
    short = load_bert(tiny_embedding, _shape(tiny_embedding), torch.float32, 16)
    longer, cut = (text + "盐" * 20 for text in ("a" * 30, "a" * 40))
    np.testing.assert_array_equal(short.encode([longer], "query"), short.encode([cut], "query"))
    assert _shape(tiny_embedding).max_tokens == 128


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("config.json", {"model_type": "xlm-roberta"}),
        ("config.json", {"hidden_act": "relu"}),
        ("1_Pooling/config.json", {"pooling_mode_cls_token": True}),
        ("sentence_bert_config.json", {"do_lower_case": True}),
        ("config_sentence_transformers.json", {"default_prompt_name": "query"}),
    ],
)
def test_a_model_of_another_kind_is_left_to_sentence_transformers(
    name: str, change: dict[str, object], tiny_embedding: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "other"
    shutil.copytree(tiny_embedding, folder)
    assert read_shape(folder) is not None
    known = json.loads((folder / name).read_text(encoding="utf-8"))
    (folder / name).write_text(json.dumps({**known, **change}), encoding="utf-8")
    assert read_shape(folder) is None


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
