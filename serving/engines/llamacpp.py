"""How llama.cpp is started with a GGUF file: the fast engine for one person on a CPU.

Either a `llama-server` binary, or the same server out of the Python package xllamacpp (llamacpp_host).

Which file: the one that the configuration names; else FOLDER.gguf beside the model's folder (RUN/merged.gguf for
RUN/merged); else the only *.gguf in the folder.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from data.config import Section
from data.errors import InputError
from serving.engines.engine import Command, Engine
from serving.engines.model_folder import tokenizer_of

_HOST = Path(__file__).with_name("llamacpp_host.py")
CacheType = Literal["f16", "q8_0", "q4_0"]
# Read in llama.cpp's server: each is acted on.
_ACCEPTS = frozenset(
    {
        "chat_template_kwargs",
        "frequency_penalty",
        "logit_bias",
        "logprobs",
        "min_p",
        "presence_penalty",
        "response_format",
        "seed",
        "stop",
        "stream_options",
        "temperature",
        "tool_choice",
        "tools",
        "top_k",
        "top_logprobs",
        "top_p",
    }
)


class LlamacppSection(Section):
    """What may be set of a llama.cpp process."""

    gguf: Annotated[dict[Literal["base", "tuned"], str], Field(default_factory=dict)]
    """The file of each model; default: FOLDER.gguf beside its folder, or the only *.gguf in it."""
    binary: str | None = None
    """A llama-server to run; default: xllamacpp's."""
    python: str | None = None
    """The interpreter of the environment that xllamacpp is installed in; default: this one."""
    context: Annotated[int, Field(ge=256)] = 16384
    """Tokens in the key-value cache, all requests together."""
    parallel: Annotated[int, Field(ge=1)] = 4
    """Requests answered at once; each has an equal part of `context`, which is the longest that it may be."""
    gpu_layers: Annotated[int, Field(ge=0)] = 0
    """Layers of the model that are computed on a GPU."""
    cache_type_k: CacheType = "f16"
    """How keys are kept in the cache."""
    cache_type_v: CacheType = "f16"
    """How values are kept in the cache; less than f16 needs flash attention, which llama.cpp chooses itself."""
    extra_args: tuple[str, ...] = ()
    """Further arguments of llama-server; only with `binary`."""


def gguf_of(name: str, model: Path, named: Mapping[Any, str]) -> Path:
    """Return the GGUF file of a model, by the rule above.

    Raises:
        InputError: it is not there, or there are several.
    """
    if name in named:
        path = Path(named[name]).resolve()
        if not path.is_file():
            raise InputError(f"serve.llamacpp.gguf.{name}: {path}: no such file")
        return path
    beside = model.with_name(f"{model.name}.gguf")
    if beside.is_file():
        return beside
    inside = sorted(model.glob("*.gguf"))
    if len(inside) != 1:
        found = f"several in it ({', '.join(path.name for path in inside)})" if inside else "none in it"
        raise InputError(
            f"{model}: no {beside.name} beside the folder and {found}; "
            f"name the file in serve.llamacpp.gguf.{name}"
        )
    return inside[0]


def llamacpp_engine(
    name: str, model: Path, port: int, config: LlamacppSection, threads: int = 0
) -> tuple[Engine, Command]:
    """Return the engine that serves the model's GGUF on `port` of the loopback interface, and its command.

    `threads`: 0 takes every core.

    Raises:
        InputError: there is no GGUF file.
    """
    gguf = gguf_of(name, model, config.gguf)
    threads = threads or os.cpu_count() or 1
    if config.binary is not None:
        argv: tuple[str, ...] = (
            *(config.binary, "--model", str(gguf), "--alias", name),
            *("--host", "127.0.0.1", "--port", str(port)),
            *("--ctx-size", str(config.context), "--parallel", str(config.parallel)),
            *("--threads", str(threads), "--threads-batch", str(threads)),
            *("--n-gpu-layers", str(config.gpu_layers)),
            *("--cache-type-k", config.cache_type_k, "--cache-type-v", config.cache_type_v),
            *("--jinja", "--offline", "--no-webui", "--metrics", *config.extra_args),
        )
    else:
        told = {
            "model": str(gguf),
            "alias": name,
            "port": port,
            "context": config.context,
            "parallel": config.parallel,
            "threads": threads,
            "gpu_layers": config.gpu_layers,
            "cache_type_k": config.cache_type_k,
            "cache_type_v": config.cache_type_v,
        }
        argv = (config.python or sys.executable, "-I", str(_HOST), json.dumps(told))
    engine = Engine(
        name=name,
        base_url=f"http://127.0.0.1:{port}/v1",
        model=name,
        accepts=_ACCEPTS,
        context_tokens=config.context // config.parallel,
        tokenizer=tokenizer_of(model),
    )
    return engine, Command(argv, {"PYTHONUNBUFFERED": "1"}, str(gguf.parent), files=(gguf,))
