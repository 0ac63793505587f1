"""`models convert internlm-chat-7b DIR OUT`: InternLM v1 as a LlamaForCausalLM with attention biases.

InternLM v1 is Llama with a bias in the four projections of attention, and its weights have Llama's names; its
own config.json sends loaders to Python files in its folder, which today's engines no longer take. Weights keep
their dtype and bits. Pickles (.bin) are read as tensors only (training.zero_checkpoint).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from data.artefacts import digest_of, folder_beside, sha256_file, write_json
from data.errors import InputError
from data.manifest import Manifest, is_current, read_manifest, write_manifest
from data.models.capacity import require_disk
from data.models.weights import INDEX_FILE, SINGLE_FILE
from training.internlm.sentencepiece_model import SentencePieceModel, read_sentencepiece
from training.internlm.tokenizer import END_OF_ANSWER, write_tokenizer
from training.shards import ShardWriter, TensorSpec
from training.zero_checkpoint import load_tensors

_BIN_INDEX, _BIN_FILE = "pytorch_model.bin.index.json", "pytorch_model.bin"
_DTYPES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
_NAME = re.compile(
    r"model\.(embed_tokens|norm)\.weight|lm_head\.weight|model\.layers\.\d+\."
    r"(self_attn\.[qkvo]_proj\.(weight|bias)|mlp\.(gate|up|down)_proj\.weight|\w+_layernorm\.weight)"
)
# Recomputed by every implementation.
_BUFFER = re.compile(r".*\.rotary_emb\..*")


def convert_internlm(
    source: Path,
    out: Path,
    max_shard_size_bytes: int = 2_000_000_000,
    on_tensor: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Manifest, bool]:
    """Write the converted model to `out` unless it is there already; returns (manifest, whether work was done).

    Raises:
        InputError: not InternLM v1, incomplete, or a pickle that holds more than tensors.
    """
    config = _read_config(source)
    model = read_sentencepiece(source / "tokenizer.model")
    files = _weight_files(source)
    if out.resolve() == source.resolve():
        raise InputError(f"{out}: is the model to convert; give another folder for the result")
    previous = read_manifest(out)
    if previous is None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(
            f"{out}: holds something that is no converted model; remove it or give another folder"
        )
    named = ["config.json", "tokenizer.model", *(path.name for path in files)]
    inputs = {"source": digest_of({name: sha256_file(source / name) for name in named})}
    inputs["shard"] = str(max_shard_size_bytes)
    if previous is not None and is_current(out, "model", inputs):
        return previous, False
    require_disk(out, sum(path.stat().st_size for path in files), f"the converted {source.name}")
    specs = _check(source, config, [spec for path in files for spec in _specs(path)])
    with folder_beside(out) as beside:
        with ShardWriter(beside, specs, max_shard_size_bytes) as writer:
            written = 0
            for path in files:
                for name, tensor in _tensors(path):
                    writer.write(name, tensor)
                    written += 1
                    on_tensor(written, len(specs))
        write_json(beside / "config.json", llama_config(config, specs[0].dtype))
        write_json(beside / "generation_config.json", _generation_config(config, model))
        write_tokenizer(beside, model, int(config.get("max_position_embeddings", 2048)))
        return write_manifest(beside, "model", inputs, {"origin": source.name, "shape": "llama"}), True


def llama_config(config: Mapping[str, Any], dtype: str) -> dict[str, Any]:
    """Return Llama's config.json, in words that transformers 4.48, 5 and LMDeploy read."""
    copied = (
        "bos_token_id", "eos_token_id", "hidden_act", "hidden_size", "initializer_range", "intermediate_size",
        "max_position_embeddings", "num_attention_heads", "num_hidden_layers", "rms_norm_eps", "vocab_size",
    )  # fmt: skip
    rotary = config.get("rotary") or {}
    # InternLM's dynamic base grows as Llama's does: alike up to max_position_embeddings tokens and beyond.
    dynamic = {"rope_type": "dynamic", "type": "dynamic", "factor": float(rotary.get("scaling_factor", 1.0))}
    names = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        **{key: config[key] for key in copied if key in config},
        "num_key_value_heads": config.get("num_key_value_heads", config["num_attention_heads"]),
        "attention_bias": bool(config.get("bias", True)),
        "mlp_bias": False,
        "pad_token_id": config.get("pad_token_id", config.get("eos_token_id")),
        "rope_theta": float(rotary.get("base", config.get("rope_theta", 10000))),
        "rope_scaling": dynamic if rotary.get("type") == "dynamic" else None,
        "tie_word_embeddings": bool(config.get("tie_word_embeddings", False)),
        "torch_dtype": names[dtype],
        "use_cache": True,
    }


