"""One run: its configuration, models, environments, dataset, adapter, merged model, index, server and port."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

from data.config import section, settle_config
from data.diff.stale import stale_answers
from data.errors import GroundTuneError
from data.manifest import folder_digest, missing_files, read_manifest
from data.models.config import ModelsConfig
from data.records import Row, read_records
from data.workspace import Run, Workspace
from rag.endpoint import embedding_folder
from rag.versions import current_version, version_folder
from serving.doctor.environments import check_environments
from serving.doctor.findings import Finding
from serving.settings import ServeSection
from serving.state import running_url

_STEPS = (
    ("dataset", "data prepare"),
    ("adapter", "train run"),
    ("merged", "train merge"),
)


def check_run(workspace: Workspace, run: Run, *, port: int, deep: bool) -> Iterator[Finding]:
    """Yield what there is to say of `run`; `deep` reads every file and compares its digest.

    `port` is the one that a server of this run would listen on.
    """
    try:
        raw = settle_config(run, None, ())
        models = section(raw, "models", ModelsConfig)
        section(raw, "serve", ServeSection)
    except GroundTuneError as error:
        yield Finding("configuration", "fault", str(error), f"mend or remove {run.config}")
        return
    yield Finding("configuration", "ok", str(run.config) if run.config.is_file() else "the defaults")
    yield _model(workspace, "base model", models.base, deep=deep)
    embedding = _model(workspace, "embedding model", models.embedding, deep=deep)
    yield embedding
    yield from check_environments(workspace, run, raw)
    for name, command in _STEPS:
        yield _step(getattr(run, name), name, f"groundtune {command} --name {run.name}", deep=deep)
    yield _index(workspace, run, models.embedding if embedding.state == "ok" else None, deep=deep)
    yield from _stale(run)
    yield _server(run, port)


def _model(workspace: Workspace, subject: str, name: str, *, deep: bool) -> Finding:
    try:
        folder = embedding_folder(workspace, name)
    except GroundTuneError as error:
        return Finding(subject, "fault", str(error), f"run `groundtune models fetch {name}`")
    if wrong := _damage(folder, deep=deep):
        return Finding(
            subject,
            "fault",
            f"{folder}: {wrong}",
            f"remove {folder} and run `groundtune models fetch {name}`",
        )
    return Finding(subject, "ok", f"{name} in {folder}")


def _step(folder: Path, name: str, command: str, *, deep: bool) -> Finding:
    if read_manifest(folder) is None:
        return Finding(name, "note", f"{folder}: not made yet", f"run `{command}`")
    if wrong := _damage(folder, deep=deep):
        return Finding(name, "fault", f"{folder}: {wrong}", f"run `{command}` again")
    return Finding(name, "ok", str(folder))


def _index(workspace: Workspace, run: Run, embedding: str | None, *, deep: bool) -> Finding:
    command = f"groundtune rag index --name {run.name}"
    version = current_version(run.index)
    if version is None:
        return Finding("index", "note", f"{run.index}: none", f"run `{command}`")
    folder = version_folder(run.index, version)
    manifest = read_manifest(folder)
    if manifest is None or (wrong := _damage(folder, deep=False)):
        return Finding("index", "fault", f"{folder}: {wrong if manifest else 'gone'}", f"run `{command}`")
    if embedding is not None and manifest.inputs.get("embedding") != folder_digest(
        embedding_folder(workspace, embedding)
    ):
        return Finding(
            "index", "fault", f"{folder}: made with another embedding model", f"run `{command}` again"
        )
    if deep:
        from rag.check import check_version

        try:
            check_version(folder)
        except GroundTuneError as error:
            return Finding("index", "fault", str(error), f"run `{command}` again")
    dataset = read_manifest(run.dataset)
    rows = dataset.files.get("rows.jsonl") if dataset else None
    if rows is not None and rows.sha256 != manifest.inputs.get("rows"):
        return Finding(
            "index",
            "note",
            f"version {version} was made of other rows than the dataset's",
            f"run `{command}`",
        )
    return Finding("index", "ok", f"version {version}, {manifest.facts.get('num_rows')} rows")


def _stale(run: Run) -> Iterator[Finding]:
    """Compare what the tuned model learned with the index's rows."""
    version = current_version(run.index)
    if version is None or read_manifest(run.merged) is None:
        return
    again = f"run `groundtune train run --name {run.name}` and `groundtune train merge --name {run.name}`"
    try:
        rows = read_records(version_folder(run.index, version) / "rows.jsonl", Row)
        found = stale_answers(run, rows)
    except GroundTuneError as error:
        yield Finding("tuned model", "fault", str(error), again)
        return
    if found is None:
        detail = "which answers it learned cannot be told: those that have changed since may be old"
        yield Finding("tuned model", "note", detail, again)
    elif found:
        detail = (
            f"learned {len(found)} answers that have changed since; asked about them, tuned answers from rows"
        )
        yield Finding("tuned model", "note", detail, again)
    else:
        yield Finding("tuned model", "ok", "every answer that it learned is still so")


def _damage(folder: Path, *, deep: bool) -> str:
    """Return what is wrong with a folder that has a manifest; "" where nothing is, or where it has none."""
    from data.artefacts import sha256_file

    manifest = read_manifest(folder)
    if manifest is None:
        return ""
    if missing := missing_files(folder, manifest):
        return f"{missing[0]} is gone or has another size"
    if deep:
        for name, stamp in manifest.files.items():
            if sha256_file(folder / name) != stamp.sha256:
                return f"{name} has another content than was recorded"
    return ""


def _server(run: Run, port: int) -> Finding:
    if url := running_url(run):
        return Finding("server", "ok", f"up at {url}")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return Finding(
                "server",
                "fault",
                f"not up, and port {port} is taken by another program",
                "stop it, or choose another port: `groundtune serve --port 0` takes a free one",
            )
    return Finding("server", "ok", f"not up; port {port} is free")
