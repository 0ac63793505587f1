"""The merge against PEFT's own, bit by bit, and the adapters that it refuses."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from data.artefacts import sha256_file
from data.errors import InputError
from tests.training.shapes import merged_by_peft, write_adapter, write_base
from training.merge import merge_adapter


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base") / "tiny", "qwen2", tied=True, dtype=torch.bfloat16)


@pytest.mark.parametrize(
    ("shape", "tied", "dtype", "settings"),
    [
        ("llama", False, torch.bfloat16, {}),
        ("llama", True, torch.float16, {"use_rslora": True}),
        ("llama", False, torch.bfloat16, {"target_modules": ["q_proj", "lm_head"]}),
        ("qwen2", True, torch.bfloat16, {"alpha_pattern": {"q_proj": 3}, "rank_pattern": {"layers.1.mlp.up_proj": 7}}),
        ("qwen2", False, torch.float32, {"lora_alpha": 5, "r": 3, "layers_to_transform": [1]}),
    ],
)  # fmt: skip
def test_bit_equal_to_pefts(
    tmp_path: Path, shape: str, tied: bool, dtype: torch.dtype, settings: dict[str, Any]
) -> None:
    base = write_base(tmp_path / "base", shape, tied=tied, dtype=dtype, shard="40KB")
    adapter = write_adapter(tmp_path / "adapter", base, **settings)
    manifest, _ = merge_adapter(base, adapter, tmp_path / "merged", 50_000)
    expected = merged_by_peft(base, adapter)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype="auto")
    original = AutoModelForCausalLM.from_pretrained(base, dtype="auto").state_dict()
    state = model.state_dict()
    assert model.dtype == dtype
    assert state.keys() == expected.keys()
    for name, tensor in state.items():
        assert torch.equal(tensor, expected[name]), name
    changed = sum(not torch.equal(tensor, original[name]) for name, tensor in state.items())
    assert changed == manifest.facts["num_changed"] > 0
    shards = sorted((tmp_path / "merged").glob("model-*.safetensors"))
    assert len(shards) > 1
    assert all(sum(t.nbytes for t in load_file(path).values()) <= 50_000 for path in shards)
    # They were hashed while they were written.
    assert {path.name: sha256_file(path) for path in shards}.items() <= {
        name: stamp.sha256 for name, stamp in manifest.files.items()
    }.items()


def test_blocks_smaller_than_a_matrix_change_no_bit(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = write_adapter(tmp_path / "adapter", base)
    merge_adapter(base, adapter, tmp_path / "whole", 1 << 30)
    monkeypatch.setattr("training.shards._BLOCK_BYTES", 200)
    merge_adapter(base, adapter, tmp_path / "blocks", 1 << 30)
    names = [tmp_path / folder / "model.safetensors" for folder in ("whole", "blocks")]
    assert names[0].read_bytes() == names[1].read_bytes()


def test_copies_where_the_kernel_does_not(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = write_adapter(tmp_path / "adapter", base)
    merge_adapter(base, adapter, tmp_path / "kernel", 1 << 30)

    def across_devices(*_: int) -> int:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "copy_file_range", across_devices)
    merge_adapter(base, adapter, tmp_path / "plain", 1 << 30)
    names = [tmp_path / folder / "model.safetensors" for folder in ("kernel", "plain")]
    assert names[0].read_bytes() == names[1].read_bytes()


def test_what_belongs_to_the_model_comes_along(tmp_path: Path, base: Path) -> None:
    (base / "generation_config.json").write_text('{"max_new_tokens": 7}')
    (base / "modeling_evil.py").write_text("raise SystemExit")
    (base / "README.md").write_text("the base's own card")
    adapter = write_adapter(tmp_path / "adapter", base)
    merge_adapter(base, adapter, tmp_path / "merged", 1 << 30)
    names = {path.name for path in (tmp_path / "merged").iterdir()}
    assert {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "config.json"} <= names
    assert "modeling_evil.py" not in names
    assert json.loads((tmp_path / "merged" / "generation_config.json").read_text()) == {"max_new_tokens": 7}
    assert (tmp_path / "merged" / "README.md").read_text().count("fine-tuned") == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"use_dora": True}, "DoRA"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"bias": "lora_only"}, "trained biases"),
        ({"use_rslora": True, "alpha_pattern": {"q_proj": 3}}, "use_rslora together"),
        ({"target_modules": ["q_proj", "embed_tokens"]}, "not a LoRA matrix"),
    ],
)
def test_other_adapters_are_refused(
    tmp_path: Path, base: Path, settings: dict[str, Any], message: str
) -> None:
    adapter = write_adapter(tmp_path / "adapter", base, **settings)
    with pytest.raises(InputError, match=message):
        merge_adapter(base, adapter, tmp_path / "merged", 1 << 30)
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_a_tied_output_matrix_is_not_merged(tmp_path: Path) -> None:
    loose = write_base(tmp_path / "loose", "llama", tied=False, dtype=torch.bfloat16)
    tied = write_base(tmp_path / "tied", "llama", tied=True, dtype=torch.bfloat16)
    adapter = write_adapter(tmp_path / "adapter", loose, target_modules=["lm_head"])
    with pytest.raises(InputError, match="ties its output matrix"):
        merge_adapter(tied, adapter, tmp_path / "merged", 1 << 30)


def test_damage_is_named(tmp_path: Path, base: Path) -> None:
    adapter = write_adapter(tmp_path / "adapter", base)
    path = adapter / "adapter_model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(InputError, match="cut short"):
        merge_adapter(base, adapter, tmp_path / "merged", 1 << 30)
    path.write_bytes(whole)
    tensors = load_file(path)
    next(iter(tensors.values()))[0, 0] = float("nan")
    save_file(tensors, path)
    with pytest.raises(InputError, match="not a finite number"):
        merge_adapter(base, adapter, tmp_path / "merged", 1 << 30)
    path.unlink()
    (adapter / "adapter_model.bin").write_bytes(b"pickle")
    with pytest.raises(InputError, match="never pickles"):
        merge_adapter(base, adapter, tmp_path / "merged", 1 << 30)


def test_a_quantised_base_is_refused(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", "qwen2", tied=True, dtype=torch.bfloat16)
    adapter = write_adapter(tmp_path / "adapter", base)
    config = json.loads((base / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (base / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="merge the adapter into the 16-bit model"):
        merge_adapter(base, adapter, tmp_path / "merged", 1 << 30)


def test_nothing_but_an_earlier_merge_is_replaced(tmp_path: Path, base: Path) -> None:
    adapter = write_adapter(tmp_path / "adapter", base)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thesis.txt").write_text("years of work")
    for out in (tmp_path / "notes", adapter, base):
        with pytest.raises(InputError, match=r"give another folder"):
            merge_adapter(base, adapter, out, 1 << 30)
    assert (tmp_path / "notes" / "thesis.txt").exists()
    assert merge_adapter(base, adapter, tmp_path / "merged", 1 << 30)[1]
    assert not merge_adapter(base, adapter, tmp_path / "merged", 1 << 30)[1]
    assert merge_adapter(base, adapter, tmp_path / "merged", 40_000)[1]
