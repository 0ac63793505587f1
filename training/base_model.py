"""The frozen base model on its device: loading it, in 4 bits too, and what it takes to train on it there.

The only file that imports bitsandbytes and liger-kernel. Knows nothing of adapters.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from data.errors import InputError
from data.models.arithmetic import gains_by_bfloat16
from data.models.capacity import available_memory
from training import varlen
from training.config import TrainSection


def device_of(config: TrainSection) -> torch.device:
    """Return the device that the settings ask for.

    Raises:
        InputError: CUDA is asked for and there is none.
    """
    has_cuda = torch.cuda.is_available()
    if config.device == "cuda" and not has_cuda:
        raise InputError(
            f"train.device: 'cuda', and torch {torch.__version__} finds no CUDA device; "
            "install a CUDA build of torch, or set train.device: auto"
        )
    if config.device == "cpu" or not has_cuda:
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device())


def with_dtype(config: TrainSection, weights_bytes: int = 0) -> TrainSection:
    """Return the settings with `dtype` decided for this machine.

    Args:
        weights_bytes: what training is thought to need with the base in 16 bits, in all processes of this machine.
    """
    if config.dtype != "auto":
        return config
    dtype = "bfloat16"
    if device_of(config).type == "cpu" and not gains_by_bfloat16():
        available = available_memory()
        if available is None or 2 * weights_bytes <= available:
            dtype = "float32"
    return config.model_copy(update={"dtype": dtype})


def uses_varlen(config: TrainSection) -> bool:
    """Return whether conversations are kept apart by their lengths rather than by a mask."""
    if config.attention != "auto":
        return config.attention == "varlen"
    return device_of(config).type == "cuda" and config.dtype == "bfloat16"


def load_base(folder: Path, config: TrainSection) -> Any:
    """Load a causal language model in the settings' dtype and quantisation onto their device.

    Raises:
        InputError: no CUDA device, or no bitsandbytes, where one is asked for.
    """
    device = device_of(config)
    settings: dict[str, Any] = {}
    if config.quantization:
        settings["quantization_config"] = _four_bits(config, device)
    # In ZeRO stage 3 DeepSpeed places each process's part of the weights.
    if config.distributed.zero_stage < 3 and (config.quantization or device.type == "cuda"):
        settings["device_map"] = {"": device}
    model: Any = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=getattr(torch, config.dtype),
        attn_implementation=varlen.register() if uses_varlen(config) else "sdpa",
        use_safetensors=True,
        local_files_only=True,
        **settings,
    )
    return model


def _four_bits(config: TrainSection, device: torch.device) -> Any:
    require_bitsandbytes(device)
    from transformers import BitsAndBytesConfig

    settings: Any = BitsAndBytesConfig
    return settings(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, config.dtype),
    )


def require_bitsandbytes(device: torch.device) -> None:
    """Check that bitsandbytes is there, and make it safe for training on a CPU.

    Raises:
        InputError: it is not installed.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        raise InputError(
            "train.quantization: nf4 needs bitsandbytes; `pip install 'groundtune[qlora]'`, or set it to null"
        )
    if device.type == "cpu":
        print(
            "warning: train.quantization: nf4 on a CPU saves memory and is slower; bfloat16 is the better "
            "choice where the base fits",
            file=sys.stderr,
        )
        import bitsandbytes.nn.modules as modules

        # Where the CPU has AVX512-BF16, a forward pass without gradient repacks the weights for a kernel that
        # has no backward pass; training after it would fail.
        modules.has_avx512bf16 = lambda: False


def apply_liger(model: Any, config: TrainSection) -> bool:
    """Let liger-kernel's fused kernels take the place of the model's own; returns whether they do.

    Raises:
        InputError: they are asked for outright and are not installed or do not know the model.
    """
    device = device_of(config)
    if config.liger is False or (config.liger == "auto" and device.type != "cuda"):
        return False
    try:
        from liger_kernel.transformers.monkey_patch import _apply_liger_kernel_to_instance
    except ImportError as error:
        if config.liger == "auto":
            return False
        raise InputError(f"train.liger: true, and liger-kernel cannot be imported ({error})") from error
    try:
        # The loss is answer_loss's own.
        _apply_liger_kernel_to_instance(model=model, fused_linear_cross_entropy=False)
    except (TypeError, AttributeError, ImportError, RuntimeError) as error:
        if config.liger == "auto":
            print(f"note: liger-kernel does not take this model ({error}); going on without", file=sys.stderr)
            return False
        raise InputError(f"train.liger: true, and liger-kernel does not take this model: {error}") from error
    return True


def needs_checkpointing(model: Any, config: TrainSection, num_layers: int, *, has_liger: bool) -> bool:
    """Return whether the activations of one full pack through `num_layers` layers would not fit in memory."""
    if config.gradient_checkpointing != "auto":
        return config.gradient_checkpointing
    shape = model.config
    size_bytes = 2 if config.dtype == "bfloat16" else 4
    # What a layer keeps for its backward pass, a token: the outputs of norms, projections and rotations, and
    # gate, up and their product; the unfused norms keep float32 copies, the unfused MLP one more product.
    of_hidden, of_inner = (10, 3) if has_liger else (24, 5)
    kept = num_layers * size_bytes * (of_hidden * shape.hidden_size + of_inner * shape.intermediate_size)
    device = device_of(config)
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else available_memory()
    return free is not None and kept * max(config.pack_tokens, config.max_tokens) > 0.85 * free
