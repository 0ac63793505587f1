"""How many tokens each piece of an answer brought. A piece of a stream may hold one token, several or none whole."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from data.errors import InputError

Source = Literal["usage", "tokenizer", "pieces"]


class TokenCounter:
    """Counts with a model's own tokenizer."""

    def __init__(self, folder: Path) -> None:
        """Load `folder`/tokenizer.json.

        Raises:
            InputError: there is none that can be read.
        """
        from tokenizers import Tokenizer

        path = folder / "tokenizer.json"
        if not path.is_file():
            raise InputError(f"{path}: not there; give the folder of the served model's tokenizer")
        try:
            self._tokenizer: Any = Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises nothing more specific
            raise InputError(f"{path}: not readable as a tokenizer ({error}); copy it again") from error

    def tokens_of_pieces(self, pieces: Sequence[str]) -> list[int]:
        """Return how many tokens each piece completes; their sum is the whole text's number."""
        encoding = self._tokenizer.encode("".join(pieces), add_special_tokens=False)
        ends = [end for _, end in encoding.offsets]
        counts, place, length = [], 0, 0
        for piece in pieces:
            length += len(piece)
            start = place
            while place < len(ends) and ends[place] <= length:
                place += 1
            counts.append(place - start)
        if counts:
            counts[-1] += len(ends) - place
        return counts


def tokens_of_pieces(
    pieces: Sequence[str], completion_tokens: int | None, counter: TokenCounter | None
) -> tuple[list[float], Source]:
    """Return the tokens of each piece and whence they are known.

    The server's own number is exact; a tokenizer says, or without one the pieces' lengths, how it spreads over the
    pieces. With neither number nor tokenizer a piece counts as one token, which is wrong for many servers.
    """
    if not pieces:
        return [], "usage"
    weights: list[float]
    if counter is not None:
        weights = [float(count) for count in counter.tokens_of_pieces(pieces)]
        if completion_tokens is None:
            return weights, "tokenizer"
    elif completion_tokens is None:
        return [1.0] * len(pieces), "pieces"
    else:
        weights = [float(len(piece)) for piece in pieces]
    total = sum(weights) or 1.0
    return [completion_tokens * weight / total for weight in weights], "usage"
