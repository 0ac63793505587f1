from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from tokenizers import Tokenizer

from data.errors import InputError
from data.models.folder import check_model_folder
from data.models.gguf_file import GgufFile
from data.models.gguf_folder import write_gguf_folder
from tests.data.models.tiny_gguf import (
    HEADS,
    HIDDEN,
    KV_HEADS,
    TEMPLATE,
    TOKENS,
    Tensors,
    as_stored,
    random_tensors,
    write_tiny_gguf,
)


def _convert(folder: Path, tensors: Tensors, architecture: str = "qwen2", flavour: str = "qwen2") -> Path:
    path = write_tiny_gguf(folder / "tiny.gguf", tensors, architecture, flavour)
    out = folder / "out"
    out.mkdir()
    write_gguf_folder(path, out)
    return out


def _read(folder: Path) -> Tensors:
    with safe_open(folder / "model.safetensors", "pt") as file:
        return {name: file.get_tensor(name).float().numpy() for name in file.keys()}  # noqa: SIM118


def _assert_rounded(found: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found, expected, rtol=2**-8)


def test_tensors_get_transformers_names_and_the_stored_values(tmp_path: Path) -> None:
    tensors = random_tensors()
    out = _convert(tmp_path, tensors)
    check_model_folder(out)
    found = _read(out)
    assert len(found) == len(tensors)
    pairs = {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
        "model.layers.1.self_attn.q_proj.weight": "blk.1.attn_q.weight",
        "model.layers.1.self_attn.k_proj.bias": "blk.1.attn_k.bias",
        "model.layers.0.mlp.down_proj.weight": "blk.0.ffn_down.weight",
        "model.layers.0.post_attention_layernorm.weight": "blk.0.ffn_norm.weight",
    }
    for name, source in pairs.items():
        _assert_rounded(found[name], as_stored(tensors[source]))


def test_config_is_in_the_words_that_old_and_new_readers_share(tmp_path: Path) -> None:
    out = _convert(tmp_path, random_tensors())
    config = json.loads((out / "config.json").read_text())
    assert config["architectures"] == ["Qwen2ForCausalLM"]
    assert config["rope_theta"] == 1000000.0
    assert config["rope_scaling"] is None
    assert config["rms_norm_eps"] == 1e-06
    assert config["torch_dtype"] == "bfloat16"
    assert config["vocab_size"] == len(TOKENS)
    assert (config["num_attention_heads"], config["num_key_value_heads"]) == (HEADS, KV_HEADS)
    assert config["tie_word_embeddings"] is True
    assert json.loads((out / "generation_config.json").read_text()) == {
        "bos_token_id": TOKENS.index("<|endoftext|>"),
        "eos_token_id": [TOKENS.index("<|im_end|>"), TOKENS.index("<|endoftext|>")],
        "pad_token_id": TOKENS.index("<|endoftext|>"),
    }


def test_llama_rows_of_q_and_k_leave_their_pairs(tmp_path: Path) -> None:
    wanted = random_tensors(bias=False)
    size = HIDDEN // HEADS
    paired = dict(wanted)
    for name, heads in (("attn_q", HEADS), ("attn_k", KV_HEADS)):
        for layer in range(2):
            key = f"blk.{layer}.{name}.weight"
            # llama.cpp's converter: (heads, 2, size/2, in) -> (heads, size/2, 2, in)
            paired[key] = (
                wanted[key].reshape(heads, 2, size // 2, -1).swapaxes(1, 2).reshape(wanted[key].shape)
            )
    found = _read(_convert(tmp_path, paired, "llama", "smollm"))
    for name in ("q", "k", "v"):
        expected = as_stored(wanted[f"blk.1.attn_{name}.weight"])
        _assert_rounded(found[f"model.layers.1.self_attn.{name}_proj.weight"], expected)


def test_a_finer_copy_of_tied_embeddings_serves_for_both(tmp_path: Path) -> None:
    tensors = random_tensors()
    finer = tensors["token_embd.weight"] * 1.01
    found = _read(_convert(tmp_path, {**tensors, "output.weight": finer}))
    assert "lm_head.weight" not in found
    _assert_rounded(found["model.embed_tokens.weight"], as_stored(finer))


def test_a_head_of_its_own_is_kept(tmp_path: Path) -> None:
    tensors = random_tensors()
    head = random_tensors(seed=1)["token_embd.weight"]
    out = _convert(tmp_path, {**tensors, "output.weight": head})
    found = _read(out)
    _assert_rounded(found["lm_head.weight"], as_stored(head))
    _assert_rounded(found["model.embed_tokens.weight"], as_stored(tensors["token_embd.weight"]))
    assert json.loads((out / "config.json").read_text())["tie_word_embeddings"] is False


def test_tokenizer_keeps_ids_merges_and_special_tokens(tmp_path: Path) -> None:
    out = _convert(tmp_path, random_tensors())
    tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
    encoded = tokenizer.encode("<|im_start|>hel <tool> hh<|im_end|>")
    assert encoded.tokens == ["<|im_start|>", "hel", "Ġ", "<tool>", "Ġh", "h", "<|im_end|>"]
    assert encoded.ids == [TOKENS.index(token) for token in encoded.tokens]
    assert tokenizer.decode(tokenizer.encode("你好 e\u0301").ids) == "你好 é"
    assert tokenizer.decode(tokenizer.encode("<|im_start|>a<tool>").ids) == "a<tool>"
    assert tokenizer.token_to_id("[PAD263]") is None
    config = json.loads((out / "tokenizer_config.json").read_text())
    assert config["tokenizer_class"] == "Qwen2Tokenizer"
    assert config["chat_template"] == TEMPLATE
    assert (config["eos_token"], config["pad_token"]) == ("<|im_end|>", "<|endoftext|>")
    assert config["model_max_length"] == 128
    assert json.loads((out / "vocab.json").read_text())["hel"] == TOKENS.index("hel")
    assert (out / "merges.txt").read_text(encoding="utf-8").splitlines()[1:] == ["h e", "he l", "Ġ h"]


def test_smollm_splits_digits(tmp_path: Path) -> None:
    out = _convert(tmp_path, random_tensors(bias=False), "llama", "smollm")
    tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
    assert tokenizer.encode("a12").tokens == ["a", "1", "2"]


def test_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"architecture 'mamba' is not known; known: qwen2, llama"):
        _convert(tmp_path, random_tensors(), "mamba")


def test_refuses_an_unknown_pre_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="pre-tokenizer 'deepseek-llm' is not known"):
        _convert(tmp_path, random_tensors(), flavour="deepseek-llm")


def test_reads_another_alignment(tmp_path: Path) -> None:
    tensors = random_tensors()
    file = GgufFile(write_tiny_gguf(tmp_path / "a.gguf", tensors, alignment=128))
    norm = file.tensors["output_norm.weight"]
    np.testing.assert_array_equal(norm.rows(3, 9), tensors["output_norm.weight"][3:9])
    embedding = file.tensors["token_embd.weight"]
    np.testing.assert_array_equal(embedding.rows(5, 8), as_stored(tensors["token_embd.weight"])[5:8])


@pytest.mark.parametrize("keep", [0.99, 0.3, 0.0])
def test_a_file_cut_short_is_an_input_error(tmp_path: Path, keep: float) -> None:
    path = write_tiny_gguf(tmp_path / "tiny.gguf", random_tensors())
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(InputError, match="not a readable GGUF file"):
        GgufFile(path)


def test_another_kind_of_file_is_an_input_error(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(b"PK\x03\x04" * 10)
    with pytest.raises(InputError, match="not a readable GGUF file"):
        GgufFile(path)
