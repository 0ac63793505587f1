"""Which models are served and which engine answers for each: from the configuration and what there is on disk."""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from data.errors import UsageError
from serving.engines.engine import Command, Engine
from serving.engines.external import external_engine
from serving.engines.llamacpp import llamacpp_engine
from serving.engines.lmdeploy import lmdeploy_engine, seats
from serving.engines.ports import free_ports
from serving.engines.supervisor import EngineProcess
from serving.engines.transformers_serve import TransformersSettings, transformers_engine
from serving.gateway.models import ModelTable, ServedModel
from serving.settings import ExternalEndpoint, ModelName, ServeSection, Weights

_GROUNDED: Mapping[Weights, ModelName] = {"base": "base-rag", "tuned": "tuned-rag"}


@dataclass(frozen=True)
class Lineup:
    """The models to serve, and the processes to start for them."""

    models: ModelTable
    processes: tuple[EngineProcess, ...]


def make_lineup(
    config: ServeSection, folders: Mapping[Weights, Path], *, grounded: bool, logs: Path
) -> Lineup:
    """Return the lineup of the given model folders and the configured external engines.

    Starts nothing. An external engine takes the place of a folder of the same name.

    Raises:
        UsageError: two models would have one id, or the variable of an external engine's key is not set.
        InputError: a folder is not a model.
    """
    engines: dict[Weights, Engine] = {name: _external(name, e) for name, e in config.external.items()}
    local = {name: folder for name, folder in folders.items() if name not in engines}
    processes = []
    for name, (engine, command) in zip(local, _local_engines(config, local), strict=True):
        engines[name] = engine
        log = logs / f"engine-{name}.log"
        identity = _identity(engine, command, local[name])
        processes.append(EngineProcess(engine, command, log, identity=identity))
    models = []
    for name in ("base", "tuned"):
        if name in engines:
            models.append(ServedModel(config.model_id(name), engines[name]))
            if grounded:
                models.append(ServedModel(config.model_id(_GROUNDED[name]), engines[name], grounded=True))
    ids = [model.model_id for model in models]
    if len(set(ids)) < len(ids):
        raise UsageError(
            f"serve.model_ids: two models have the same id ({', '.join(ids)}); give each its own"
        )
    return Lineup(ModelTable(models), tuple(processes))


def _local_engines(config: ServeSection, folders: Mapping[Weights, Path]) -> Iterator[tuple[Engine, Command]]:
    """Yield the engine of each folder and how to start it."""
    places = seats(len(folders), config.lmdeploy.devices)
    for (name, folder), port, seat in zip(folders.items(), free_ports(len(folders)), places, strict=True):
        if config.engine == "lmdeploy":
            yield lmdeploy_engine(name, folder, port, config.lmdeploy, seat)
        elif config.engine == "llamacpp":
            yield llamacpp_engine(name, folder, port, config.llamacpp, config.threads_per_engine)
        else:
            settings = TransformersSettings(
                threads=config.threads_per_engine,
                dtype=config.dtype,
                cache_tokens=config.cache_tokens,
                batch_tokens=config.batch_tokens,
            )
            yield transformers_engine(name, folder, port, settings)


def _identity(engine: Engine, command: Command, model: Path) -> Hashable:
    """Return what an engine answers by: the model's files and all of the command but the port."""
    port = str(urlsplit(engine.base_url).port)
    paths = [*sorted(path for path in model.iterdir() if path.is_file()), *command.files]
    files = tuple((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths)
    words = tuple(word.replace(port, "PORT") for word in command.argv)
    return words, tuple(sorted(command.environment.items())), command.folder, files


def _external(name: Weights, endpoint: ExternalEndpoint) -> Engine:
    key = None
    if endpoint.api_key_variable is not None:
        key = os.environ.get(endpoint.api_key_variable)
        if not key:
            raise UsageError(
                f"serve.external.{name}.api_key_variable: {endpoint.api_key_variable} is not set in the environment"
            )
    return external_engine(name, endpoint.urls, endpoint.model, key)
