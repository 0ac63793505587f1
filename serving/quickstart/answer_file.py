"""Answers kept on disk, so that a killed quickstart asks on where it was and a finished one asks nothing twice."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from data.artefacts import digest_of, sha256_file, write_json
from serving.quickstart.asking import Answer, Answers, CitedRow


class AnswerFile:
    """The answers to one list of questions, by one set of models, indexes and settings.

    Args:
        path: The JSON file; what it holds of other `inputs` is forgotten.
        inputs: Digests of all that an answer depends on.
    """

    def __init__(self, path: Path, inputs: Mapping[str, str]) -> None:
        self._path = path
        self._inputs = dict(inputs)
        self._answers = _read(path, self._inputs)

    @property
    def answers(self) -> Answers:
        """The answers that are there."""
        return dict(self._answers)

    def add(self, answers: Answers) -> None:
        """Keep some more, on disk when this returns."""
        self._answers |= answers
        kept = [
            {"place": place, "model": model, **asdict(answer)}
            for (place, model), answer in sorted(self._answers.items())
        ]
        write_json(self._path, {"inputs": self._inputs, "answers": kept})


def code_digest() -> str:
    """Return a digest of the source that answers depend on: rag/ and serving/."""
    root = Path(__file__).resolve().parents[2]
    files = sorted(path for package in ("rag", "serving") for path in (root / package).rglob("*.py"))
    return digest_of({path.relative_to(root).as_posix(): sha256_file(path) for path in files})


def _read(path: Path, inputs: Mapping[str, str]) -> Answers:
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if held.get("inputs") != dict(inputs):
        return {}
    answers: Answers = {}
    for item in held["answers"]:
        key = item.pop("place"), item.pop("model")
        citations = tuple(CitedRow(**cited) for cited in item.pop("citations"))
        answers[key] = Answer(**item, citations=citations)
    return answers
