"""How LMDeploy's api_server is started with the TurboMind engine: the engine on a machine with a GPU.

What it does (0.18, read in its source):
- The share of memory for the key-value cache is of what is free when it starts. Engines on one GPU are therefore
  started one after the other, and each is given a share that leaves the others as much.
- TurboMind takes no LoRA adapter: it serves merged models.
- `--max-concurrent-requests` lets further requests wait without bound, so it is not used: the gateway bounds.
- It listens to pages of every origin unless told otherwise, and logs prompts at level INFO.
- presence_penalty, frequency_penalty and logit_bias are in its request schema and change nothing.

The interpreter is LMDeploy's own where it lives in an environment of its own: its pins exclude this project's.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from data.config import Section
from serving.engines.engine import Command, Engine
from serving.engines.model_folder import longest_sequence, tokenizer_of

_SAMPLING = frozenset({"seed", "stop", "stream_options", "temperature", "top_p"})
_OTHERS = frozenset(
    {
        "chat_template_kwargs",
        "logprobs",
        "min_p",
        "repetition_penalty",
        "response_format",
        "top_k",
        "top_logprobs",
    }
)
_TOOLS = frozenset({"tool_choice", "tools"})


class LmdeploySection(Section):
    """What may be set of an LMDeploy process; what is left out keeps LMDeploy's own default."""

    python: str | None = None
    """The interpreter of the environment that LMDeploy is installed in; default: this one."""
    devices: tuple[str, ...] = ()
    """GPUs of each engine, in the order base, tuned, as CUDA_VISIBLE_DEVICES has them ("0", "0,1"); default: all
    engines share those that are visible. The list is gone through again where there are more engines."""
    tp: Annotated[int, Field(ge=1)] = 1
    """GPUs over which the weights of one engine are split."""
    dp: Annotated[int, Field(ge=1)] = 1
    """Data parallel groups of one engine."""
    cp: Annotated[int, Field(ge=1)] = 1
    """GPUs over which the context of one sequence is split."""
    ep: Annotated[int, Field(ge=1)] = 1
    """GPUs over which the experts of a mixture are split."""
    communicator: Literal["nccl", "native", "cuda-ipc"] | None = None
    """How GPUs of one engine talk."""
    session_len: Annotated[int, Field(ge=1)] | None = None
    """Most tokens of one request, prompt and answer; default: what the model was made for."""
    max_batch_size: Annotated[int, Field(ge=1)] | None = None
    """Most sequences generated at once; serve.max_running should be no less, or it is never reached."""
    cache_max_entry_count: Annotated[float, Field(gt=0, lt=1)] = 0.8
    """Share of the memory left beside the weights for the key-value caches of all engines on a GPU together."""
    cache_block_seq_len: Annotated[int, Field(ge=1)] | None = None
    """Tokens of one block of that cache."""
    quant_policy: Literal[0, 4, 8] = 0
    """Bits of the key-value cache; 0: as the model computes."""
    enable_prefix_caching: bool = True
    """Whether a prompt's beginning that was seen before is not computed again: system prompt and rows of RAG."""
    model_format: Literal["hf", "awq", "gptq", "compressed-tensors", "fp8", "mxfp4"] | None = None
    """How the weights are stored; default: what the model says."""
    dtype: Literal["auto", "float16", "bfloat16"] | None = None
    """What it computes in."""
    max_prefill_token_num: Annotated[int, Field(ge=1)] | None = None
    """Most tokens of prompts in one forward pass."""
    num_tokens_per_iter: Annotated[int, Field(ge=0)] | None = None
    """Most tokens of one forward pass."""
    max_prefill_iters: Annotated[int, Field(ge=1)] | None = None
    """Most forward passes that one prompt is spread over."""
    rope_scaling_factor: Annotated[float, Field(ge=0)] | None = None
    """Factor by which positions are scaled (dynamic NTK)."""
    use_async: bool = True
    """Whether the GPU's next step is prepared while it computes (`--async`)."""
    chat_template: str | None = None
    """A template's name in LMDeploy or a file; default: the model's own."""
    tool_call_parser: str | None = None
    """Which of LMDeploy's parsers reads tool calls; without one, requests with tools are refused."""
    reasoning_parser: str | None = None
    """Which of LMDeploy's parsers sets a model's thoughts apart."""
    enable_metrics: bool = True
    """Whether it counts for /metrics of its own port."""
    log_level: Literal["CRITICAL", "ERROR", "WARNING", "INFO", "DEBUG"] = "WARNING"
    """How much it writes into engine-NAME.log."""
    max_log_len: Annotated[int, Field(ge=0)] = 0
    """Characters of a prompt that it may write there, at level INFO."""
    extra_args: tuple[str, ...] = ()
    """Further arguments of `lmdeploy serve api_server`, as they are; they come last."""


