"""`groundtune rag inbox`: the questions that got no answer, as draft rows for a workbook."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from data.config import section, settle_config
from data.errors import UsageError
from data.models.config import ModelsConfig
from data.workspace import open_workspace
from rag.config import IndexSection, RetrieveSection

if TYPE_CHECKING:
    from data.drafts import Draft
    from rag.clusters import Cluster
    from rag.knowledge import KnowledgeIndex
    from rag.unanswered import Unanswered

_MOST_WORDINGS = 20


def inbox(
    out: Annotated[Path, typer.Argument(help="The .xlsx to write.")],
    config: Annotated[
        Path | None, typer.Option("--config", help="A YAML of configs/; without it, the run's own.")
    ] = None,
    name: Annotated[str, typer.Option("--name", help="The run's name under var/runs/.")] = "quickstart",
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="SECTION.KEY=VALUE, laid over the configuration.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Put questions that got no answer together by meaning and write them as draft rows (状态 待审)."""
    if out.suffix.lower() != ".xlsx":
        raise UsageError(f"{out}: an .xlsx is written; give a name that ends so")
    if out.exists() and not force:
        raise UsageError(
            f"{out}: is there already, perhaps with somebody's work in it; pass --force or another name"
        )
    from rag.unanswered import FILE, read_unanswered

    workspace = open_workspace()
    run = workspace.run(name)
    raw = settle_config(run, config, settings or ())
    kept = read_unanswered(run.folder / FILE)
    from data.drafts import write_drafts
    from rag.endpoint import embedding_folder
    from rag.knowledge import open_index

    embedding = embedding_folder(workspace, section(raw, "models", ModelsConfig).embedding)
    index = open_index(
        run.index, embedding, section(raw, "retrieve", RetrieveSection), section(raw, "index", IndexSection)
    )
    try:
        drafts = make_drafts(index, kept)
    finally:
        index.close()
    write_drafts(out, drafts)
    if as_json:
        print(
            json.dumps({"questions": len(kept), "drafts": len(drafts), "file": str(out)}, ensure_ascii=False)
        )
        return
    print(f"{len(kept)} unanswered questions, {len(drafts)} draft rows: {out}")


def make_drafts(index: KnowledgeIndex, kept: list[Unanswered]) -> list[Draft]:
    """Return a draft row for every question, those that ask the same together, the most asked first."""
    if not kept:
        return []
    import numpy as np

    from rag.calibration import questions_to_ask
    from rag.clusters import cluster, nearness_of_equals

    own = [index.rows[place].question for place in questions_to_ask(index.rows)]
    vectors = np.array(index.embed([*own, *(each.searched for each in kept)], "query"), np.float32)
    nearness = nearness_of_equals(vectors[: len(own)])
    clusters = cluster([each.searched for each in kept], vectors[len(own) :], nearness)
    return [_draft(index, kept, found) for found in clusters]


def _draft(index: KnowledgeIndex, kept: list[Unanswered], found: Cluster) -> Draft:
    from data.drafts import Draft

    asked = [kept[place] for place in found.places]
    nearest = index.row(asked[0].nearest)
    # The nearest row's subject is a guess, good enough only where the question itself says it.
    subject = nearest.info_1 if nearest and nearest.info_1 and nearest.info_1 in asked[0].searched else ""
    return Draft(
        info_1=subject,
        info_2="",
        question=asked[0].searched.replace("\n", " "),
        num_asked=len(asked),
        wordings=list(dict.fromkeys(each.question for each in asked))[:_MOST_WORDINGS],
        nearest=f"{nearest.title} ({nearest.source})" if nearest else "",
        last_asked=datetime.fromtimestamp(max(each.asked_at for each in asked))
        .astimezone()
        .isoformat(" ", "minutes"),
    )
