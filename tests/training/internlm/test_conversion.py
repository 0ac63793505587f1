"""A converted InternLM v1 computes and splits what the original does, and none of its folder's code is run."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import sentencepiece
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from data.errors import InputError
from data.models.folder import check_model_folder
from tests.training.internlm.internlm_folder import TEXTS, internlm_logits, write_internlm
from training.internlm.conversion import convert_internlm


@pytest.mark.parametrize("rotary", [None, "dynamic"])
def test_logits_are_those_of_a_plain_forward_pass(tmp_path: Path, rotary: str | None) -> None:
    weights = write_internlm(tmp_path / "internlm", rotary=rotary)
    _, fresh = convert_internlm(tmp_path / "internlm", tmp_path / "llama", max_shard_size_bytes=60_000)
    assert fresh
    check_model_folder(tmp_path / "llama")
    assert len(list((tmp_path / "llama").glob("*.safetensors"))) > 1
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "llama", dtype=torch.float32)
    ids = torch.arange(5, 95) % 400
    with torch.no_grad():
        assert torch.allclose(model(ids[None]).logits[0], internlm_logits(weights, ids), atol=2e-4)


def test_weights_keep_their_bits_and_code_stays_behind(tmp_path: Path) -> None:
    weights = write_internlm(tmp_path / "internlm")
    convert_internlm(tmp_path / "internlm", tmp_path / "llama")
    state = AutoModelForCausalLM.from_pretrained(tmp_path / "llama").state_dict()
    assert state.keys() == weights.keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in weights.items())
    assert not list((tmp_path / "llama").glob("*.py"))
    assert "auto_map" not in json.loads((tmp_path / "llama" / "config.json").read_text())
    assert convert_internlm(tmp_path / "internlm", tmp_path / "llama")[1] is False


def test_token_ids_are_those_of_sentencepiece(tmp_path: Path) -> None:
    write_internlm(tmp_path / "internlm")
    convert_internlm(tmp_path / "internlm", tmp_path / "llama")
    own = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "internlm" / "tokenizer.model"))
    fast = AutoTokenizer.from_pretrained(tmp_path / "llama")
    texts = [
        *TEXTS,
        "未见过的字：龘 and ünïcode 🙂",
        "two  spaces inside ",
        "line\nbreak\t tab",
        "<|User|>:你好<eoh>\n<|Bot|>:好<eoa>\n",
    ]
    for text in texts:
        ids = fast.encode(text, add_special_tokens=False)
        assert ids == own.encode(text), text
        assert fast.decode(ids) == text
    assert fast.encode("盐")[0] == own.bos_id()


def test_the_template_is_internlm_chats(tmp_path: Path) -> None:
    write_internlm(tmp_path / "internlm")
    convert_internlm(tmp_path / "internlm", tmp_path / "llama")
    fast = AutoTokenizer.from_pretrained(tmp_path / "llama")
    turns = [{"role": "system", "content": "S"}, {"role": "user", "content": "Q"}]
    text = fast.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    said = "<|System|>:S\n<|User|>:Q<eoh>\n<|Bot|>:"
    assert text == f"<s> {said}"
    own = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "internlm" / "tokenizer.model"))
    assert fast.encode(text, add_special_tokens=False) == [own.bos_id(), *own.encode(said)]
    turns.append({"role": "assistant", "content": "A"})
    assert fast.apply_chat_template(turns, tokenize=False) == text + "A<eoa>\n"
    stops = json.loads((tmp_path / "llama" / "generation_config.json").read_text())["eos_token_id"]
    assert stops == [2, fast.convert_tokens_to_ids("<eoa>")]


class _Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> object:
        return os.mkdir, (str(self.path),)


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    write_internlm(tmp_path / "internlm", shards=1)
    torch.save(
        {"model.norm.weight": _Malicious(tmp_path / "ran")}, next((tmp_path / "internlm").glob("*.bin"))
    )
    with pytest.raises(InputError, match=r"posix\.mkdir.*nothing was run"):
        convert_internlm(tmp_path / "internlm", tmp_path / "llama")
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "llama").exists()


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    write_internlm(tmp_path / "internlm", shards=1)
    file = next((tmp_path / "internlm").glob("*.bin"))
    state = torch.load(file, weights_only=True)
    del state["model.layers.1.self_attn.q_proj.bias"]
    torch.save(state, file)
    with pytest.raises(InputError, match=r"layers\.1\.self_attn\.q_proj\.bias is missing"):
        convert_internlm(tmp_path / "internlm", tmp_path / "llama")
