"""`groundtune rag versions` and `rollback`, and what `rag index` prints of a version."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from data.workspace import open_workspace

if TYPE_CHECKING:
    from rag.index import IndexBuild
    from rag.versions import VersionInfo

NameOption = Annotated[str, typer.Option("--name", help="The run's name under var/runs/.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def versions(
    name: NameOption = "quickstart",
    check: Annotated[
        bool,
        typer.Option("--check", help="Compare every file and every row in Chroma with what was recorded."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List the versions of the run's index, the newest first; `*` marks the current one."""
    from rag.versions import list_versions

    index = open_workspace().run(name).index
    known = list_versions(index)
    if check:
        from rag.check import check_version

        for info in known:
            check_version(info.folder)
    if as_json:
        print(json.dumps([_facts(info) for info in known], ensure_ascii=False))
        return
    if not known:
        print(f"{index}: no versions; run `groundtune rag index` first", file=sys.stderr)
    for info in known:
        made = datetime.fromtimestamp(info.made_at).astimezone().isoformat(" ", "seconds")
        facts = info.manifest.facts
        size = f"{info.size_bytes / 1e6:.1f} MB"
        mark = "*" if info.is_current else " "
        print(f"{mark} {info.version}  {made}  {facts['num_rows']} rows  {facts['embedding']}  {size}")
    if check and known:
        print(f"{len(known)} checked: whole", file=sys.stderr)


def rollback(
    version: Annotated[
        str | None, typer.Argument(help="The version to serve; default: the one made before the current one.")
    ] = None,
    name: NameOption = "quickstart",
    as_json: JsonOption = False,
) -> None:
    """Make an older version of the run's index the current one; `rag index` follows the rows again."""
    from rag.versions import current_version, roll_back

    index = open_workspace().run(name).index
    before = current_version(index)
    info = roll_back(index, version)
    if as_json:
        print(json.dumps({**_facts(info), "before": before}, ensure_ascii=False))
        return
    print(f"current version: {info.version} ({info.manifest.facts['num_rows']} rows), before: {before}")


def print_build(index: Path, build: IndexBuild, *, as_json: bool) -> None:
    """Print what `rag index` did."""
    facts = dict(build.manifest.facts)
    changes = build.changes
    if build.state == "up to date":
        print(f"index {index} up to date", file=sys.stderr)
    if as_json:
        record = {
            "index": str(index),
            "version": build.version,
            "fresh": build.state == "written",
            "state": build.state,
            "changes": asdict(changes) if changes else None,
        }
        print(json.dumps({**record, **facts}, ensure_ascii=False))
        return
    if changes:
        print(
            f"{changes.num_added} rows added, {changes.num_changed} changed, {changes.num_removed} removed; "
            f"{changes.num_embedded} texts embedded",
            file=sys.stderr,
        )
    described = f"{facts['num_rows']} rows, {facts['embedding']}, {facts['dims']} dimensions"
    print(f"index {build.state}: {index}, version {build.version} ({described})")


def _facts(info: VersionInfo) -> dict[str, object]:
    return {
        "version": info.version,
        "current": info.is_current,
        "made_at": info.made_at,
        "size_bytes": info.size_bytes,
        **info.manifest.facts,
    }
