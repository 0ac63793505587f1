"""A report for people who may see how good the models are, but not what stands in the knowledge base."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any


def without_texts(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the report without questions, answers and rows; scores, row ids, cells' names and categories stay.

    `settings.texts_withheld` is true in it. Figures cannot be worked out anew from such a report.
    """
    shown: dict[str, Any] = copy.deepcopy(dict(report))
    shown["settings"]["texts_withheld"] = True
    for item in shown["questions"]:
        item["question"] = item["reference"] = ""
        for answer in item["answers"].values():
            answer["text"] = ""
            if answer["cited"] is not None:
                answer["cited"] = [_place_only(passage) for passage in answer["cited"]]
    for row in (shown["stale"] or {}).get("rows", ()):
        row["question"] = row["old"] = ""
        row["new"] = None if row["new"] is None else ""
        for answer in row["answers"].values():
            answer["text"] = ""
            answer["cited"] = [_place_only(passage) for passage in answer["cited"]]
    return shown


def _place_only(passage: Mapping[str, Any]) -> dict[str, Any]:
    return {**passage, "title": passage["row_id"], "text": ""}
