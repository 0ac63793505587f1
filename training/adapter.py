"""The step from a dataset and a base model to a LoRA adapter in PEFT's format.

RUN/adapter/        adapter_config.json, adapter_model.safetensors, groundtune.json
RUN/metrics.jsonl   one line an optimizer step, and one an evaluation on held-out rows
RUN/loss.png        the same as a picture
RUN/tensorboard/    the same as TensorBoard events
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.artefacts import digest_of, folder_beside, write_text
from data.errors import InputError
from data.manifest import Manifest, folder_digest, is_current, read_manifest, write_manifest
from data.models.capacity import require_disk, require_memory
from data.models.folder import check_model_folder, weights_bytes
from data.workspace import Run
from training.config import TrainSection
from training.launch import is_launched, require_deepspeed, train_in_processes

if TYPE_CHECKING:
    from training.world import World

_NOT_DECIDING = (
    "backend", "checkpoint_every_s", "device", "attention", "liger", "gradient_checkpointing", "evaluation",
    "tensorboard", "distributed",
)  # fmt: skip
# What of an evaluation decides which adapter is kept, where it decides at all.
_JUDGING = {"source", "rows", "every_epochs", "every_steps", "patience", "min_delta"}


def adapter_inputs(run: Run, base_folder: Path, config: TrainSection) -> dict[str, str]:
    """Return the digests of all that decides the adapter."""
    inputs = {
        "base": folder_digest(base_folder),
        "train.jsonl": _file_digest(run.dataset, "train.jsonl"),
        "settings": digest_of(_deciding(config)),
    }
    if config.evaluation.patience:
        inputs["held_out"] = _file_digest(run.dataset, f"{config.evaluation.source}.jsonl")
    return inputs


def _deciding(config: TrainSection) -> dict[str, Any]:
    """Return the settings that decide what is learned; where it is computed and what is kept do not.

    A run of version 0.1 recorded `gradient_checkpointing: false` and nothing of the newer ones, and bfloat16 where
    the machine decides now: an adapter is not another one because it was carried elsewhere.
    """
    kept = config.model_dump(mode="json", exclude=set(_NOT_DECIDING))
    if kept["quantization"] is None:
        del kept["quantization"]
    if kept["dtype"] == "auto":
        kept["dtype"] = "bfloat16"
    if config.evaluation.patience:
        kept["evaluation"] = config.evaluation.model_dump(mode="json", include=_JUDGING)
    return {**kept, "gradient_checkpointing": False}


def _file_digest(dataset: Path, name: str) -> str:
    manifest = read_manifest(dataset)
    stamp = manifest.files.get(name) if manifest else None
    return stamp.sha256 if stamp else "absent"


def train_adapter(run: Run, base_folder: Path, config: TrainSection) -> tuple[Manifest, bool]:
    """Train and write the adapter unless it is there already; returns (manifest, whether work was done).

    Raises:
        InputError: no dataset, no usable base model, or too little memory or disk for it.
    """
    check_model_folder(base_folder)
    inputs = adapter_inputs(run, base_folder, config)
    if is_launched():
        return _train_in_group(run, base_folder, config, inputs)
    if is_current(run.adapter, "adapter", inputs):
        manifest = _written(run)
        if config.evaluation.generate and "held_out_rouge_l" not in manifest.facts:
            print(
                f"note: {run.adapter} is up to date and was trained without train.evaluation.generate; to train it "
                f"again with evaluation, remove it and {run.checkpoints / 'adapter'}",
                file=sys.stderr,
            )
        return manifest, False
    if config.distributed.needs_launch:
        require_deepspeed(config)
        facts = train_in_processes(run, base_folder, config)
        is_here = config.distributed.node_rank == 0
        return _written(run) if is_here else Manifest("adapter", inputs, {}, facts), True
    _require_room(run, base_folder, 1)
    from training.world import ALONE

    return _train(run, base_folder, config, inputs, ALONE), True


def _written(run: Run) -> Manifest:
    manifest = read_manifest(run.adapter)
    assert manifest is not None
    return manifest


def _require_room(run: Run, base_folder: Path, num_processes: int) -> None:
    require_memory(_needed_bytes(base_folder) * num_processes, f"training on {base_folder.name}")
    require_disk(run.folder, 1 << 29, "checkpoints and the adapter")


def _needed_bytes(base_folder: Path) -> int:
    # Weights, activations of one pack, and the adapter's float32 weights with two moments.
    return int(weights_bytes(base_folder) * 1.5) + (1 << 30)


def _train_in_group(
    run: Run, base_folder: Path, config: TrainSection, inputs: Mapping[str, str]
) -> tuple[Manifest, bool]:
    """Do this process's part of what a launcher started several for; process 0 writes, and all return the same."""
    from training.world import join, leave

    require_deepspeed(config)
    world = join(config)
    if world.any_of(world.shared_text(digest_of(inputs)) != digest_of(inputs)):
        raise InputError(
            f"{run.folder}: the base model, the dataset or the settings differ between the nodes; give each the same"
        )
    fresh = not world.decided(world.is_main and is_current(run.adapter, "adapter", inputs))
    if fresh:
        # On a GPU the weights pass through memory one at a time.
        _require_room(run, base_folder, 1 if world.uses_cuda else world.local_size)
        manifest = _train(run, base_folder, config, inputs, world)
    else:
        manifest = _written(run) if world.is_main else Manifest("adapter", inputs, {}, {})
    facts = json.loads(world.shared_text(json.dumps(manifest.facts)))
    leave()
    return Manifest("adapter", inputs, manifest.files, facts), fresh


