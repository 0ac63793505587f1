"""The environments of engines and trainers that a run is configured for, and servers that it counts on.

An environment of its own is asked through its interpreter: which version of the package it holds.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx

from data.config import RawConfig, section
from data.errors import GroundTuneError
from data.models.config import ModelsConfig
from data.models.folder import resolve_model
from data.workspace import Run, Workspace
from serving.doctor.findings import Finding
from serving.engines.llamacpp import gguf_of
from serving.settings import ServeSection, Weights

_VERSION = "from importlib.metadata import version; print(version({package!r}))"
_ASK_S = 30.0
_REACH_S = 3.0
_DRIVER = Path("/proc/driver/nvidia/version")


def check_environments(workspace: Workspace, run: Run, raw: RawConfig) -> Iterator[Finding]:
    """Yield what there is to say of the configured engine, of external servers and of the trainer's environment."""
    serve = section(raw, "serve", ServeSection)
    if serve.engine == "lmdeploy":
        yield from _lmdeploy(serve)
    elif serve.engine == "llamacpp":
        yield from _llamacpp(workspace, run, raw, serve)
    else:
        yield _package("engine transformers", sys.executable, "transformers", "run `make clean install`")
    for name, endpoint in serve.external.items():
        for url in endpoint.urls:
            yield _external(name, url, endpoint.api_key_variable)
    train = raw.get("train", {})
    xtuner = raw.get("xtuner", {}).get("environment") or workspace.root / "envs" / "xtuner"
    if train.get("backend") == "xtuner" or Path(xtuner).is_dir():
        yield _package(
            "environment xtuner",
            str(Path(xtuner) / "bin" / "python"),
            "xtuner",
            "run `groundtune train env xtuner`",
        )


def _lmdeploy(serve: ServeSection) -> Iterator[Finding]:
    fix = "install lmdeploy into an environment of its own and name its interpreter in serve.lmdeploy.python"
    yield _package("engine lmdeploy", serve.lmdeploy.python or sys.executable, "lmdeploy", fix)
    if not _DRIVER.is_file():
        yield Finding(
            "engine lmdeploy, GPU",
            "fault",
            "TurboMind needs an NVIDIA GPU, and there is no driver for one",
            "set serve.engine to transformers or llamacpp, or install NVIDIA's driver",
        )


def _llamacpp(workspace: Workspace, run: Run, raw: RawConfig, serve: ServeSection) -> Iterator[Finding]:
    config = serve.llamacpp
    if config.binary is not None:
        there = os.access(config.binary, os.X_OK)
        yield Finding(
            "engine llamacpp",
            "ok" if there else "fault",
            config.binary if there else f"{config.binary}: no such program",
            "" if there else "install llama.cpp's llama-server and name it in serve.llamacpp.binary",
        )
    else:
        fix = "run `pip install xllamacpp`, or name an interpreter that has it in serve.llamacpp.python"
        yield _package("engine llamacpp", config.python or sys.executable, "xllamacpp", fix)
    folders: dict[Weights, Path] = {}
    try:
        if "base" not in serve.external:
            folders["base"] = resolve_model(workspace, section(raw, "models", ModelsConfig).base)
    except GroundTuneError:
        pass  # told by the check of the base model
    if "tuned" not in serve.external and (run.merged / "config.json").is_file():
        folders["tuned"] = run.merged.resolve()
    for name, folder in folders.items():
        try:
            gguf = gguf_of(name, folder, config.gguf)
        except GroundTuneError as error:
            command = f"models fetch {folder.name} --keep-gguf" if name == "base" else "train export"
            yield Finding(f"GGUF of {name}", "fault", str(error), f"run `groundtune {command}`")
        else:
            yield Finding(f"GGUF of {name}", "ok", f"{gguf}, {gguf.stat().st_size / 1e9:.2f} GB")


def _external(name: str, url: str, key_variable: str | None) -> Finding:
    """Ask a server for its models; an answer of any kind shows that it is there."""
    subject = f"server of {name}"
    key = os.environ.get(key_variable) if key_variable is not None else None
    if key_variable is not None and not key:
        return Finding(
            subject,
            "fault",
            f"{url}: {key_variable} is not set in the environment",
            f"export {key_variable} before `groundtune serve`",
        )
    base = url.rstrip("/").removesuffix("/v1")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        status = httpx.get(f"{base}/v1/models", headers=headers, timeout=_REACH_S).status_code
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return Finding(
            subject,
            "fault",
            f"{url}: does not answer ({type(error).__name__})",
            f"start it, or correct serve.external.{name}.url",
        )
    if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        return Finding(
            subject,
            "fault",
            f"{url}: refuses the key (status {status})",
            f"name the variable that holds its key in serve.external.{name}.api_key_variable",
        )
    return Finding(subject, "ok", f"{url} answers")


def _package(subject: str, python: str, package: str, fix: str) -> Finding:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    try:
        done = subprocess.run(
            [python, "-c", _VERSION.format(package=package)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=_ASK_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding(subject, "fault", f"{python} does not run ({type(error).__name__})", fix)
    if done.returncode:
        return Finding(subject, "fault", f"{package} is not installed for {python}", fix)
    where = "" if python == sys.executable else f" in {python}"
    return Finding(subject, "ok", f"{package} {done.stdout.strip()}{where}")
