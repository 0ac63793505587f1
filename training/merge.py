"""The step from a base model and an adapter to a merged model: W + s B A, one tensor at a time.

Only the tensors that LoRA touched are computed; all others are copied through. At most one tensor and its
product are in memory, so a model larger than memory merges. The folder is an ordinary Hugging Face one:
safetensors shards, index, config, tokenizer, chat template, generation config, model card.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file

from data.artefacts import folder_beside, write_text
from data.errors import InputError
from data.manifest import Manifest, folder_digest, is_current, read_manifest, write_manifest
from data.models.capacity import require_disk
from data.models.folder import check_model_folder, weights_bytes
from training.shards import ShardWriter

_PREFIX = "base_model.model."
# What is copied from the base beside the weights: never code, never pickles.
_COPIED_SUFFIXES = (".json", ".jinja", ".txt", ".model")
_NOT_COPIED = ("groundtune.json", "model.safetensors.index.json")


@dataclass(frozen=True)
class LoraDelta:
    """One adapted matrix: a (r, D_in), b (D_out, r), scale s."""

    a: torch.Tensor
    b: torch.Tensor
    scale: float

    def added_to(self, weight: torch.Tensor) -> torch.Tensor:
        """Return W + s B A in W's dtype: computed in float32 and rounded once, as PEFT's merge does."""
        delta = (self.b.float() @ self.a.float()) * self.scale
        return (weight.float() + delta).to(weight.dtype)


def merge_adapter(
    base: Path,
    adapter: Path,
    out: Path,
    max_shard_size_bytes: int,
    on_tensor: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Manifest, bool]:
    """Write the merged model to `out` unless it is there already; returns (manifest, whether work was done).

    Args:
        on_tensor: called with (tensors written, tensors in all).

    Raises:
        InputError: the base or the adapter is incomplete, or they do not belong together.
    """
    check_model_folder(base)
    inputs = {
        "base": folder_digest(base),
        "adapter": folder_digest(adapter),
        "shard": str(max_shard_size_bytes),
    }
    if is_current(out, "model", inputs):
        manifest = read_manifest(out)
        assert manifest is not None
        return manifest, False
    require_disk(out, weights_bytes(base), f"the merged model of {base.name}")
    deltas = read_adapter(adapter)
    with folder_beside(out) as beside:
        total = sum(1 for _ in _tensor_names(base))
        with ShardWriter(beside, max_shard_size_bytes) as writer:
            for number, (name, tensor) in enumerate(_tensors(base), start=1):
                delta = deltas.pop(name.removesuffix(".weight"), None)
                if delta is not None and (delta.b.shape[0], delta.a.shape[1]) != tuple(tensor.shape):
                    raise InputError(
                        f"{adapter}: its matrix for {name} is {delta.b.shape[0]}x{delta.a.shape[1]}, the base's is "
                        f"{'x'.join(map(str, tensor.shape))}; merge it into the base it was trained on"
                    )
                writer.add(name, tensor if delta is None else delta.added_to(tensor))
                on_tensor(number, total)
            if deltas:
                raise InputError(
                    f"{adapter}: adapts {next(iter(deltas))}, which {base.name} does not have; wrong base model?"
                )
            writer.finish()
        _copy_companions(base, beside)
        write_text(beside / "README.md", _model_card(base, adapter))
        facts = {"base": base.name, "adapter": adapter.name, "num_tensors": total}
        return write_manifest(beside, "model", inputs, facts), True


def read_adapter(folder: Path) -> dict[str, LoraDelta]:
    """Read a PEFT LoRA adapter: module name (as in the base) to its delta.

    Raises:
        InputError: no adapter there, or one of a kind that adds more than LoRA matrices.
    """
    try:
        config: dict[str, Any] = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        tensors = load_file(folder / "adapter_model.safetensors")
    except FileNotFoundError as error:
        raise InputError(
            f"{error.filename}: not there; give a PEFT adapter folder (`groundtune train run` makes one)"
        ) from None
    except (OSError, ValueError) as error:
        raise InputError(f"{folder}: not a readable adapter ({error})") from error
    if config.get("peft_type") != "LORA" or config.get("use_dora") or config.get("bias", "none") != "none":
        raise InputError(
            f"{folder}: only plain LoRA adapters can be merged (found {config.get('peft_type')!r})"
        )
    if config.get("rank_pattern") or config.get("alpha_pattern"):
        raise InputError(
            f"{folder}: adapters with rank_pattern or alpha_pattern cannot be merged; train with one rank"
        )
    rank = config["r"]
    scale = config["lora_alpha"] / (rank**0.5 if config.get("use_rslora") else rank)
    deltas = {}
    for name, a in tensors.items():
        if not name.endswith(".lora_A.weight"):
            if not name.endswith(".lora_B.weight"):
                raise InputError(f"{folder}: holds {name}, which is not a LoRA matrix; it cannot be merged")
            continue
        module = name.removesuffix(".lora_A.weight")
        b = tensors.get(f"{module}.lora_B.weight")
        if b is None:
            raise InputError(f"{folder}: {module} has a lora_A and no lora_B; the adapter is damaged")
        deltas[module.removeprefix(_PREFIX)] = LoraDelta(a, b, scale)
    return deltas


def _weight_files(base: Path) -> list[Path]:
    index = base / "model.safetensors.index.json"
    if index.is_file():
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        return [base / name for name in names]
    return [base / "model.safetensors"]


def _tensor_names(base: Path) -> Iterator[str]:
    for path in _weight_files(base):
        with safe_open(path, framework="pt") as file:
            yield from file.keys()


def _tensors(base: Path) -> Iterator[tuple[str, torch.Tensor]]:
    for path in _weight_files(base):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118
                yield name, file.get_tensor(name)


def _copy_companions(base: Path, out: Path) -> None:
    for path in sorted(base.iterdir()):
        if path.is_file() and path.suffix in _COPIED_SUFFIXES and path.name not in _NOT_COPIED:
            shutil.copyfile(path, out / path.name)


def _model_card(base: Path, adapter: Path) -> str:
    manifest = read_manifest(adapter)
    facts = dict(manifest.facts) if manifest else {}
    lines = [f"- {name}: {value}" for name, value in facts.items()]
    return "\n".join(
        [
            "---",
            "library_name: transformers",
            "pipeline_tag: text-generation",
            "---",
            f"# {base.name}, fine-tuned",
            "",
            "A LoRA adapter trained by GroundTune on question-and-answer rows, merged into its base model.",
            "",
            *lines,
            "",
        ]
    )


def max_shard_bytes(size_gb: float) -> int:
    """Return gigabytes (10^9, as Hugging Face counts shards) in bytes."""
    return int(size_gb * 1_000_000_000)
