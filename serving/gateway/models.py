"""The models that clients may ask for, and which engine answers for each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from serving.engines.engine import Engine
from serving.gateway.errors import model_not_found


@dataclass(frozen=True)
class ServedModel:
    """A model id of the API: an engine, asked plainly or with rows of the knowledge base (`grounded`)."""

    model_id: str
    engine: Engine
    grounded: bool = False


class ModelTable:
    """The served models by id."""

    def __init__(self, models: Sequence[ServedModel]) -> None:
        self._models = {model.model_id: model for model in models}

    def __iter__(self) -> Iterator[ServedModel]:
        return iter(self._models.values())

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids in the order given."""
        return tuple(self._models)

    @property
    def engines(self) -> tuple[Engine, ...]:
        """Every engine once."""
        return tuple({model.engine.name: model.engine for model in self._models.values()}.values())

    def find(self, model_id: str) -> ServedModel:
        """Return the model.

        Raises:
            ApiError: 404, naming what is served.
        """
        if model_id not in self._models:
            raise model_not_found(model_id, self.ids)
        return self._models[model_id]
