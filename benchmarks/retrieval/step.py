"""One step of `bench retrieval` in a process of its own: the plan as JSON in, the figures as JSON out."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from benchmarks.retrieval.flow import SearchPlan, parent_rows
from benchmarks.retrieval.systems import build, search


def main() -> None:
    asked = json.loads(sys.argv[1])
    step, system, size = (asked.pop(name) for name in ("step", "system", "size"))
    paths = {name: Path(asked[name]) for name in ("workbook", "embedding", "folder", "out")}
    plan = SearchPlan(**{**asked, **paths})
    source = parent_rows(plan)
    folder = plan.folder / f"{system}-{size}"
    if step == "build":
        embed = size <= plan.most_embedded
        found = build(system, folder, plan.embedding, source, size, embed=embed, at_most_s=plan.at_most_s)
    else:
        found = search(system, folder, plan.embedding, source, plan.threads)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
