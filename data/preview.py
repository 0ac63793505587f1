"""What a model will be trained on, as it will see it: conversations in the model's own chat template."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from data.conversations import Conversation, messages
from data.errors import InputError


def preview(made: Sequence[Conversation], model_folder: Path) -> list[str]:
    """Return each conversation as the template renders it.

    Raises:
        InputError: the model has no chat template, or one that takes no system prompt.
    """
    from jinja2 import TemplateError
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_folder, local_files_only=True)
    if not tokenizer.chat_template:
        raise InputError(f"{model_folder}: no chat template; give an instruction-tuned model with --model")
    try:
        return [str(tokenizer.apply_chat_template(messages(item), tokenize=False)) for item in made]
    except TemplateError as error:
        raise InputError(f"{model_folder}: its chat template refuses the conversation: {error}") from error
