"""`groundtune bench gateway`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from data.options import JsonOption


def gateway(
    litellm: Annotated[
        Path | None,
        typer.Option(help="LiteLLM's program, from an environment of its own; left out where not given."),
    ] = None,
    seconds: Annotated[float, typer.Option(min=1, help="Of each measurement of latency.")] = 10.0,
    out: Annotated[
        Path | None,
        typer.Option(help="The result's file; its picture is beside it. Default: var/bench/gateway.json."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure what the gateway costs: requests and streamed events a second, added time, against LiteLLM's."""
    from benchmarks.gateway.chart import draw_gateways
    from benchmarks.gateway.flow import GatewayPlan, run_gateways
    from data.artefacts import write_json
    from data.workspace import open_workspace

    if litellm is not None:
        litellm = litellm.absolute()
        if not litellm.is_file():
            from data.errors import UsageError

            raise UsageError(
                f"--litellm {str(litellm)!r}: no such program; install litellm[proxy] and name it"
            )
    result = run_gateways(GatewayPlan(litellm, seconds))
    path = out or open_workspace().root / "bench" / "gateway.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, result)
    draw_gateways(result, path.with_suffix(".png"))
    if as_json:
        print(json.dumps(result, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("", "requests/s", "streamed/s", "events/s", "added p50 ms", "added p99 ms")
    for name, found in result["systems"].items():
        rates = (found["throughput"][kind]["per_second"] for kind in ("whole", "streamed"))
        added = found["added_ms"]["whole"]
        table.add_row(
            name,
            *(f"{rate:,.0f}" for rate in rates),
            f"{found['events_per_s']:,}",
            f"{added['p50']:.2f}",
            f"{added['p99']:.2f}",
        )
    Console().print(table)
    print(f"result: {path}")
