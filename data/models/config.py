"""The `models` section of the configuration."""

from __future__ import annotations

from data.config import Section


class ModelsConfig(Section):
    """The models that everything begins with: catalogue names, hub references or folders."""

    base: str = "qwen2.5-coder-0.5b-instruct"
    """What is tuned, and served beside the tuned model."""
    embedding: str = "multilingual-e5-small-asked"
    """What turns rows and questions into vectors."""
