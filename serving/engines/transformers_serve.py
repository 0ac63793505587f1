"""How `transformers serve` is started: the engine on a machine without a GPU.

What it does (read in its source, 5.23, and measured):
- With continuous batching the first request's sampling settings hold for every later one, and `stop` is not
  looked at. So the engine is told to decode greedily, once, by the probe that waits for it, and the gateway
  sends it no sampling field; the gateway itself watches for stop strings.
- A request that does not fit the key-value cache kills the batching thread for good, not only itself. Hence
  `context_tokens`: the gateway refuses such a request.
- It sizes that cache by the free memory, 60 per cent of it; two engines would ask for all of it and more.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from data.errors import InputError
from serving.engines.engine import Command, Engine
from serving.engines.model_folder import longest_sequence, tokenizer_of

Dtype = Literal["bfloat16", "float32"]
_PAGE_TOKENS = 256


@dataclass(frozen=True)
class TransformersSettings:
    """What may be set of a `transformers serve` process.

    Attributes:
        threads: CPU threads for its arithmetic; 0 takes every core.
        cache_tokens: Tokens that the key-value cache holds, all requests together.
        dtype: What it computes in. bfloat16 is the faster; in float32 answers should depend less on which others
            are generated at the same time (not measured).
        batch_tokens: Most tokens of one forward pass; longer prompts are taken in parts.
    """

    threads: int = 0
    cache_tokens: int = 32768
    batch_tokens: int = 2048
    dtype: Dtype = "bfloat16"


def transformers_engine(
    name: str, model: Path, port: int, settings: TransformersSettings
) -> tuple[Engine, Command]:
    """Return the engine that serves the model folder on `port` of the loopback interface, and its command.

    Raises:
        InputError: the folder is not a model that transformers can open.
    """
    positions = longest_sequence(model)
    if "@" in model.name:
        raise InputError(f"{model}: transformers reads '@' in a name as a revision; rename the folder")
    # Relative to its parent, because an '@' may also be in the path. `-P` keeps that folder out of sys.path.
    reference = f"./{model.name}"
    argv = (
        *(sys.executable, "-P", "-m", "transformers.cli.transformers", "serve", reference),
        *("--continuous-batching", "--device", "cpu", "--dtype", settings.dtype),
        *("--attn-implementation", "sdpa"),
        *("--cb-num-blocks", str(-(-settings.cache_tokens // _PAGE_TOKENS))),
        *("--cb-max-batch-tokens", str(settings.batch_tokens)),
        *("--host", "127.0.0.1", "--port", str(port)),
    )
    engine = Engine(
        name=name,
        base_url=f"http://127.0.0.1:{port}/v1",
        model=reference,
        accepts=frozenset({"tools", "chat_template_kwargs"}),
        samples=False,
        context_tokens=min(positions, settings.cache_tokens),
        tokenizer=tokenizer_of(model),
    )
    return engine, Command(argv, _environment(settings.threads or os.cpu_count() or 1), str(model.parent))


def _environment(threads: int) -> dict[str, str]:
    return {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        # Otherwise the command line asks the package index for a newer version.
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        "DO_NOT_TRACK": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": str(threads),
        # Two engines share the cores: a thread with nothing to do must not spin on one.
        "OMP_WAIT_POLICY": "passive",
    }
