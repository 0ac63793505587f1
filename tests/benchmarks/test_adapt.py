"""From a workbook and people's questions to a patch, with a tiny model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import openpyxl
import pytest
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from benchmarks.adapt import learn, prepare
from data.models.patch import patched
from data.models.weights import RowSource
from rag.embedding import load_embeddings
from tests.rag.tiny_embedding import write_tiny_embedding

_TITLES = "abcdefghijklmnop"
_ANSWERS = "qrstuvwxyz012345"


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A workbook of 16 rows, a question of each but the last two, and a model."""
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append(["info_1", "info_2", "Q", "A"])
    for number, (letter, other) in enumerate(zip(_TITLES, _ANSWERS, strict=True)):
        sheet.append([f"t{number % 4}", "", letter * 3, other * 4])
    book.save(tmp_path / "kb.xlsx")
    lines = [
        {"row": number + 2, "question": f"{_TITLES[(number + 5) % 16]}, ? {_TITLES[(number + 9) % 16]}"}
        for number in range(14)
    ]
    (tmp_path / "asked.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return (
        tmp_path / "kb.xlsx",
        tmp_path / "asked.jsonl",
        write_tiny_embedding(tmp_path / "model", _TITLES + _ANSWERS),
    )


def _prepared(files: tuple[Path, Path, Path], out: Path, last: int) -> Path:
    workbook, questions, model = map(str, files)
    command = [workbook, questions, "--first", "3", "--last", str(last), "--model", model, "--out", str(out)]
    assert prepare.main(command) == 0
    return out


def test_only_the_chosen_rows_and_their_questions_are_packed(
    files: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    pairs, weights, facts = learn.read_prepared(_prepared(files, tmp_path / "p.safetensors", 10))
    # Rows 3 to 10 with a question of a person and their own each.
    assert [pair.row for pair in pairs] == [*range(8), *range(8)]
    assert facts["rows"] == "3 to 10"
    for number, pair in enumerate(pairs[8:]):
        assert (pair.title is pair.answer, pair.subject) == (True, (number + 2) % 4)
    words = weights["embeddings.word_embeddings.weight"]
    whole = load_file(files[2] / "model.safetensors")["embeddings.word_embeddings.weight"]
    assert 1 + max(int(text.max()) for pair in pairs for text in (pair.question, pair.answer)) <= len(words)
    assert len(words) < len(whole)


def test_the_encoder_that_learns_gives_the_vectors_that_rag_gives(
    files: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    pairs, weights, facts = learn.read_prepared(_prepared(files, tmp_path / "p.safetensors", 14))
    encoder = learn.Encoder(weights, int(facts["num_heads"]), 0.0, "cpu").eval()
    # The last pairs are the rows' own questions.
    made = learn.embed(encoder, [pair.question for pair in pairs[-3:]], "cpu").detach().numpy()
    embeddings = load_embeddings(files[2], precision="float32")
    expected = embeddings.embed([_TITLES[number] * 3 for number in (11, 12, 13)], "query")
    embeddings.close()
    np.testing.assert_allclose(made, expected, atol=0.02)


def _share_found(model: Path, questions: list[str], titles: list[str], answers: list[str]) -> float:
    embeddings = load_embeddings(model, precision="float32")
    asked = embeddings.embed(questions, "query")
    rows: NDArray[np.float32] = embeddings.embed(titles, "passage") + embeddings.embed(answers, "passage")
    embeddings.close()
    scores = asked @ (rows / np.linalg.norm(rows, axis=1, keepdims=True)).T
    return float(np.mean(scores.argmax(axis=1) == np.arange(len(questions))))


def test_a_learned_patch_makes_the_model_find_the_rows_of_peoples_questions(
    files: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    _, questions, model = files
    prepared = _prepared(files, tmp_path / "p.safetensors", 14)
    patch = tmp_path / "patch.safetensors"
    command = [str(prepared), "--out", str(patch), "--epochs", "60", "--batch", "12", "--rate", "0.01"]
    command += ["--temperature", "0.1", "--dropout", "0", "--keep", "0", "--strength", "1", "--rank", "8"]
    assert learn.main([*command, "--device", "cpu"]) == 0
    with safe_open(patch, "np") as file:
        made = json.loads(file.metadata()["made"])
    assert (made["num_pairs"], made["learned_from"]["rows"]) == (24, "3 to 14")

    weights = load_file(model / "model.safetensors")
    sources = [
        RowSource(name, tensor.shape, lambda first, last, tensor=tensor: tensor[first:last])
        for name, tensor in weights.items()
    ]
    after = tmp_path / "after"
    write_tiny_embedding(after, _TITLES + _ANSWERS)
    changed = {source.name: source.rows(0, source.shape[0]) for source in patched(sources, patch)}
    save_file(
        {name: np.ascontiguousarray(tensor, np.float32) for name, tensor in changed.items()},
        after / "model.safetensors",
    )

    asked = [json.loads(line)["question"] for line in questions.read_text().splitlines()][1:13]
    titles = [f"t{number % 4} {_TITLES[number] * 3}" for number in range(1, 13)]
    answers = [_ANSWERS[number] * 4 for number in range(1, 13)]
    before = _share_found(model, asked, titles, answers)
    found = _share_found(after, asked, titles, answers)
    assert found >= before + 0.5
