"""How many tokens each conversation takes with a model's own tokenizer.

Counts system prompt, question and answer; the few tokens of the chat template's markers are not among them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from data.conversations import Conversation
from data.errors import InputError
from data.stats.numbers import Lengths


def count_tokens(made: Sequence[Conversation], model_folder: Path) -> Lengths:
    """Return the number of tokens of each conversation, in order.

    Raises:
        InputError: the folder has no tokenizer.json that can be read.
    """
    from tokenizers import Tokenizer

    path = model_folder / "tokenizer.json"
    if not path.is_file():
        raise InputError(f"{path}: not there; a model folder with a fast tokenizer is needed to count tokens")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises nothing more specific
        raise InputError(f"{path}: not readable as a tokenizer ({error}); fetch or copy it again") from error
    system_tokens: dict[str, int] = {}
    for item in made:
        if item.system not in system_tokens:
            system_tokens[item.system] = _length(tokenizer.encode(item.system, add_special_tokens=False))
    inputs, outputs = (
        tokenizer.encode_batch(texts, add_special_tokens=False)
        for texts in ([item.input for item in made], [item.output for item in made])
    )
    return Lengths(
        tuple(
            system_tokens[item.system] + _length(asked) + _length(answered)
            for item, asked, answered in zip(made, inputs, outputs, strict=True)
        )
    )


def draw_token_lengths(lengths: Lengths, model_name: str, path: Path, limit: int | None = None) -> None:
    """Draw the lengths as a histogram; `limit` is where training would cut."""
    from data.charts import draw_histogram, new_figure, save_figure

    figure = new_figure(7, 4)
    title = f"Tokens a conversation ({model_name})"
    draw_histogram(figure.add_subplot(), lengths.values, title, "tokens, without the chat template's", limit)
    save_figure(figure, path)


def _length(encoding: object) -> int:
    ids: list[int] = getattr(encoding, "ids")  # noqa: B009, tokenizers is not typed
    return len(ids)
