"""The configuration section `xtuner`: what `train run --backend xtuner` writes into the seed's file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from data.config import Section
from data.conversations import QuestionStyle

Positive = Annotated[int, Field(ge=1)]


class XtunerSection(Section):
    """Training by XTuner. Every default is what internlm_chat_7b_qlora_oasst1_e3 says.

    A value that differs changes its line of the rendered file, and no other.
    """

    environment: Path | None = None
    """The folder that `groundtune train env xtuner` made; None: var/envs/xtuner."""
    device: Literal["cuda", "cpu"] = "cuda"
    """`cpu`: bfloat16 without quantisation over gloo; the 4-bit base of QLoRA (bitsandbytes) needs CUDA."""
    quantise: bool = True
    """Load the base in 4 bits (QLoRA); left out on a CPU."""
    deepspeed: Literal["deepspeed_zero1", "deepspeed_zero2", "deepspeed_zero3"] = "deepspeed_zero2"
    num_processes: Positive = 1
    """Processes of this machine, one a GPU; XTuner's NPROC_PER_NODE."""
    styles: Annotated[tuple[QuestionStyle, ...], Field(min_length=1)] = ("seed",)
    """Wordings of the dataset that are trained on; the seed knows its own only."""
    prompt_template: Annotated[str, Field(pattern=r"^\w+$")] = "internlm_chat"
    """A name of XTuner's PROMPT_TEMPLATE; it must say what the base model's own chat template says."""
    max_length: Positive = 2048
    """Tokens in one pack. XTuner's packs let conversations see those before them."""
    map_processes: Positive | None = None
    """Processes that read the rows; None: XTuner's own 32. Each packs its share of the rows for itself, so that of few
    rows hardly any are packed together; 1 packs them all."""
    accumulative_counts: Positive = 16
    """Packs whose gradients are summed before the optimizer steps."""
    epochs: Positive = 3
    max_steps: Positive | None = None
    """Stop after so many packs a process; None: after the epochs."""
    learning_rate: Annotated[float, Field(gt=0)] = 2e-4
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.03
    """Part of the steps; 0 for jobs so short that it would be less than one step, which mmengine refuses."""
    lora_rank: Positive = 64
    lora_alpha: Positive = 16
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    log_steps: Positive = 10
    """Log, and show, every so many packs."""
    save_steps: Positive = 500
    """Save every so many packs, and at the end."""
    evaluation_steps: Positive | None = 500
    """Answer two questions every so many packs; None: never."""
    seed: int | None = None
    """None: XTuner draws one."""
