"""The configuration sections of training: `train` and `merge`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from data.config import Section
from data.conversations import QuestionStyle

Positive = Annotated[int, Field(ge=1)]


class EvaluationSection(Section):
    """Judging the adapter on held-out rows while it is trained.

    It needs the dataset's held-out rows (`data prepare --validation 0.1`) and is left out where there are none.
    """

    source: Literal["validation", "paraphrases"] = "validation"
    """`validation`: the rows that a split kept back. `paraphrases`: held-out wordings of rows that are trained on,
    which is what `rag eval` and the quickstart judge by, too: a run stopped by them is no longer judged fairly."""
    rows: Annotated[int, Field(ge=0)] = 32
    """Held-out conversations at most, spread over the file; 0 turns evaluation off."""
    every_epochs: Annotated[float, Field(gt=0)] = 0.5
    """Evaluate whenever so much of an epoch has passed, and after the last step."""
    every_steps: Positive | None = None
    """Evaluate every so many optimizer steps instead."""
    generate: Annotated[int, Field(ge=0)] = 0
    """Held-out questions answered greedily at each evaluation; their ROUGE-L is recorded."""
    max_answer_tokens: Positive = 96
    patience: Positive | None = None
    """Stop after so many evaluations in a row without a lower loss, and keep the adapter of the lowest; None trains
    to the end and keeps the last adapter."""
    min_delta: Annotated[float, Field(ge=0)] = 0.0
    """How much lower (nats a token) a loss has to be to count as lower for `patience`."""


class TrainSection(Section):
    """LoRA fine-tuning of the base model on the prepared conversations.

    The defaults suit a 0.5B model on two CPU cores and some hundred rows; configs/ holds others.
    """

    backend: Literal["peft", "xtuner"] = "peft"
    """`xtuner` trains as section `xtuner` says, in an environment of its own; what follows is for `peft`."""
    styles: Annotated[tuple[QuestionStyle, ...], Field(min_length=1)] = ("plain",)
    """Wordings of the dataset that are trained on: `plain` is what people type, `seed` the tutorial's template.

    Each wording shows every answer once an epoch, so two of them cost what two epochs do.
    """
    lora_rank: Positive = 16
    lora_alpha: Positive = 32
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    target_modules: Annotated[tuple[str, ...], Field(min_length=1)] = (
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
    )  # fmt: skip
    top_layers: Positive | None = 12
    """Adapt only so many layers, counted from the output; None, or more than there are, adapts all.

    The layers below then need no backward pass, and their output for each pack is computed once and kept.
    """
    learning_rate: Annotated[float, Field(gt=0)] = 1.5e-3
    """Peak of the cosine schedule."""
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.05
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    epochs: Positive = 2
    max_train_tokens: Positive | None = 40_000
    """Stop after so many packed tokens even if epochs are left; the schedule is laid over what will be run."""
    pack_tokens: Positive = 384
    """Tokens in one forward pass; whole conversations are packed into it without seeing one another."""
    packs_per_step: Positive = 1
    """Packs whose gradients are summed before the optimizer steps."""
    max_tokens: Positive = 1024
    """A longer conversation is cut at its end."""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train; `auto` is the first CUDA GPU where there is one."""
    attention: Literal["auto", "mask", "varlen"] = "auto"
    """How conversations of a pack are kept apart: a mask over the whole pack, which lets them share their common
    beginning, or attention within each whole conversation, whose cost does not grow with the square of the pack.
    `auto` is varlen on CUDA in bfloat16 and mask elsewhere."""
    quantization: Literal["nf4"] | None = None
    """`nf4` holds the frozen base in 4 bits (QLoRA; needs bitsandbytes): a third of the memory, some speed lost."""
    liger: bool | Literal["auto"] = "auto"
    """Fused kernels of liger-kernel for norms, rotary positions and the MLP; `auto`: on CUDA, if installed."""
    gradient_checkpointing: bool | Literal["auto"] = "auto"
    """Compute activations twice rather than keep them; `auto`: if a full pack would not fit in free memory."""
    evaluation: EvaluationSection = EvaluationSection()
    tensorboard: bool = True
    """Write TensorBoard event files to the run's tensorboard/."""
    checkpoint_every_s: Annotated[float, Field(gt=0)] = 20.0
    seed: int = 17


class MergeSection(Section):
    """Merging the adapter into the base model."""

    max_shard_size_gb: Annotated[float, Field(gt=0)] = 2.0
