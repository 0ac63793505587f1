"""The training and merging steps on a tiny random model: skipping, and the bits of the merge.

What kill -9 leaves is tests/integration/test_killed_runs.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from data.errors import InputError
from data.prepare import prepare_dataset
from data.settings import PrepareSection, WorkbookSection
from data.workspace import Run, Workspace
from tests.data.test_workbook import HEADER, make_workbook
from tests.serving.tiny_model import write_tiny_model
from training.adapter import train_adapter
from training.config import TrainSection
from training.merge import merge_adapter

ROWS = [["高血压", "饮食", f"第{n}个问题是什么", f"这是第{n}个答案。"] for n in range(12)]
CONFIG = TrainSection(
    styles=("seed", "plain"),
    max_train_tokens=None,
    epochs=6,
    pack_tokens=700,
    lora_rank=4,
    learning_rate=3e-2,
    max_tokens=700,
    checkpoint_every_s=1e-9,
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("base") / "tiny")


def make_run(root: Path, name: str, **settings: Any) -> Run:
    run = Workspace(root / "var").run(name)
    root.mkdir(exist_ok=True)
    workbook = make_workbook(root / "k.xlsx", {"S": [HEADER, *ROWS]})
    prepare_dataset(run.dataset, WorkbookSection(file=workbook), PrepareSection(own_questions=2, **settings))
    return run


def test_trains_learns_and_skips(tmp_path: Path, base: Path) -> None:
    run = make_run(tmp_path, "r")
    manifest, fresh = train_adapter(run, base, CONFIG)
    assert fresh
    metrics = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert len(metrics) == manifest.facts["num_steps"] > 4
    assert metrics[-1]["loss"] < metrics[0]["loss"]
    assert (run.folder / "loss.png").read_bytes().startswith(b"\x89PNG")
    config = json.loads((run.adapter / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "tiny"
    assert train_adapter(run, base, CONFIG) == (manifest, False)
    assert train_adapter(run, base, CONFIG.model_copy(update={"seed": 3}))[1]


@pytest.mark.parametrize("max_shard_bytes", [1 << 30, 20_000])
def test_the_merge_is_bit_equal_to_pefts(tmp_path: Path, base: Path, max_shard_bytes: int) -> None:
    run = make_run(tmp_path, "r")
    train_adapter(run, base, CONFIG)
    manifest, fresh = merge_adapter(base, run.adapter, run.merged, max_shard_bytes)
    assert fresh
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    expected = PeftModel.from_pretrained(model, str(run.adapter)).merge_and_unload().state_dict()
    merged = AutoModelForCausalLM.from_pretrained(run.merged, dtype=torch.bfloat16).state_dict()
    assert merged.keys() == expected.keys()
    changed = 0
    original = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16).state_dict()
    for name, tensor in merged.items():
        assert torch.equal(tensor, expected[name]), name
        changed += not torch.equal(tensor, original[name])
    assert changed == 14
    shards = list(run.merged.glob("*.safetensors"))
    assert (len(shards) > 1) == (max_shard_bytes == 20_000)
    assert (run.merged / "tokenizer.json").read_bytes() == (base / "tokenizer.json").read_bytes()
    assert merge_adapter(base, run.adapter, run.merged, max_shard_bytes) == (manifest, False)


def test_an_adapter_of_another_base_is_refused_and_nothing_is_written(tmp_path: Path, base: Path) -> None:
    run = make_run(tmp_path, "r")
    train_adapter(run, base, CONFIG)
    weights = load_file(run.adapter / "adapter_model.safetensors")
    from safetensors.torch import save_file

    save_file(
        {name: (t[:, :-1] if "lora_A" in name else t[:-1]).contiguous() for name, t in weights.items()},
        run.adapter / "adapter_model.safetensors",
    )
    with pytest.raises(InputError, match="merge it into the base it was trained on"):
        merge_adapter(base, run.adapter, run.merged, 1 << 30)
    assert not run.merged.exists()
    assert not list(run.folder.glob(".merged*"))


def test_a_base_without_weights_is_named(tmp_path: Path, base: Path) -> None:
    run = make_run(tmp_path, "r")
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "config.json").write_bytes((base / "config.json").read_bytes())
    with pytest.raises(InputError, match="empty"):
        train_adapter(run, empty, CONFIG)
    assert [path.name for path in run.folder.iterdir()] == ["dataset"]


def test_grounded_conversations_are_trained_on_where_both_steps_say_so(
    tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = ("plain", "grounded")
    wanted = CONFIG.model_copy(update={"styles": both, "epochs": 1, "max_tokens": 4000})
    bare = make_run(tmp_path / "bare", "r")
    with pytest.raises(InputError, match=r"data prepare --set 'prepare\.styles=\[plain, grounded\]'"):
        train_adapter(bare, base, wanted)
    run = make_run(tmp_path / "both", "r", styles=both, grounded_share=1)
    # What a row's bare question does not have is in the prompt: more tokens a row.
    plain, _ = train_adapter(run, base, wanted.model_copy(update={"styles": ("plain",)}))
    grounded, fresh = train_adapter(run, base, wanted)
    assert fresh and grounded.facts["num_tokens"] > 3 * plain.facts["num_tokens"]
    assert "left out" not in capsys.readouterr().err
    # The bare questions fit into so few tokens, the prompts with rows do not.
    train_adapter(run, base, wanted.model_copy(update={"max_tokens": CONFIG.max_tokens}))
    assert (
        "10 grounded conversations are longer than train.max_tokens=700; left out" in capsys.readouterr().err
    )
