"""`groundtune bench retrieval`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Annotated

import typer

from data.options import JsonOption, MapOption, parse_mapping

_SAMPLE = Path(__file__).parents[2] / "data" / "知识库内容.xlsx"


def retrieval(
    workbook: Annotated[Path, typer.Argument(help="Rows are made of this workbook's.")] = _SAMPLE,
    rows: Annotated[
        list[int] | None,
        typer.Option("--rows", min=10, help="How many rows; may be repeated. Default: 10,000 and 100,000."),
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="The embedding model's folder; default: the fetched one.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads that embed a question.")] = 2,
    embed: Annotated[
        int, typer.Option(help="Up to so many rows are embedded; above, vectors are made of others.")
    ] = 10_000,
    whole: Annotated[
        int,
        typer.Option(help="Up to so many rows a whole index; above, the dense and the lexical stage alone."),
    ] = 200_000,
    at_most: Annotated[
        float, typer.Option(help="Seconds after which a build above --whole stops, to go on in the next run.")
    ] = 1e9,
    mapping: MapOption = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the indexes, for another run.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="The result's file; its picture is beside it. Default: var/bench/retrieval.json."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Time searches by the number of rows, against LangChain with Chroma as its tutorial has it.

    What --out holds already is not measured again.
    """
    from benchmarks.retrieval.flow import SearchPlan, run_searches
    from data.models.config import ModelsConfig
    from data.models.folder import resolve_model
    from data.workspace import open_workspace

    workspace = open_workspace()
    folder = workspace.root / "bench" / "retrieval"
    sizes = sorted(rows or (10_000, 100_000))
    embedding = model or resolve_model(workspace, ModelsConfig().embedding)
    path = out or workspace.root / "bench" / "retrieval.json"
    plan = SearchPlan(
        workbook=workbook,
        mapping=parse_mapping(mapping),
        embedding=embedding.resolve(),
        sizes=sizes,
        most_embedded=embed,
        most_indexed=whole,
        threads=threads,
        at_most_s=at_most,
        folder=folder,
        out=path,
    )
    more = "".join(f" --map {text}" for text in mapping or ())
    asked = " ".join(f"--rows {size}" for size in sizes)
    command = f"groundtune bench retrieval {workbook.name} {asked} --threads {threads}{more}"
    result = run_searches(plan, command)
    if not keep:
        shutil.rmtree(folder, ignore_errors=True)
    if as_json:
        print(json.dumps(result, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("", "rows", "vectors", "", "p50 ms", "p99 ms", "recall@10", "memory MB", "build s")
    for run in result["runs"]:
        facts = [
            "–" if run[name] is None else str(run[name]) for name in ("recall@10", "memory_mb", "build_s")
        ]
        for part, times in run["times_ms"].items():
            took = (f"{times[share]:.2f}" for share in ("p50", "p99"))
            table.add_row(run["system"], f"{run['rows']:,}", run["vectors"], part, *took, *facts)
    Console().print(table)
    print(path)
