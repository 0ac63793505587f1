"""What is written for XTuner, and how its run is judged, without XTuner."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from data.artefacts import write_text
from data.conversations import Conversation, render
from data.errors import GroundTuneError, InputError
from data.workspace import open_workspace
from tests.training.shapes import write_base
from tests.training.xtuner.test_config_file import CPU, SOURCE
from training.environment import interpreter
from training.xtuner.backend import last_checkpoint, train_with_xtuner, write_job
from training.xtuner.base_view import write_base_view
from training.xtuner.config_file import CONFIG_NAME, SOURCE_FILE


def test_a_job_is_the_seeds_folder(tmp_path: Path) -> None:
    site = tmp_path / "env" / "lib" / "python3.11" / "site-packages"
    write_text(site / SOURCE_FILE, SOURCE)
    base = write_base(tmp_path / "tiny", "qwen2", tied=True, dtype=torch.bfloat16)
    run = open_workspace().run("cq")
    # The second row has no seed wording, and is trained on as it is.
    made = [Conversation("a", "seed", "S", "关于`x`", "甲"), Conversation("a", "plain", "S", "x", "甲")]
    made += [Conversation("b", "plain", "S", "y", "乙")]
    write_text(run.dataset / "train.jsonl", render(made, "conversation"))
    config = write_job(run, base, CPU, tmp_path / "env", tmp_path / "job")
    assert config == tmp_path / "job" / CONFIG_NAME
    assert 'pretrained_model_name_or_path = "./tiny"' in config.read_text()
    array = json.loads((tmp_path / "job" / "data" / "dataset_cq.jsonl").read_text())
    assert [item["conversation"][0]["input"] for item in array] == ["关于`x`", "y"]
    assert (tmp_path / "job" / "tiny" / "config.json").is_file()


def test_the_view_is_the_same_model_without_its_code(tmp_path: Path) -> None:
    base = write_base(tmp_path / "tiny", "qwen2", tied=True, dtype=torch.bfloat16)
    config = json.loads((base / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "modeling.Tiny"}
    (base / "config.json").write_text(json.dumps(config))
    (base / "modeling.py").write_text("raise SystemExit")
    write_base_view(base, tmp_path / "view")
    assert not list((tmp_path / "view").glob("*.py"))
    said = json.loads((tmp_path / "view" / "config.json").read_text())
    assert not {"auto_map", "rope_parameters", "dtype"} & said.keys()
    assert said["torch_dtype"] == "bfloat16" and said["rope_theta"] > 0
    tokenizer = json.loads((tmp_path / "view" / "tokenizer_config.json").read_text())
    assert tokenizer["tokenizer_class"] == "Qwen2Tokenizer" and tokenizer["chat_template"]
    ids = torch.tensor([[1, 2, 3, 4]])
    logits = [AutoModelForCausalLM.from_pretrained(f)(ids).logits for f in (base, tmp_path / "view")]
    assert torch.equal(*logits)
    turns = [{"role": "user", "content": "hello"}]
    texts = [
        AutoTokenizer.from_pretrained(f).apply_chat_template(turns, tokenize=False)
        for f in (base, tmp_path / "view")
    ]
    assert texts[0] == texts[1]


def test_a_run_without_a_checkpoint_failed(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_text("first\nRuntimeError: what went wrong\n")
    with pytest.raises(GroundTuneError, match=r"(?s)without a checkpoint.*RuntimeError: what went wrong"):
        last_checkpoint(tmp_path, log)


def test_without_an_environment_the_command_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="run `groundtune train env xtuner`"):
        interpreter(tmp_path)
    base = write_base(tmp_path / "tiny", "qwen2", tied=True, dtype=torch.bfloat16)
    with pytest.raises(InputError, match="train env xtuner"):
        train_with_xtuner(open_workspace().run("x"), base, CPU, tmp_path / "env")
