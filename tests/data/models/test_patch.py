from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from data.errors import InputError
from data.models.catalogue import CATALOGUE, DEFAULT_EMBEDDING, PLAIN_EMBEDDING
from data.models.e5_folder import write_e5_folder
from data.models.patch import FOLDER
from tests.data.models.tiny_e5 import FFN, HIDDEN, random_tensors, write_tiny_e5

_UP = "encoder.layer.0.intermediate.dense.weight"
_BIAS = "encoder.layer.0.attention.self.query.bias"


def _written(tmp_path: Path, patch: Path | None) -> dict[str, np.ndarray]:
    out = tmp_path / ("patched" if patch else "plain")
    out.mkdir()
    write_e5_folder(write_tiny_e5(tmp_path / "e5.bin", random_tensors()), out, patch=patch)
    with safe_open(out / "model.safetensors", "pt") as file:
        return {name: file.get_tensor(name).float().numpy() for name in file.keys()}  # noqa: SIM118


def test_a_patch_adds_a_product_to_a_matrix_and_a_vector_to_a_vector(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    left = random.standard_normal((FFN, 3)).astype(np.float16)
    right = random.standard_normal((3, HIDDEN)).astype(np.float16)
    added = random.standard_normal(HIDDEN).astype(np.float16)
    patch = tmp_path / "p.safetensors"
    save_file({f"{_UP}.left": left, f"{_UP}.right": right, f"{_BIAS}.added": added}, patch)
    before, after = _written(tmp_path, None), _written(tmp_path, patch)
    expected = before[_UP] + left.astype(np.float32) @ right.astype(np.float32)
    np.testing.assert_allclose(after[_UP], expected, rtol=2**-7, atol=0.05)
    np.testing.assert_allclose(after[_BIAS], before[_BIAS] + added.astype(np.float32), rtol=2**-7, atol=0.05)
    assert np.abs(after[_UP] - before[_UP]).max() > 1
    others = set(before) - {_UP, _BIAS}
    assert all(np.array_equal(before[name], after[name]) for name in others)


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({f"{_BIAS}.added": np.zeros(HIDDEN + 1, np.float16)}, "another shape"),
        ({f"{_UP}.left": np.zeros((FFN, 2), np.float16)}, "another shape"),
        ({"encoder.layer.9.output.dense.bias.added": np.zeros(HIDDEN, np.float16)}, r"encoder\.layer\.9"),
    ],
)
def test_a_patch_of_another_model_is_an_input_error(
    tmp_path: Path, tensors: dict[str, np.ndarray], said: str
) -> None:
    patch = tmp_path / "p.safetensors"
    save_file(tensors, patch)
    with pytest.raises(InputError, match=said):
        _written(tmp_path, patch)


def test_a_patch_that_cannot_be_read_is_an_input_error(tmp_path: Path) -> None:
    patch = tmp_path / "p.safetensors"
    patch.write_bytes(b"no patch")
    with pytest.raises(InputError, match="not a readable patch"):
        _written(tmp_path, patch)


def test_the_default_embedding_is_the_plain_one_and_a_patch_that_says_where_it_comes_from() -> None:
    default, plain = CATALOGUE[DEFAULT_EMBEDDING], CATALOGUE[PLAIN_EMBEDDING]
    assert (default.source, plain.patch) == (plain.source, None)
    assert default.patch is not None
    with safe_open(FOLDER / default.patch, "np") as file:
        made = file.metadata()["made"]
        assert '"rows": "1001 to 2500"' in made
        assert any(name.startswith("encoder.layer.11.") for name in file.keys())  # noqa: SIM118


@pytest.mark.integration
def test_the_default_embedding_finds_what_the_plain_one_finds_and_differs_from_it(
    fetched_models: Path,
) -> None:
    from rag.embedding import load_embeddings

    texts = ["高血压患者能不能吃柚子？", "最近老是口渴，一晚上起来好几回，是不是血糖有问题", "怎么重置密码"]
    vectors = []
    for name in (DEFAULT_EMBEDDING, PLAIN_EMBEDDING):
        embeddings = load_embeddings(fetched_models / name, precision="float32")
        vectors.append(embeddings.embed(texts, "query"))
        embeddings.close()
    alike = np.sum(vectors[0] * vectors[1], axis=1)
    assert alike.min() > 0.8
    assert alike.max() < 0.9999
