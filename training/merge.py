"""The step from a base model and an adapter to a merged model: W + s B A, one tensor at a time.

Tensors that LoRA did not touch are copied as bytes. For the others s B A is computed whole in float32, added to
a few rows of W at a time and rounded once, as PEFT's merge does, so the result has its bits. One such product
is the most that is in memory beside the adapter, so a model larger than memory merges. The folder is an
ordinary Hugging Face one: safetensors shards, index, config, tokenizer, chat template, generation config,
model card.
"""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from data.artefacts import folder_beside, write_text
from data.errors import InputError
from data.manifest import Manifest, folder_digest, is_current, read_manifest, write_manifest
from data.models.capacity import require_disk
from data.models.folder import check_model_folder, weights_bytes
from training.lora_adapter import LoraDelta, read_adapter
from training.shards import ShardWriter, StoredTensor, stored_tensors

# What is copied from the base beside the weights: never code, never pickles.
_COPIED_SUFFIXES = (".json", ".jinja", ".txt", ".model", ".tiktoken")
_NOT_COPIED = ("groundtune.json", "model.safetensors.index.json", "README.md")
_FLOATS = ("F64", "F32", "F16", "BF16")
# Each holds one product: 180 MB for the largest matrices of a 7B model.
_MAX_THREADS = 4

Plan = list[tuple[StoredTensor, LoraDelta | None]]


def merge_adapter(
    base: Path,
    adapter: Path,
    out: Path,
    max_shard_size_bytes: int,
    on_tensor: Callable[[int, int], None] = lambda done, total: None,
    *,
    base_digest: Callable[[], str] | None = None,
) -> tuple[Manifest, bool]:
    """Write the merged model to `out` unless it is there already; returns (manifest, whether work was done).

    Args:
        on_tensor: called with (tensors written, tensors in all).
        base_digest: waits for data.manifest.folder_digest of the base, if that was begun before.

    Raises:
        InputError: the base or the adapter is incomplete, or they do not belong together.
    """
    check_model_folder(base)
    _require_unquantised(base)
    previous = _replaceable(out, base, adapter)
    with ThreadPoolExecutor(1) as side:
        # Hashing a base without a manifest takes as long as merging into it; both at once where both are needed.
        digests = side.submit(
            _inputs, base_digest or (lambda: folder_digest(base)), adapter, max_shard_size_bytes
        )
        if previous is not None and is_current(out, "model", digests.result()):
            return previous, False
        require_disk(out, weights_bytes(base), f"the merged model of {base.name}")
        plan = _plan(base, adapter, read_adapter(adapter))
        with folder_beside(out) as beside:
            with ShardWriter(beside, [tensor for tensor, _ in plan], max_shard_size_bytes) as writer:
                for number, name in enumerate(_merged(writer, plan, adapter), start=1):
                    on_tensor(number, len(plan))
                    writer.hash_through(name)
            _copy_companions(base, beside)
            write_text(beside / "README.md", _model_card(base, adapter))
            facts = {
                "base": base.name,
                "adapter": adapter.name,
                "num_tensors": len(plan),
                "num_changed": sum(delta is not None for _, delta in plan),
            }
            return write_manifest(beside, "model", digests.result(), facts, known=writer.digests()), True


def _inputs(base_digest: Callable[[], str], adapter: Path, max_shard_size_bytes: int) -> dict[str, str]:
    return {
        "base": base_digest(),
        "adapter": folder_digest(adapter),
        "shard": str(max_shard_size_bytes),
    }


def _replaceable(out: Path, base: Path, adapter: Path) -> Manifest | None:
    """Return the manifest of an earlier merge at `out`, None where nothing is there.

    Raises:
        InputError: `out` is one of the inputs, or holds anything else, which a merge would delete.
    """
    if out.resolve() in (base.resolve(), adapter.resolve()):
        raise InputError(f"{out}: is an input of the merge; give another folder for the result")
    previous = read_manifest(out)
    if previous is None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: holds something that is no merged model; remove it or give another folder")
    return previous if previous is not None and previous.kind == "model" else None


def _merged(writer: ShardWriter, plan: Plan, adapter: Path) -> Iterator[str]:
    """Write every tensor, some at the same time; yields the name of each when it and all before it are done.

    A thread computes, reads or writes one tensor on one core: writing takes as long as computing, and threads
    that share a small product would wait for one another.
    """
    sizes = [delta.shape[0] * delta.shape[1] for _, delta in plan if delta is not None]
    rooms = threading.local()

    def write(item: tuple[StoredTensor, LoraDelta | None]) -> str:
        tensor, delta = item
        if delta is None:
            writer.copy(tensor)
            return tensor.name
        if not hasattr(rooms, "product"):
            # One for all matrices: memory that was never used costs more than the product itself.
            rooms.product = torch.empty(max(sizes), dtype=torch.float32)
        writer.change(tensor, _adding(tensor, delta, delta.product(rooms.product), adapter))
        return tensor.name

    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(
            min(num_threads, _MAX_THREADS), initializer=torch.set_num_threads, initargs=(1,)
        ) as pool:
            yield from pool.map(write, plan)
    finally:
        torch.set_num_threads(num_threads)


def _adding(
    tensor: StoredTensor, delta: LoraDelta, product: torch.Tensor, adapter: Path
) -> Callable[[int, torch.Tensor], None]:
    def add(first: int, rows: torch.Tensor) -> None:
        part = slice(first, first + len(rows))
        if delta.weight is not None and not torch.equal(rows, delta.weight[part].to(rows.dtype)):
            raise InputError(
                f"{adapter}: carries another {tensor.name} than the base model has; merge it into the base it "
                "was trained on"
            )
        # In place, a sum of two dtypes is computed in the wider one and rounded once.
        rows += product[part].mul_(delta.scale)

    return add


def _plan(base: Path, adapter: Path, deltas: dict[str, LoraDelta]) -> Plan:
    """Pair the base's tensors with what is added to them, before anything is written."""
    tied = json.loads((base / "config.json").read_text(encoding="utf-8")).get("tie_word_embeddings")
    for name in deltas:
        if tied and name.endswith(("lm_head", "embed_tokens")):
            raise InputError(
                f"{adapter}: adapts {name}, and {base.name} ties its output matrix to its embedding: a merge "
                "would change both; train without it in target_modules"
            )
    left = dict(deltas)
    plan: Plan = []
    for tensor in stored_tensors(base):
        delta = left.pop(tensor.name.removesuffix(".weight"), None)
        if delta is not None and delta.shape != tensor.shape:
            raise InputError(
                f"{adapter}: its matrix for {tensor.name} is {delta.shape[0]}x{delta.shape[1]}, the base's is "
                f"{'x'.join(map(str, tensor.shape))}; merge it into the base it was trained on"
            )
        if delta is not None and tensor.dtype not in _FLOATS:
            raise InputError(
                f"{tensor.path}: {tensor.name} is {tensor.dtype}; merge into the 16-bit base model"
            )
        plan.append((tensor, delta))
    if left:
        raise InputError(
            f"{adapter}: adapts {next(iter(left))}, which {base.name} does not have; wrong base model?"
        )
    return plan


def _require_unquantised(base: Path) -> None:
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    if config.get("quantization_config"):
        method = config["quantization_config"].get("quant_method", "quantised")
        raise InputError(
            f"{base}: a quantised model ({method}); merge the adapter into the 16-bit model it was made of"
        )


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
