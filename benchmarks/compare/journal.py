"""Answers on disk, one a line as they come, so that a killed comparison asks on where it was."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.measures.scores import Given
from benchmarks.measures.sources import Passage


class Journal:
    """The answers by key; a key is a digest of all that the answer depends on.

    Lines are only ever added; the last one of a key holds. Half a line, left by a kill, is passed over.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._answers = _read(path)
        self._file = path.open("a", encoding="utf-8")
        if path.stat().st_size:
            # Whatever a kill has left is a line of its own then.
            self._file.write("\n")

    def get(self, key: str) -> Given | None:
        """Return the answer of a key, if there is one."""
        return self._answers.get(key)

    def add(self, key: str, given: Given) -> None:
        """Keep an answer, handed to the system when this returns."""
        self._answers[key] = given
        self._file.write(json.dumps({"key": key, **asdict(given)}, ensure_ascii=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _read(path: Path) -> dict[str, Given]:
    if not path.is_file():
        return {}
    answers = {}
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            raw = json.loads(line)
            key = str(raw.pop("key"))
            answers[key] = _given(raw)
        except (ValueError, TypeError, KeyError, AttributeError):
            continue
    return answers


def _given(raw: Mapping[str, Any]) -> Given:
    cited = raw["cited"]
    passages = None if cited is None else tuple(Passage(**passage) for passage in cited)
    return Given(**{**raw, "cited": passages})
