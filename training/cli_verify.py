"""`groundtune train verify`: is the model that is served the model that was trained?"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from data.artefacts import write_json
from data.config import section, settle_config
from data.errors import GroundTuneError, InputError
from data.manifest import folder_digest
from data.models.config import ModelsConfig
from data.models.sources import parse_source, source_folder
from data.workspace import open_workspace


def verify(
    name: Annotated[str, typer.Option("--name", help="The run's name under var/runs/.")] = "quickstart",
    base: Annotated[str | None, typer.Option(help="Base model: a name, hf:..., or a folder.")] = None,
    adapter: Annotated[Path | None, typer.Option(help="Adapter folder; default: the run's.")] = None,
    merged: Annotated[Path | None, typer.Option(help="Merged folder; default: the run's.")] = None,
    url: Annotated[
        str | None,
        typer.Option(help="The served API, ending in /v1; default: the run's server, if it is up."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="The served model's id; default: the run's tuned model.")
    ] = None,
    prompts: Annotated[int, typer.Option("--prompts", min=1, help="Held-out questions to ask.")] = 10,
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens of each answer that are compared.")] = 32,
    margin: Annotated[
        float, typer.Option(min=0, help="Logits closer than this are a near-tie that rounding may decide.")
    ] = 0.5,
    max_kl: Annotated[
        float, typer.Option(min=0, help="Most mean KL, nats a token, between adapter-on-base and merged.")
    ] = 0.02,
    min_agree: Annotated[
        float, typer.Option(min=0, max=1, help="Least share of prompts that agree or part at a near-tie.")
    ] = 0.9,
    device: Annotated[
        str, typer.Option(help="cpu, cuda or cuda:N, for adapter-on-base and merged model.")
    ] = "cpu",
    if_changed: Annotated[
        bool, typer.Option("--if-changed", help="Do nothing where these very folders have passed before.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Compare adapter-on-base, merged folder and served API; exits 1 with the cause where they differ."""
    workspace = open_workspace()
    place = workspace.run(name)
    raw = settle_config(place, None, ())
    source = parse_source(base or section(raw, "models", ModelsConfig).base)
    folder = source_folder(workspace, source)
    for there, made_by in (
        (folder, "models fetch"),
        (adapter or place.adapter, "train run"),
        (merged or place.merged, "train merge"),
    ):
        if not there.is_dir():
            raise InputError(f"{there}: not there; run `groundtune {made_by}` first")
    path = place.folder / "parity.json"
    inputs = {
        "base": folder_digest(folder),
        "adapter": folder_digest(adapter or place.adapter),
        "merged": folder_digest(merged or place.merged),
    }
    if if_changed and _has_passed(path, inputs):
        print(path.read_text(encoding="utf-8") if as_json else f"parity gate up to date: {path}")
        return

    from training.parity.folders import Folders
    from training.parity.gate import Limits, Request, check_parity
    from training.parity.served import announced_url
    from training.progress import counted

    request = Request(
        folders=Folders(folder, adapter or place.adapter, merged or place.merged),
        dataset=place.dataset,
        num_prompts=prompts,
        max_tokens=max_tokens,
        device=device,
        limits=Limits(margin, max_kl, min_agree),
        url=url or announced_url(place.folder),
        model=model or raw.get("serve", {}).get("model_ids", {}).get("tuned", "tuned"),
    )
    with counted("verifying") as advance:
        report = check_parity(request, lambda stage, done, total: advance(done, total))
    report = {**report, "inputs": inputs}
    write_json(path, report)
    if as_json:
        print(json.dumps(report, ensure_ascii=False))
    else:
        _print_table(report)
    for note in report["notes"]:
        print(f"note: {note}", file=sys.stderr)
    if not report["passed"]:
        reasons = "; ".join(f"{fault['cause']}: {fault['detail']}" for fault in report["faults"])
        raise GroundTuneError(f"parity gate failed: {reasons}")
    if not as_json:
        print(f"parity gate passed: {path}")


def _has_passed(path: Path, inputs: dict[str, str]) -> bool:
    """Tell whether the last gate let folders of these digests through; by their manifests, so no byte is read."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(report.get("passed")) and report.get("inputs") == inputs


def _print_table(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    tensors = report["tensors"]
    if tensors:
        right = tensors["num_adapted"] - tensors["num_adapted_wrong"]
        console.print(
            f"tensors: {right} of {tensors['num_adapted']} adapted are base + s·B·A, "
            f"{tensors['num_foreign']} others differ",
            highlight=False,
        )
    if report["logits"]:
        logits = report["logits"]
        console.print(
            f"logits, adapter on base against merged: max abs {logits['max_abs']:.3f}, "
            f"KL mean {logits['mean_kl']:.5f}, max {logits['max_kl']:.4f} nats",
            highlight=False,
        )
    if not report["arms"]:
        return
    table = Table("arm", "compared with", "same", "near-ties", "parted", title="greedy answers by prompt")
    for arm, facts in report["arms"].items():
        row = (
            facts["compared_with"],
            *(str(facts[key]) for key in ("num_same", "num_near_ties", "num_parted")),
        )
        table.add_row(arm, *row)
    console.print(table)
