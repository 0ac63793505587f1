"""What answers cost, by a table of prices per token.

currency: USD
models:
  base: {input: 0.10, output: 0.40}     # for a million tokens
  gpt-x@https://api.example.com/v1: {input: 1.25, output: 10, request: 0.005}
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field, ValidationError

from data.config import Section
from data.errors import InputError

_MILLION = 1_000_000
Price = Annotated[float, Field(ge=0)]


class ModelPrice(Section):
    """Prices of one model: for a million tokens of prompt and of answer, and for each request."""

    input: Price = 0.0
    output: Price = 0.0
    request: Price = 0.0

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Return what one answer costs."""
        tokens = self.input * prompt_tokens + self.output * completion_tokens
        return self.request + tokens / _MILLION


class PriceTable(Section):
    """Prices by arm, all in one currency."""

    currency: str = "USD"
    models: Annotated[dict[str, ModelPrice], Field(default_factory=dict)]


def read_prices(path: Path) -> PriceTable:
    """Read a table of prices.

    Raises:
        InputError: the file cannot be read or is no such table; names the field.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        return PriceTable.model_validate(raw)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: not readable as YAML ({' '.join(str(error).split())})") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(
            f"{path}: {where or 'the table'}: {first['msg']}; expected `models: {{MODEL: {{input: 0.1, output: 0.4}}}}`"
        ) from None
