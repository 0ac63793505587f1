"""GGUF files of tiny models, read back by the project's own reader, and of the default model in llama.cpp."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGUFReader
from transformers import AutoModelForCausalLM, AutoTokenizer

from data.errors import GroundTuneError, InputError
from data.models.gguf_file import GgufFile
from data.models.gguf_folder import _halves_order
from tests.training.shapes import write_base
from training.awq_export import awq_command, export_awq
from training.gguf_export import export_gguf


@pytest.mark.parametrize(("shape", "tied"), [("qwen2", True), ("llama", False)])
def test_every_tensor_is_there_with_its_values(tmp_path: Path, shape: str, tied: bool) -> None:
    base = write_base(tmp_path / "base", shape, tied=tied, dtype=torch.bfloat16)
    size = export_gguf(base, tmp_path / "m.gguf", "f16")
    assert size == (tmp_path / "m.gguf").stat().st_size
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "m.gguf"]
    state = AutoModelForCausalLM.from_pretrained(base, dtype="auto").state_dict()
    file = GgufFile(tmp_path / "m.gguf")
    assert ("output.weight" in file.tensors) == (not tied)
    assert len(file.tensors) == len(state) - tied
    up = file.tensors["blk.1.ffn_up.weight"]
    assert np.allclose(up.rows(0, up.shape[0]), state["model.layers.1.mlp.up_proj.weight"].float(), atol=1e-4)
    query = file.tensors["blk.0.attn_k.weight"].rows(0, 16)
    expected = state["model.layers.0.self_attn.k_proj.weight"].float().numpy()
    if shape == "llama":
        # The reader of GGUF folders, which was made against published files, undoes the order of rows.
        query = query[_halves_order(16, 2)]
    assert np.allclose(query, expected, atol=1e-4)
    tokenizer = AutoTokenizer.from_pretrained(base)
    assert file.required("tokenizer.chat_template") == tokenizer.chat_template
    assert file.required("tokenizer.ggml.tokens")[tokenizer.eos_token_id] == "<|im_end|>"


@pytest.mark.parametrize(("kind", "error"), [("q8_0", 0.002), ("q4_0", 0.03)])
def test_quantised_matrices_stay_near(tmp_path: Path, kind: str, error: float) -> None:
    base = write_base(tmp_path / "base", "qwen2", tied=True, dtype=torch.bfloat16)
    export_gguf(base, tmp_path / "m.gguf", kind)  # type: ignore[arg-type]
    expected = AutoModelForCausalLM.from_pretrained(base, dtype="auto").state_dict()
    up = GgufFile(tmp_path / "m.gguf").tensors["blk.1.ffn_up.weight"]
    assert up.kind.name.lower() == kind
    off = np.abs(up.rows(0, up.shape[0]) - expected["model.layers.1.mlp.up_proj.weight"].float().numpy())
    assert 0 < off.max() < error
    assert {item.tensor_type.name for item in GGUFReader(tmp_path / "m.gguf").tensors} == {
        "F32",
        kind.upper(),
    }


def test_what_cannot_be_exported_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", "qwen2", tied=True, dtype=torch.bfloat16)
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"model_type": "gemma"}))
    with pytest.raises(InputError, match="a gemma model; GGUF export knows llama and qwen2"):
        export_gguf(base, tmp_path / "m.gguf", "f16")
    (base / "config.json").write_text(json.dumps(config))
    tokenizer = json.loads((base / "tokenizer.json").read_text())
    tokenizer["pre_tokenizer"] = {"type": "Metaspace"}
    (base / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(InputError, match="not a byte-level BPE tokenizer"):
        export_gguf(base, tmp_path / "m.gguf", "f16")
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


def test_awq_is_lmdeploys_own_command(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", "qwen2", tied=True, dtype=torch.bfloat16)
    with pytest.raises(InputError, match="no such interpreter"):
        export_awq(base, tmp_path / "awq", tmp_path / "python")
    (tmp_path / "python").touch()
    asked: list[list[str]] = []

    def failing(command: object) -> int:
        asked.append(list(command))  # type: ignore[call-overload]
        return 1

    with pytest.raises(GroundTuneError, match="status 1; it needs a CUDA device"):
        export_awq(base, tmp_path / "awq", tmp_path / "python", failing)
    assert asked == [awq_command(tmp_path / "python", base, tmp_path / ".awq.partial")]
    assert not (tmp_path / "awq").exists()


SUBJECTS = ("高血压", "糖尿病", "感冒", "失眠", "哮喘", "痛风", "贫血", "胃炎", "肺炎", "骨折")
_LLAMA_CPP = """
import json, sys
import xllamacpp as x
given = json.load(open(sys.argv[1]))
params = x.CommonParams()
params.model.path = given["model"]
params.n_ctx, params.n_predict = 2048, 20
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 2
server = x.Server(params)
answers = []
for ids in given["prompts"]:
    asked = {"prompt": ids, "max_tokens": 20, "temperature": 0, "top_k": 1, "logprobs": 1, "cache_prompt": False}
    said = server.handle_completions(asked)["choices"][0]["logprobs"]["content"]
    answers.append([token["id"] for token in said])
json.dump(answers, open(sys.argv[2], "w"))
"""


@pytest.mark.integration
@pytest.mark.slow
def test_llama_cpp_says_what_transformers_says(tmp_path: Path, fetched_models: Path) -> None:
    """The first 20 greedy tokens, for 9 of 10 prompts; $GROUNDTUNE_LLAMACPP is a python that has xllamacpp."""
    python = os.environ.get("GROUNDTUNE_LLAMACPP", "")
    if not python:
        pytest.skip("GROUNDTUNE_LLAMACPP names no python with xllamacpp")
    folder = Path(os.environ.get("GROUNDTUNE_GGUF_MODEL", fetched_models / "qwen2.5-coder-0.5b-instruct"))
    export_gguf(folder, tmp_path / "m.gguf", "f16")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    # float32 on both sides of the comparison: what f16 rounds is then the only difference.
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.generation_config.repetition_penalty = None
    prompts, expected = [], []
    for number, subject in enumerate(
        ("高血压", "糖尿病", "感冒", "失眠", "哮喘", "痛风", "贫血", "胃炎", "肺炎", "骨折")
    ):
        turns = [{"role": "user", "content": f"{subject}的人平时要注意什么？请说{number + 2}点。"}]
        text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        prompts.append(tokenizer.encode(text, add_special_tokens=False))
        given = torch.tensor([prompts[-1]])
        out = model.generate(given, attention_mask=torch.ones_like(given), max_new_tokens=20, do_sample=False)
        # llama.cpp's list may end before the token that ended the answer.
        ends = (tokenizer.eos_token_id, tokenizer.pad_token_id)
        expected.append([token for token in out[0, given.shape[1] :].tolist() if token not in ends])
    (tmp_path / "given.json").write_text(json.dumps({"model": str(tmp_path / "m.gguf"), "prompts": prompts}))
    argv = [python, "-c", _LLAMA_CPP, str(tmp_path / "given.json"), str(tmp_path / "said.json")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads((tmp_path / "said.json").read_text())
    same = [
        [token for token in one if token not in ends] == two for one, two in zip(said, expected, strict=True)
    ]
    print(f"{sum(same)} of 10 prompts give the same 20 tokens")
    assert sum(same) >= 9, list(zip(said, expected, strict=True))
