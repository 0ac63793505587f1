"""The seed's file is XTuner's with the seed's lines changed, and refuses another XTuner's."""

from __future__ import annotations

import pytest

from data.errors import InputError
from training.xtuner.base_view import older_config
from training.xtuner.config import XtunerSection
from training.xtuner.config_file import render, seed_changes, setting_changes

# The lines that are changed, among others, as XTuner's file has them.
SOURCE = """\
from xtuner.dataset.map_fns import oasst1_map_fn, template_map_fn_factory
pretrained_model_name_or_path = "internlm/internlm-chat-7b"
data_path = "timdettmers/openassistant-guanaco"
prompt_template = PROMPT_TEMPLATE.internlm_chat
max_length = 2048
accumulative_counts = 16
max_epochs = 3
lr = 2e-4
warmup_ratio = 0.03
save_steps = 500
evaluation_freq = 500
        torch_dtype=torch.float16,
        quantization_config=dict(
            type=BitsAndBytesConfig,
        ),
        r=64,
        lora_alpha=16,
        lora_dropout=0.1,
    dataset=dict(type=load_dataset, path=data_path),
    dataset_map_fn=oasst1_map_fn,
    shuffle_before_pack=True,
    dict(
        type=LinearLR,
    ),
train_cfg = dict(type=TrainLoop, max_epochs=max_epochs)
    dict(
        type=EvaluateChatHook,
    ),
    logger=dict(type=LoggerHook, log_metric_by_epoch=False, interval=10),
    dist_cfg=dict(backend="nccl"),
randomness = dict(seed=None, deterministic=False)
"""
CPU = XtunerSection(
    device="cpu", prompt_template="qwen_chat", max_length=256, accumulative_counts=1, epochs=1, max_steps=4,
    learning_rate=1e-3, warmup_ratio=0, lora_rank=8, lora_alpha=4, lora_dropout=0, log_steps=1, save_steps=2,
    evaluation_steps=None, seed=3, map_processes=1,
)  # fmt: skip


def test_the_defaults_change_what_the_seed_changes() -> None:
    made = render(SOURCE, XtunerSection(), "./internlm-chat-7b", "./data/dataset_cq.jsonl")
    changed = [(a, b) for a, b in zip(SOURCE.splitlines(), made.splitlines(), strict=True) if a != b]
    changes = seed_changes("./internlm-chat-7b", "./data/dataset_cq.jsonl")
    assert changed == [(change.old, change.new) for change in changes]
    assert not list(setting_changes(XtunerSection(), SOURCE))


def test_every_setting_changes_its_line() -> None:
    made = render(SOURCE, CPU, "./m", "./d")
    for line in (
        "prompt_template = PROMPT_TEMPLATE.qwen_chat", "max_length = 256", "accumulative_counts = 1", "lr = 0.001",
        "max_epochs = 1", "save_steps = 2", "        r=8,", "        lora_alpha=4,", "        lora_dropout=0.0,",
        "train_cfg = dict(type=TrainLoop, max_iters=4)", "        torch_dtype=torch.bfloat16,",
        '    dist_cfg=dict(backend="gloo"),', "randomness = dict(seed=3, deterministic=False)",
        "    logger=dict(type=LoggerHook, log_metric_by_epoch=False, interval=1),",
        "    shuffle_before_pack=True,\n    map_num_proc=1,",
    ):  # fmt: skip
        assert f"\n{line}\n" in made, line
    for gone in ("BitsAndBytesConfig", "EvaluateChatHook", "LinearLR"):
        assert gone not in made
    assert "cpu.is_bf16_supported" in made


def test_another_xtuners_file_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"expected the line 'dataset_map_fn=oasst1_map_fn,' once, found it 0"
    ):
        render(SOURCE.replace("oasst1_map_fn,\n", "other,\n"), XtunerSection(), "./m", "./d")


def test_a_path_cannot_leave_its_string() -> None:
    made = render(SOURCE, XtunerSection(), './a"; import os; "\\', "./d")
    namespace: dict[str, object] = {}
    exec(next(line for line in made.splitlines() if line.startswith("pretrained")), namespace)
    assert namespace["pretrained_model_name_or_path"] == './a"; import os; "\\'


def test_newer_words_are_said_in_older_ones() -> None:
    newer = {
        "model_type": "qwen2",
        "dtype": "bfloat16",
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
        "auto_map": {"AutoModel": "code.py"},
    }
    older = {"model_type": "qwen2", "torch_dtype": "bfloat16", "rope_theta": 1e6, "rope_scaling": None}
    assert older_config(newer) == older
    scaled = {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 5e5}}
    assert older_config(scaled)["rope_scaling"] == {"rope_type": "linear", "factor": 2.0}
    with pytest.raises(InputError, match="differ by layer"):
        older_config({"rope_parameters": {"full_attention": {"rope_theta": 1e6}}})
