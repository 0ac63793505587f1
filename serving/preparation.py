"""From what was asked on the command line and what the run has made to a service that can be started."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from data.config import RawConfig, section, settle_config
from data.diff.changes import Change
from data.diff.stale import stale_answers
from data.errors import InputError, UsageError
from data.models.config import ModelsConfig
from data.models.folder import resolve_model
from data.records import Row, read_records
from data.settings import PrepareSection
from data.workspace import Run, Workspace
from rag.config import IndexSection, RetrieveSection
from rag.endpoint import embedding_folder
from rag.versions import current_version, version_folder
from serving.access.keys import read_keys
from serving.gateway.parts import GatewaySettings
from serving.lineup import make_lineup
from serving.reloading import Source
from serving.service import Knowledge, Service
from serving.settings import ServeSection, Weights

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Choices:
    """The command line of `groundtune serve`; None leaves a choice to the configuration or the run."""

    config: Path | None
    name: str
    overrides: tuple[str, ...]
    host: str
    port: int
    base: str | None
    merged: Path | None
    require_tuned: bool


def prepare_service(workspace: Workspace, choices: Choices) -> tuple[Service, list[str]]:
    """Return the service, and a line for each thing that is not served and why.

    Loads and starts nothing.

    Raises:
        UsageError: the configuration is wrong.
        InputError: a model folder is not there, or is not one.
    """
    run = workspace.run(choices.name)
    raw = settle_config(run, choices.config, choices.overrides)
    config = section(raw, "serve", ServeSection)
    models = section(raw, "models", ModelsConfig)
    notes: list[str] = []
    folders: dict[Weights, Path] = {}
    if "base" not in config.external:
        folders["base"] = resolve_model(workspace, choices.base or models.base)
    merged = choices.merged or run.merged
    if "tuned" not in config.external:
        if (merged / "config.json").is_file():
            folders["tuned"] = merged.resolve()
        elif choices.merged is not None or choices.require_tuned:
            raise InputError(
                f"{merged}: no merged model there; run `groundtune train merge --name {run.name}` first"
            )
        else:
            notes.append(f"no merged model in {merged}: tuned and tuned-rag are not served")
    open_knowledge, identity = None, None
    version = current_version(run.index)
    if version is not None:
        embedding = embedding_folder(workspace, models.embedding)
        tokenizer = _tokenizer(folders)
        open_knowledge = partial(_open_knowledge, workspace, run, embedding, raw, tokenizer)
        sections = (raw.get(name) for name in ("retrieve", "index", "prepare"))
        identity = (version, str(embedding), str(tokenizer), json.dumps(list(sections), sort_keys=True))
    else:
        notes.append(f"no index in {run.index}: base-rag and tuned-rag are not served")
    stale: Sequence[Change] = ()
    if version is not None and (choices.merged is None or "tuned" in config.external):
        stale = _stale(run, version, notes)
    lineup = make_lineup(config, folders, grounded=open_knowledge is not None, logs=run.logs)
    settings = GatewaySettings(
        system_prompt=section(raw, "prepare", PrepareSection).system_prompt,
        max_tokens=config.max_tokens,
        temperature=config.temperature,
        kb_id=run.name,
        embedding_id=models.embedding,
        public_url=config.public_url,
        engine_timeout_s=config.engine_timeout_s,
        ready_window_s=config.ready_window_s,
        request_timeout_s=config.request_timeout_s,
        max_requests=config.max_requests,
        max_running=config.max_running,
        max_waiting=config.max_waiting,
        wait_timeout_s=config.wait_timeout_s,
        max_body_bytes=config.max_body_bytes,
        cors_origins=config.cors_origins,
        log_prompts=config.log_prompts,
    )
    keys = _keys_file(workspace, config)
    if keys is None and choices.host not in _LOOPBACK:
        notes.append(
            f"listening on {choices.host} without keys: whoever reaches it may ask; "
            "`groundtune serve keys add NAME` makes one"
        )
    service = Service(
        lineup=lineup,
        settings=settings,
        host=choices.host,
        port=choices.port,
        start_timeout_s=config.start_timeout_s,
        run_folder=run.folder,
        open_knowledge=open_knowledge,
        index_version=version,
        index_identity=identity,
        stale=stale,
        keys=keys,
        public_paths=_public_paths(config),
        log=config.log,
    )
    return service, notes


def _stale(run: Run, version: str, notes: list[str]) -> Sequence[Change]:
    """Return what the run's tuned model learned and the index says otherwise, with a note where there is any."""
    found = stale_answers(run, read_records(version_folder(run.index, version) / "rows.jsonl", Row))
    if found is None:
        notes.append(
            "which answers the tuned model learned cannot be told: where they have changed since, tuned may still "
            "give the old ones; train and merge again"
        )
    elif found:
        notes.append(
            f"tuned learned {len(found)} answers that are no longer so: asked about these it answers from the rows; "
            f"`groundtune compare --stale-only --name {run.name}` shows them"
        )
    return found or ()


