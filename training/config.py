"""The configuration sections of training: `train` and `merge`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from data.config import Section
from data.conversations import QuestionStyle

Positive = Annotated[int, Field(ge=1)]


class DistributedSection(Section):
    """Training in several processes, which share every step's packs; `train.distributed`.

    However many there are, a step sees the same packs, so the schedule and the loss curve stay those of one process.
    Under `torchrun` or `deepspeed`, which count processes and nodes themselves, their count is used.
    """

    num_processes: Positive = 1
    """Processes on each node: one a GPU, or as many as the CPU has sockets."""
    zero_stage: Literal[0, 2, 3] = 0
    """0: every process holds everything. 2: DeepSpeed shares out gradients and optimizer state. 3: the weights too,
    which is how a base that does not fit on one GPU is trained. 2 and 3 need `pip install 'groundtune[deepspeed]'`."""
    offload: Literal["none", "cpu"] = "none"
    """`cpu` keeps what ZeRO shares out (stage 3: the weights too) in the machine's memory rather than the GPU's."""
    num_nodes: Positive = 1
    """Machines; the same command runs on each of them, with its own `node_rank`."""
    node_rank: Annotated[int, Field(ge=0)] = 0
    """This machine's number, from 0; number 0 writes the results."""
    main_address: str | None = None
    """Host name or address of node 0, as the other nodes reach it."""
    main_port: Annotated[int, Field(ge=1, le=65535)] = 29500
    """A free port of node 0; one node alone picks one itself."""

    @model_validator(mode="after")
    def _fits_together(self) -> DistributedSection:
        if self.offload == "cpu" and self.zero_stage == 0:
            raise ValueError("offload: cpu moves what ZeRO shares out; set zero_stage: 2 or 3 with it")
        if self.num_nodes > 1 and self.main_address is None:
            raise ValueError(f"num_nodes: {self.num_nodes} needs main_address, the address of node 0")
        if self.node_rank >= self.num_nodes:
            raise ValueError(f"node_rank: {self.node_rank} of num_nodes: {self.num_nodes}; they count from 0")
        return self

    @property
    def world_size(self) -> int:
        """Processes on all nodes."""
        return self.num_processes * self.num_nodes

    @property
    def needs_launch(self) -> bool:
        """Whether training cannot run in the process that was asked for it."""
        return self.world_size > 1 or self.zero_stage > 0


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
    epochs: Positive = 3
    max_train_tokens: Positive | None = 44_000
    """Stop after so many packed tokens even if epochs are left; the schedule is laid over what will be run."""
    pack_tokens: Positive = 384
    """Tokens in one forward pass; whole conversations are packed into it without seeing one another."""
    packs_per_step: Positive = 1
    """Packs whose gradients are summed before the optimizer steps."""
    max_tokens: Positive = 1024
    """A longer conversation is cut at its end."""
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """What is computed in. `auto`: bfloat16 on a GPU and on CPUs that gain by it; float32 on the others where the
    base fits into memory so. The adapter is float32 either way, the merged model in the base's own format."""
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
    distributed: DistributedSection = DistributedSection()
    """Several processes, GPUs or nodes, and DeepSpeed ZeRO."""
    evaluation: EvaluationSection = EvaluationSection()
    tensorboard: bool = True
    """Write TensorBoard event files to the run's tensorboard/."""
    checkpoint_every_s: Annotated[float, Field(gt=0)] = 20.0
    seed: int = 17

    @model_validator(mode="after")
    def _fits_together(self) -> TrainSection:
        if self.quantization and self.distributed.zero_stage == 3:
            raise ValueError("quantization: nf4 cannot be shared out by zero_stage: 3; use 2, or bfloat16")
        if self.evaluation.generate and self.distributed.zero_stage == 3:
            raise ValueError(
                "evaluation.generate needs the whole model in one process; set it to 0 with zero_stage: 3"
            )
        return self


class MergeSection(Section):
    """Merging the adapter into the base model."""

    max_shard_size_gb: Annotated[float, Field(gt=0)] = 2.0
