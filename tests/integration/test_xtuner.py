"""XTuner's own environment, training with ZeRO-2 in one and in two processes, converting and merging."""

from __future__ import annotations

import difflib
import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from data.artefacts import write_text
from data.conversations import SEED_SYSTEM_PROMPT, Conversation, render
from data.errors import GroundTuneError
from data.manifest import write_manifest
from data.workspace import Run, open_workspace
from training.child import run_child
from training.environment import make_xtuner_environment
from training.merge import merge_adapter
from training.xtuner.backend import train_with_xtuner
from training.xtuner.config import XtunerSection
from training.xtuner.config_file import CONFIG_NAME, SOURCE_FILE
from training.xtuner.config_file import render as render_config

REPOSITORY = Path(__file__).parents[2]
pytestmark = [pytest.mark.integration, pytest.mark.slow]
SHORT = {
    "device": "cpu", "prompt_template": "qwen_chat", "max_length": 256, "accumulative_counts": 1, "epochs": 1,
    "max_steps": 3, "learning_rate": 1e-3, "warmup_ratio": 0, "lora_rank": 4, "lora_alpha": 8, "log_steps": 1,
    "evaluation_steps": None, "seed": 3,
}  # fmt: skip


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The XTuner environment: $GROUNDTUNE_TEST_XTUNER, or var/envs/xtuner, which is made if it is not there."""
    path = Path(os.environ.get("GROUNDTUNE_TEST_XTUNER", REPOSITORY / "var" / "envs" / "xtuner"))
    try:
        make_xtuner_environment(path, tmp_path_factory.mktemp("logs") / "env.log")
    except GroundTuneError as error:
        pytest.skip(f"the XTuner environment cannot be made here: {str(error)[-300:]}")
    return path


@pytest.fixture
def base(fetched_models: Path) -> Path:
    folder = fetched_models / "smollm2-135m-instruct"
    if not folder.is_dir():
        pytest.skip("smollm2-135m-instruct is not fetched; `groundtune models fetch smollm2-135m-instruct`")
    return folder


def prepared(name: str) -> Run:
    run = open_workspace().run(name)
    made = [
        Conversation(
            f"r{i}", "seed", SEED_SYSTEM_PROMPT, f"关于`高血压`的`饮食`问题,第{i}条?", f"盐少于{i}克。"
        )
        for i in range(12)
    ]
    write_text(run.dataset / "train.jsonl", render(made, "conversation"))
    write_manifest(run.dataset, "dataset", {}, {})
    return run


@pytest.mark.parametrize("num_processes", [1, 2])
def test_train_convert_merge(environment: Path, base: Path, tmp_path: Path, num_processes: int) -> None:
    run = prepared("short")
    config = XtunerSection.model_validate({**SHORT, "num_processes": num_processes})
    manifest, fresh = train_with_xtuner(run, base, config, environment)
    assert fresh and manifest.facts["checkpoint"] == "iter_3.pth"
    assert train_with_xtuner(run, base, config, environment)[1] is False
    work = run.folder / "xtuner" / "work_dirs" / Path(CONFIG_NAME).stem
    assert len(list((work / "iter_3.pth").glob("*_optim_states.pt"))) == num_processes
    made = load_file(run.adapter / "adapter_model.safetensors")
    assert all(tensor.abs().sum() > 0 for name, tensor in made.items() if "lora_B" in name)

    theirs = tmp_path / "theirs"
    argv = [str(environment / "bin" / "xtuner"), "convert", "pth_to_hf", CONFIG_NAME]
    argv += [str(work / "iter_3.pth"), str(theirs), "--fp32", "--safe-serialization"]
    path = f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}"
    run_child("pth_to_hf", argv, tmp_path / "log", run.folder / "xtuner", {"PATH": path, "PYTHONPATH": ""})
    own = load_file(theirs / "adapter_model.safetensors")
    assert made.keys() == own.keys()
    # XTuner's own conversion rounds to float16 on its way, with --fp32 too.
    assert all(torch.equal(made[name].half().float(), tensor) for name, tensor in own.items())
    said = json.loads((theirs / "adapter_config.json").read_text())
    ours = json.loads((run.adapter / "adapter_config.json").read_text())
    assert sorted(said["target_modules"]) == ours["target_modules"]
    assert [said[key] for key in ("r", "lora_alpha", "bias")] == [
        ours[key] for key in ("r", "lora_alpha", "bias")
    ]

    merge_adapter(base, run.adapter, run.merged, 2_000_000_000)
    merged = AutoModelForCausalLM.from_pretrained(run.merged, dtype=torch.bfloat16)
    assert torch.isfinite(merged(torch.tensor([[1, 2, 3]])).logits).all()


def test_a_failed_training_is_a_failed_step(environment: Path, base: Path) -> None:
    # XTuner's command ends with status 0 here.
    config = XtunerSection.model_validate({**SHORT, "prompt_template": "no_such_template"})
    run = prepared("failing")
    with pytest.raises(
        GroundTuneError, match=r"(?s)xtuner train ended without a checkpoint.*no_such_template"
    ):
        train_with_xtuner(run, base, config, environment)
    assert not run.adapter.exists()


def test_the_documented_difference_is_the_seeds_file(environment: Path) -> None:
    (path,) = (environment / "lib").glob(f"python3.*/site-packages/{SOURCE_FILE}")
    source = path.read_text(encoding="utf-8")
    made = render_config(source, XtunerSection(), "./internlm-chat-7b", "./data/dataset_cq.jsonl")
    lines = difflib.unified_diff(
        source.splitlines(keepends=True), made.splitlines(keepends=True), SOURCE_FILE.name, CONFIG_NAME, n=0
    )
    assert "".join(lines) in (REPOSITORY / "docs" / "xtuner.md").read_text(encoding="utf-8")
