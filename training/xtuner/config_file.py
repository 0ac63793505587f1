"""The seed's internlm_chat_7b_qlora_cq_e3.py: XTuner's own file with lines changed, as the seed does by hand.

The text it begins with is that of the installed XTuner (what `xtuner copy-cfg` copies). A change names the whole
line it replaces and must find it once: another XTuner, whose file says something else, is an error and no guess.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from data.errors import InputError
from training.xtuner.config import XtunerSection

SOURCE_FILE = Path("xtuner/configs/internlm/internlm_chat_7b/internlm_chat_7b_qlora_oasst1_e3.py")
CONFIG_NAME = "internlm_chat_7b_qlora_cq_e3.py"

# The file's statements run when it is read, but what it imports is only loaded later, hence __import__.
_CPU_ENDING = """
# On a CPU: XTuner asks every device for this, and torch.cpu lacks it; DeepSpeed then trains in bfloat16.
__import__("torch").cpu.is_bf16_supported = lambda: True
# And mmengine gives every process of several a GPU.
__import__("torch").cuda.set_device = lambda device: None
"""


@dataclass(frozen=True)
class LineChange:
    """Lines `old` of the source become `new` (None: they go)."""

    old: str
    new: str | None


def seed_changes(model_path: str, data_path: str) -> list[LineChange]:
    """Return the seed's own changes: its import, the two paths, the dataset's loader and the map function."""
    return [
        LineChange(
            "from xtuner.dataset.map_fns import oasst1_map_fn, template_map_fn_factory",
            "from xtuner.dataset.map_fns import template_map_fn_factory",
        ),
        LineChange(
            'pretrained_model_name_or_path = "internlm/internlm-chat-7b"',
            f"pretrained_model_name_or_path = {_quoted(model_path)}",
        ),
        LineChange('data_path = "timdettmers/openassistant-guanaco"', f"data_path = {_quoted(data_path)}"),
        LineChange(
            "    dataset=dict(type=load_dataset, path=data_path),",
            '    dataset=dict(type=load_dataset, path="json", data_files=dict(train=data_path)),',
        ),
        LineChange("    dataset_map_fn=oasst1_map_fn,", "    dataset_map_fn=None,"),
    ]


def setting_changes(config: XtunerSection, source: str) -> Iterator[LineChange]:
    """Yield what the configuration says otherwise than XTuner's file."""
    values = {
        "prompt_template = PROMPT_TEMPLATE.internlm_chat": config.prompt_template,
        "max_length = 2048": config.max_length,
        "accumulative_counts = 16": config.accumulative_counts,
        "max_epochs = 3": config.epochs,
        "lr = 2e-4": config.learning_rate,
        "warmup_ratio = 0.03": config.warmup_ratio,
        "save_steps = 500": config.save_steps,
        "        r=64,": config.lora_rank,
        "        lora_alpha=16,": config.lora_alpha,
        "        lora_dropout=0.1,": config.lora_dropout,
    }
    for old, value in values.items():
        name, text = old.rstrip(",").rsplit("=", 1)
        said = text.strip().removeprefix("PROMPT_TEMPLATE.")
        if isinstance(value, str):
            if value != said:
                yield LineChange(old, old.replace(said, value))
        elif value != float(said):
            yield LineChange(
                old, f"{name}={' ' if text.startswith(' ') else ''}{value!r}{old[len(old.rstrip(',')) :]}"
            )
    if not config.warmup_ratio:
        # mmengine refuses a warm-up of no steps.
        yield LineChange(_block(source, "    dict(\n        type=LinearLR,", "    ),"), None)
    if config.max_steps is not None:
        yield LineChange(
            "train_cfg = dict(type=TrainLoop, max_epochs=max_epochs)",
            f"train_cfg = dict(type=TrainLoop, max_iters={config.max_steps})",
        )
    if config.map_processes is not None:
        packing = "    shuffle_before_pack=True,"
        yield LineChange(packing, f"{packing}\n    map_num_proc={config.map_processes},")
    if config.log_steps != 10:
        logger = "    logger=dict(type=LoggerHook, log_metric_by_epoch=False, interval={}),"
        yield LineChange(logger.format(10), logger.format(config.log_steps))
    if config.seed is not None:
        yield LineChange(
            "randomness = dict(seed=None, deterministic=False)",
            f"randomness = dict(seed={config.seed}, deterministic=False)",
        )
    if config.evaluation_steps is None:
        yield LineChange(_block(source, "    dict(\n        type=EvaluateChatHook,", "    ),"), None)
    elif config.evaluation_steps != 500:
        yield LineChange("evaluation_freq = 500", f"evaluation_freq = {config.evaluation_steps}")
    yield from _device_changes(config, source)


def _device_changes(config: XtunerSection, source: str) -> Iterator[LineChange]:
    on_cpu = config.device == "cpu"
    if on_cpu or not config.quantise:
        yield LineChange(_block(source, "        quantization_config=dict(", "        ),"), None)
    if on_cpu:
        yield LineChange("        torch_dtype=torch.float16,", "        torch_dtype=torch.bfloat16,")
        yield LineChange('    dist_cfg=dict(backend="nccl"),', '    dist_cfg=dict(backend="gloo"),')


def render(source: str, config: XtunerSection, model_path: str, data_path: str) -> str:
    """Return the configuration file's text.

    Raises:
        InputError: `source` is not the file of XTuner 0.2.0.
    """
    text = source
    for change in [*seed_changes(model_path, data_path), *setting_changes(config, source)]:
        found = f"\n{text}".count(f"\n{change.old}\n")
        if found != 1:
            raise InputError(
                f"XTuner's {SOURCE_FILE.name}: expected the line {change.old.splitlines()[0].strip()!r} once, "
                f"found it {found} times; make the environment of XTuner 0.2.0 (`groundtune train env xtuner`)"
            )
        new = "" if change.new is None else f"{change.new}\n"
        text = f"\n{text}".replace(f"\n{change.old}\n", f"\n{new}")[1:]
    return text + (_CPU_ENDING if config.device == "cpu" else "")


def _block(source: str, first: str, last: str) -> str:
    """Return the lines from `first` to the next line `last`; `first` alone where they are not there."""
    start = source.find(first)
    end = source.find(f"\n{last}\n", start)
    return first if start < 0 or end < 0 else source[start : end + 1 + len(last)]


def _quoted(path: str) -> str:
    return '"' + path.replace("\\", "\\\\").replace('"', '\\"') + '"'