@dataclass(frozen=True)
class Seat:
    """Where one engine runs among those that start together.

    Attributes:
        devices: Its CUDA_VISIBLE_DEVICES; None leaves the environment's.
        index: How many engines take memory on the same GPUs before it.
        count: How many engines share these GPUs.
    """

    devices: str | None = None
    index: int = 0
    count: int = 1


def seats(count: int, devices: tuple[str, ...]) -> list[Seat]:
    """Return the place of each of `count` engines."""
    places = [devices[number % len(devices)] if devices else None for number in range(count)]
    return [
        Seat(place, places[:number].count(place), places.count(place)) for number, place in enumerate(places)
    ]


def lmdeploy_engine(
    name: str, model: Path, port: int, config: LmdeploySection, seat: Seat | None = None
) -> tuple[Engine, Command]:
    """Return the engine that serves the model folder on `port` of the loopback interface, and its command.

    Raises:
        InputError: the folder is not a model.
    """
    seat = seat or Seat()
    positions = longest_sequence(model)
    argv = (
        *(config.python or sys.executable, "-P", "-m", "lmdeploy", "serve", "api_server", str(model)),
        *("--backend", "turbomind", "--server-name", "127.0.0.1", "--server-port", str(port)),
        *("--model-name", name, "--allow-origins", "http://127.0.0.1", "--disable-fastapi-docs"),
        *_flags(config, seat),
        *config.extra_args,
    )
    engine = Engine(
        name=name,
        base_url=f"http://127.0.0.1:{port}/v1",
        model=name,
        accepts=_SAMPLING | _OTHERS | (_TOOLS if config.tool_call_parser else frozenset()),
        context_tokens=min(positions, config.session_len or positions),
        tokenizer=tokenizer_of(model),
    )
    return engine, Command(argv, _environment(seat), str(model.parent), in_turn=seat.count > 1)


def _flags(config: LmdeploySection, seat: Seat) -> list[str]:
    """Return the flags of everything that is set."""
    values = {
        "tp": config.tp,
        "dp": config.dp,
        "cp": config.cp,
        "ep": config.ep,
        "communicator": config.communicator,
        "session-len": config.session_len,
        "max-batch-size": config.max_batch_size,
        "cache-max-entry-count": round(cache_share(config.cache_max_entry_count, seat), 4),
        "cache-block-seq-len": config.cache_block_seq_len,
        "quant-policy": config.quant_policy,
        "model-format": config.model_format,
        "dtype": config.dtype,
        "max-prefill-token-num": config.max_prefill_token_num,
        "num-tokens-per-iter": config.num_tokens_per_iter,
        "max-prefill-iters": config.max_prefill_iters,
        "rope-scaling-factor": config.rope_scaling_factor,
        "async": int(config.use_async),
        "chat-template": config.chat_template,
        "tool-call-parser": config.tool_call_parser,
        "reasoning-parser": config.reasoning_parser,
        "log-level": config.log_level,
        "max-log-len": config.max_log_len,
    }
    switches = {
        "enable-prefix-caching": config.enable_prefix_caching,
        "disable-metrics": not config.enable_metrics,
    }
    flags = [
        word for flag, value in values.items() if value is not None for word in (f"--{flag}", str(value))
    ]
    return flags + [f"--{flag}" for flag, is_on in switches.items() if is_on]


def cache_share(whole: float, seat: Seat) -> float:
    """Return the share of what is free when the engine starts that is its part of the `whole` share.

    Two engines that take 0.8 together: the first 0.4 of all, the second 0.4 of all too, which is two thirds of
    the 0.6 that is left.
    """
    part = whole / seat.count
    return part / (1 - seat.index * part)


def _environment(seat: Seat) -> dict[str, str]:
    environment = {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
    }
    return environment if seat.devices is None else {**environment, "CUDA_VISIBLE_DEVICES": seat.devices}
