"""Which engines this machine can run, and why it cannot run the others.

Starts no engine and loads no model.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from data.errors import GroundTuneError, UsageError
from serving.engines.engine import Command, Engine
from serving.engines.llamacpp import gguf_of, llamacpp_engine
from serving.engines.lmdeploy import lmdeploy_engine, seats
from serving.engines.model_folder import longest_sequence, tokenizer_of
from serving.engines.transformers_serve import TransformersSettings, transformers_engine
from serving.settings import ServeSection

_NAME = "base"
_LONGEST_TOKENS = 1024
_VERSION = "from importlib.metadata import version; print(version({package!r}))"
_DRIVER = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True)
class Wanted:
    """What is to be served: `concurrency` is the most requests at once, `vllm` its program (None: on the PATH)."""

    model: Path
    config: ServeSection
    concurrency: int
    vllm: Path | None = None


@dataclass(frozen=True)
class Found:
    """An engine that can be started: its version, what it computes with, and how it is started on a port."""

    name: str
    version: str
    weights: str
    start: Callable[[int], tuple[Engine, Command]]


class MissingError(Exception):
    """This machine cannot run an engine; says what it would need."""


def find_engines(wanted: Wanted, names: str) -> tuple[list[Found], dict[str, str]]:
    """Return the engines of `names` (separated by commas, or "auto": each that can run), and what others lack.

    Raises:
        UsageError: an engine is unknown, or one that was named cannot run, or none can.
    """
    chosen = list(ENGINES) if names == "auto" else [name.strip() for name in names.split(",")]
    found, missing = [], {}
    for name in chosen:
        if name not in ENGINES:
            raise UsageError(f"--engines {name!r}: choose of {', '.join(ENGINES)}, or auto")
        try:
            found.append(ENGINES[name](wanted))
        except (MissingError, GroundTuneError) as error:
            missing[name] = str(error)
    if not found or (missing and names != "auto"):
        lacks = "; ".join(f"{name}: {reason}" for name, reason in missing.items())
        raise UsageError(f"--engines {names!r}: not to be run here: {lacks}")
    return found, missing


def _transformers(wanted: Wanted) -> Found:
    settings = TransformersSettings(
        threads=wanted.config.threads_per_engine,
        dtype=wanted.config.dtype,
        cache_tokens=wanted.config.cache_tokens,
        batch_tokens=wanted.config.batch_tokens,
    )
    return Found(
        "transformers",
        _version(sys.executable, "transformers"),
        wanted.config.dtype,
        lambda port: transformers_engine(_NAME, wanted.model, port, settings),
    )


def _llamacpp(wanted: Wanted) -> Found:
    config = wanted.config.llamacpp
    gguf = gguf_of(_NAME, wanted.model, config.gguf)
    if config.binary is not None:
        version = Path(config.binary).name
    else:
        version = f"xllamacpp {_version(config.python or sys.executable, 'xllamacpp')}"
    # A place for each request, or the later ones would only wait for one.
    places = max(config.parallel, wanted.concurrency)
    roomy = config.model_copy(
        update={"parallel": places, "context": max(config.context, places * _LONGEST_TOKENS)}
    )
    size = f"{gguf.stat().st_size / 1e9:.1f} GB GGUF"
    return Found(
        "llamacpp",
        version,
        size,
        lambda port: llamacpp_engine(_NAME, wanted.model, port, roomy, wanted.config.threads_per_engine),
    )


def _vllm(wanted: Wanted) -> Found:
    program = str(wanted.vllm) if wanted.vllm is not None else shutil.which("vllm")
    if program is None or not os.access(program, os.X_OK):
        raise MissingError("no vllm on the PATH; install it into an environment of its own and give --vllm")
    length = str(min(longest_sequence(wanted.model), _LONGEST_TOKENS * 4))

    def start(port: int) -> tuple[Engine, Command]:
        argv = (
            *(program, "serve", str(wanted.model), "--served-model-name", _NAME),
            *("--host", "127.0.0.1", "--port", str(port), "--max-model-len", length),
            *("--dtype", wanted.config.dtype),
        )
        engine = Engine(
            _NAME,
            f"http://127.0.0.1:{port}/v1",
            _NAME,
            frozenset({"stream_options"}),
            tokenizer=tokenizer_of(wanted.model),
        )
        environment = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
        return engine, Command(argv, environment, str(wanted.model.parent))

    python = Path(program).with_name("python")
    return Found("vllm", _version(str(python), "vllm"), wanted.config.dtype, start)


def _lmdeploy(wanted: Wanted) -> Found:
    config = wanted.config.lmdeploy
    if not _DRIVER.is_file():
        raise MissingError("TurboMind needs an NVIDIA GPU, and this machine has no driver for one")
    version = _version(config.python or sys.executable, "lmdeploy")
    (seat,) = seats(1, config.devices)
    return Found(
        "lmdeploy",
        version,
        config.dtype or "auto",
        lambda port: lmdeploy_engine(_NAME, wanted.model, port, config, seat),
    )


ENGINES: Mapping[str, Callable[[Wanted], Found]] = {
    "transformers": _transformers,
    "llamacpp": _llamacpp,
    "vllm": _vllm,
    "lmdeploy": _lmdeploy,
}


def _version(python: str, package: str) -> str:
    """Return the version of a package in another environment.

    Raises:
        MissingError: it is not there.
    """
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    try:
        done = subprocess.run(
            [python, "-c", _VERSION.format(package=package)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MissingError(f"{python} does not run ({error})") from error
    if done.returncode:
        raise MissingError(f"no {package} in the environment of {python}")
    return done.stdout.strip()