def _generation_config(config: Mapping[str, Any], model: SentencePieceModel) -> dict[str, Any]:
    stops = [config.get("eos_token_id"), model.id_of(END_OF_ANSWER)]
    return {
        "bos_token_id": config.get("bos_token_id"),
        "eos_token_id": [stop for stop in stops if stop is not None],
        "pad_token_id": config.get("pad_token_id", config.get("eos_token_id")),
    }


def _read_config(source: Path) -> dict[str, Any]:
    path = source / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable as JSON ({error}); give internlm-chat-7b's folder") from error
    if not isinstance(config, dict) or config.get("architectures") != ["InternLMForCausalLM"]:
        raise InputError(f"{path}: not InternLM v1 (architectures InternLMForCausalLM); nothing to convert")
    return config


def _weight_files(source: Path) -> list[Path]:
    for index in (INDEX_FILE, _BIN_INDEX):
        if (source / index).is_file():
            names = json.loads((source / index).read_text(encoding="utf-8")).get("weight_map", {}).values()
            if not names or any(Path(name).name != name for name in names):
                raise InputError(f"{source / index}: 'weight_map' is not a table of tensors and files")
            found = [source / name for name in sorted(set(names))]
            break
    else:
        found = [source / name for name in (SINGLE_FILE, _BIN_FILE) if (source / name).is_file()][:1]
    missing = [path for path in found if not path.is_file()]
    if missing or not found:
        raise InputError(f"{missing[0] if missing else source}: no weights there; fetch or copy them again")
    return found


def _specs(path: Path) -> list[TensorSpec]:
    return [TensorSpec(name, _dtype(path, name, t), tuple(t.shape)) for name, t in _tensors(path)]


def _dtype(path: Path, name: str, tensor: torch.Tensor) -> str:
    if tensor.dtype not in _DTYPES:
        raise InputError(f"{path}: {name} is {tensor.dtype}; convert the unquantised model")
    return _DTYPES[tensor.dtype]


def _tensors(path: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the tensors of one file that go into the result."""
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        loaded: Any = load_file(path)
    else:
        loaded = load_tensors(path)
    if not isinstance(loaded, Mapping):
        raise InputError(f"{path}: holds no table of tensors")
    for name, tensor in loaded.items():
        if _BUFFER.fullmatch(str(name)):
            continue
        if not isinstance(tensor, torch.Tensor) or not _NAME.fullmatch(str(name)):
            raise InputError(f"{path}: holds {name!r}, which InternLM v1 does not have")
        yield str(name), tensor


def _check(source: Path, config: Mapping[str, Any], specs: list[TensorSpec]) -> list[TensorSpec]:
    names = {spec.name for spec in specs}
    parts = ["input_layernorm.weight", "post_attention_layernorm.weight"]
    parts += [f"mlp.{name}_proj.weight" for name in ("gate", "up", "down")]
    parts += [f"self_attn.{name}_proj.weight" for name in "qkvo"]
    if config.get("bias", True):
        parts += [f"self_attn.{name}_proj.bias" for name in "qkvo"]
    wanted = {f"model.layers.{i}.{part}" for i in range(config["num_hidden_layers"]) for part in parts}
    wanted |= {"model.embed_tokens.weight", "model.norm.weight"}
    if not config.get("tie_word_embeddings"):
        wanted.add("lm_head.weight")
    if wanted != names:
        name = min(wanted ^ names)
        what = "is missing" if name in wanted else "is more than config.json names"
        raise InputError(f"{source}: {name} {what}; the weights and config.json are not of one model")
    return specs