def newer_releases(workspace: Workspace, choices: Choices) -> Source:
    """Return where a service of these choices takes newer models and a newer index from."""
    run = workspace.run(choices.name)
    config = section(settle_config(run, choices.config, choices.overrides), "serve", ServeSection)
    return Source(
        prepare=lambda: prepare_service(workspace, choices)[0],
        index_version=lambda: current_version(run.index),
        follows_index=config.follow_index,
    )


def _keys_file(workspace: Workspace, config: ServeSection) -> Path | None:
    """Return the file of keys to ask for, checked; None where none was ever made.

    Raises:
        InputError: the file is not there or not one of keys.
        UsageError: there is no key in it, so that nobody could ask anything.
    """
    path = Path(config.keys_file) if config.keys_file else workspace.keys
    if config.keys_file is None and not path.exists():
        return None
    if not read_keys(path):
        raise UsageError(
            f"{path}: no key in it; add one with `groundtune serve keys add NAME`, or remove the file"
        )
    return path


def _public_paths(config: ServeSection) -> tuple[str, ...]:
    """Return the beginnings of the paths that open without a key; a load balancer has none to show."""
    rows = ("/kb/rows/",) if config.public_rows else ()
    metrics = ("/metrics",) if config.public_metrics else ()
    return ("/health/", *rows, *metrics)


def _tokenizer(folders: Mapping[Weights, Path]) -> Path | None:
    """Return the tokenizer that prompts are counted with; None where every engine stands elsewhere."""
    found = (folder / "tokenizer.json" for folder in folders.values())
    return next((path for path in found if path.is_file()), None)


def _open_knowledge(
    workspace: Workspace, run: Run, embedding: Path, raw: RawConfig, tokenizer: Path | None
) -> Knowledge:
    """Open the run's index; takes seconds, most of them for imports."""
    from rag.grounding import Grounder
    from rag.knowledge import open_index
    from rag.rerank import open_reranker
    from rag.selection import selection_of
    from rag.subjects import subjects_of
    from rag.unanswered import FILE, UnansweredLog

    retrieve = section(raw, "retrieve", RetrieveSection)
    index_settings = section(raw, "index", IndexSection)
    reranker = open_reranker(workspace, retrieve, index_settings.device)
    index = open_index(run.index, embedding, retrieve, index_settings, reranker=reranker)
    grounder = Grounder(
        index,
        system_prompt=section(raw, "prepare", PrepareSection).system_prompt,
        selection=selection_of(retrieve, tokenizer),
        refuse_below=retrieve.refuse_below,
        quote_unsupported=retrieve.quote_unsupported,
        subjects=subjects_of(index.rows),
    )
    # The first search is slow, and nothing is ready that has not worked once.
    index.search(run.name, 1)
    unanswered = UnansweredLog(run.folder / FILE, time.time) if retrieve.keep_unanswered else None
    return Knowledge(index, grounder, unanswered)