def _train(
    run: Run, base_folder: Path, config: TrainSection, inputs: Mapping[str, str], world: World
) -> Manifest:
    from transformers import AutoTokenizer

    from training.base_model import uses_varlen, with_dtype
    from training.checkpoint import StepMetrics
    from training.evaluation import load_evaluator
    from training.examples import encode_all, of_styles, read_conversations, require_styles
    from training.lora import AdaptedModel
    from training.loss_chart import draw_loss
    from training.packing import pack_examples
    from training.progress import TrainingProgress
    from training.resumption import notices_of_checkpoint, packs_digest
    from training.tensorboard import EventFile
    from training.trainer import train
    from training.watch import EvaluationMetrics, Watch

    # One format for all: each process finds another amount of memory free.
    dtype = world.shared_text(with_dtype(config, _needed_bytes(base_folder) * world.local_size).dtype)
    config = config.model_copy(update={"dtype": dtype})
    tokenizer = AutoTokenizer.from_pretrained(base_folder, local_files_only=True)
    made = read_conversations(run.dataset / "train.jsonl")
    require_styles(made, config.styles, run.dataset / "train.jsonl")
    examples, num_left_out = encode_all(of_styles(made, config.styles), tokenizer, config.max_tokens)
    if num_left_out and world.is_main:
        print(
            f"note: {num_left_out} grounded conversations are longer than train.max_tokens={config.max_tokens}; "
            "left out",
            file=sys.stderr,
        )
    num_cut = sum(example.was_cut for example in examples)
    if num_cut and world.is_main:
        print(
            f"note: {num_cut} of {len(examples)} answers cut at train.max_tokens={config.max_tokens}",
            file=sys.stderr,
        )
    packs = pack_examples(examples, config.pack_tokens, config.seed, share_prefix=not uses_varlen(config))
    evaluator = load_evaluator(run.dataset, tokenizer, config)
    checkpoint, decided_by = run.checkpoints / "adapter", {**inputs, "packs": packs_digest(packs)}
    if world.is_main:
        for notice in notices_of_checkpoint(checkpoint, decided_by, config.model_dump(mode="json")):
            print(f"note: {notice}", file=sys.stderr)
    loading: object = None
    if config.distributed.zero_stage == 3:
        from training.zero import prepare_loading

        loading = prepare_loading(config)
    model = AdaptedModel(base_folder, config)
    if world.any_of(model.is_checkpointing) and not model.is_checkpointing:
        model.use_checkpointing()
    with ExitStack() as stack:
        progress = None
        if world.is_main:
            events = (
                stack.enter_context(EventFile(run.folder / "tensorboard")) if config.tensorboard else None
            )
            # training.launch shows what it reads of this.
            every = 1 if is_launched() else 10
            progress = stack.enter_context(
                TrainingProgress(run.folder / "metrics.jsonl", events, plain_every_steps=every)
            )

        def on_step(metrics: StepMetrics, num_steps: int) -> None:
            if progress:
                progress.advance(metrics, num_steps)

        def on_point(point: EvaluationMetrics) -> None:
            if progress:
                progress.evaluated(point)

        judge = evaluator.judge_in(world) if evaluator else None
        watch = Watch(config.evaluation, judge, on_point)
        history = train(model, packs, config, checkpoint, decided_by, on_step, watch=watch, world=world)
    del loading
    facts: dict[str, Any] = {
        "base": base_folder.name,
        "num_conversations": len(examples),
        "num_cut": num_cut,
        "num_steps": len(history),
        "num_tokens": sum(item.num_tokens for item in history),
        "final_loss": history[-1].loss,
        "dtype": dtype,
        "lora_rank": config.lora_rank,
        "lora_alpha": config.lora_alpha,
        **watch.facts(),
    }
    if not world.is_main:
        return Manifest("adapter", inputs, {}, facts)
    for line in watch.told(len(history)):
        print(f"note: {line}", file=sys.stderr)
    draw_loss(history, run.folder / "loss.png", watch.points, watch.kept_step)
    with folder_beside(run.adapter) as beside:
        model.save(beside)
        _make_portable(beside, base_folder)
        return write_manifest(beside, "adapter", inputs, facts)


def _make_portable(folder: Path, base_folder: Path) -> None:
    """Name the base model by its folder's name: a path of this machine would differ from run to run."""
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = base_folder.name
    config["target_modules"] = sorted(config["target_modules"])
    write_text(path, json.dumps(config, indent=2, sort_keys=True) + "\n")
    (folder / "README.md").unlink(missing_ok=True)
