"""Which module holds the schema of each configuration section.

As text, because serving does not import training, and because a step imports only its own.
"""

from __future__ import annotations

from collections.abc import Mapping

SECTION_SCHEMAS: Mapping[str, str] = {
    "workbook": "data.settings:WorkbookSection",
    "prepare": "data.settings:PrepareSection",
    "split": "data.settings:SplitSection",
    "models": "data.models.config:ModelsConfig",
    "train": "training.config:TrainSection",
    "xtuner": "training.xtuner.config:XtunerSection",
    "sweep": "training.sweep_config:SweepSection",
    "merge": "training.config:MergeSection",
    "index": "rag.config:IndexSection",
    "retrieve": "rag.config:RetrieveSection",
    "serve": "serving.settings:ServeSection",
    "ask": "serving.quickstart.settings:AskSection",
}
