"""Packs what an embedding model learns from, so that it can learn on a machine with PyTorch and nothing else.

    python -m benchmarks.adapt.prepare WORKBOOK.xlsx QUESTIONS.jsonl --first ROW --last ROW --out FILE.safetensors

Of the rows from `--first` to `--last` (counted from 1) come their titles, answers and own questions, and of the file
the questions that people asked of them; no other row and no other question. The tokens are numbered anew, over those
that occur, since the embeddings of words are not learned: the file is 55 MB in place of 250.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tokenizers import Tokenizer

from data.held_out import questions_from_file
from data.records import normalised
from data.workbook import WorkbookChoice, read_workbook
from rag.row_texts import row_title

ROOT = Path(__file__).parents[2]

Tokens = Sequence[Sequence[int]]
_WORDS = "embeddings.word_embeddings.weight"


def numbered_anew(texts: Mapping[str, Tokens]) -> tuple[dict[str, Tokens], list[int]]:
    """Return the texts in tokens numbered from 0, and the token that each number stands for."""
    used = sorted({token for some in texts.values() for text in some for token in text})
    number = {token: place for place, token in enumerate(used)}
    return {name: [[number[token] for token in text] for text in some] for name, some in texts.items()}, used


def as_arrays(texts: Mapping[str, Tokens]) -> dict[str, NDArray[np.int32]]:
    """Return each list of texts as its tokens in one row, NAME.tokens, and their lengths, NAME.lengths."""
    arrays = {}
    for name, some in texts.items():
        arrays[f"{name}.tokens"] = np.fromiter((token for text in some for token in text), np.int32)
        arrays[f"{name}.lengths"] = np.array([len(text) for text in some], np.int32)
    return arrays


def encoder_weights(folder: Path, words: Sequence[int]) -> dict[str, NDArray[np.float32]]:
    """Return the encoder's tensors by name, of the embeddings of words only those of `words`."""
    from safetensors import safe_open

    found = {}
    with safe_open(folder / "model.safetensors", "pt") as file:
        for name in file.keys():  # noqa: SIM118 - it is no mapping
            if not name.startswith("pooler."):
                tensor = file.get_tensor(name).float().numpy()
                found[name] = tensor[list(words)] if name == _WORDS else tensor
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workbook", type=Path)
    parser.add_argument("questions", type=Path)
    parser.add_argument("--first", type=int, required=True)
    parser.add_argument("--last", type=int, required=True)
    parser.add_argument("--model", type=Path, default=ROOT / "var" / "models" / "multilingual-e5-small")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(argv)

    rows = list(read_workbook(WorkbookChoice(options.workbook, skip_empty=True)).rows)
    asked = questions_from_file(options.questions, rows)
    place_of = {row.row_id: place for place, row in enumerate(rows)}
    chosen = range(options.first - 1, options.last)
    asked = [each for each in asked if place_of[each.row_id] in chosen]
    rows = rows[chosen.start : chosen.stop]

    tokenizer = Tokenizer.from_file(str(options.model / "tokenizer.json"))
    tokenizer.enable_truncation(512)
    tokenizer.no_padding()

    def tokens(prompt: str, texts: Sequence[str]) -> Tokens:
        return [found.ids for found in tokenizer.encode_batch([f"{prompt}: {text}" for text in texts])]

    texts, words = numbered_anew(
        {
            "titles": tokens("passage", [row_title(row) for row in rows]),
            "answers": tokens("passage", [row.answer for row in rows]),
            "own": tokens("query", [row.question for row in rows]),
            "asked": tokens("query", [each.question for each in asked]),
        }
    )
    subjects = [normalised(f"{row.info_1} {row.info_2}") for row in rows]
    arrays: dict[str, NDArray[np.int32] | NDArray[np.float32]] = {
        **as_arrays(texts),
        "asked.rows": np.array([place_of[each.row_id] - chosen.start for each in asked], np.int32),
        "subjects": np.array([sorted(set(subjects)).index(subject) for subject in subjects], np.int32),
        **{f"encoder.{name}": tensor for name, tensor in encoder_weights(options.model, words).items()},
    }
    facts = {
        "workbook": options.workbook.name,
        "questions": options.questions.name,
        "rows": f"{options.first} to {options.last}",
        "model": options.model.name,
        "num_heads": str(json.loads((options.model / "config.json").read_text())["num_attention_heads"]),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    save_file(arrays, options.out, facts)
    print(f"{len(rows)} rows, {len(asked)} questions, {len(words)} tokens: {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
