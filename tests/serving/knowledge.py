"""A knowledge base of three rows with the interface of the real one, for tests of what stands in front of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from data.records import Row, revision_of, row_id_of
from rag.endpoint import EmbeddingServerError
from rag.filters import Parts, RowFilter
from rag.grounding import Grounding
from rag.stages import Hit, Search


def _row(number: int, info_1: str, question: str, answer: str) -> Row:
    row_id = row_id_of(info_1, "饮食", question)
    return Row(row_id, revision_of(answer), info_1, "饮食", question, answer, f"样例.xlsx#表!A{number}")


ROWS = (
    _row(2, "高血压", "能吃盐吗", "每天食盐不超过 <5> 克。"),
    _row(3, "糖尿病", "能吃水果吗", "血糖平稳时可以吃低糖水果。"),
    _row(4, "感冒", "要喝水吗", "多喝温水。"),
)
REFUSAL = "知识库里没有这个问题的答案。"


class ThreeRows:
    """Index and grounder in one: every row fits every question but the one about the weather."""

    version = "abc123def456"

    def search(self, question: str, top_k: int, only: RowFilter | None = None) -> Search:
        found = self._of(only)
        hits = [Hit(row, 1.0 / n, {"dense": n}) for n, row in enumerate(found, start=1)]
        return Search(tuple(hits[:top_k]), {"embed": 1.0, "retrieve": 2.0})

    def row(self, row_id: str) -> Row | None:
        return next((row for row in ROWS if row.row_id == row_id), None)

    def embed(self, texts: Sequence[str], kind: Literal["query", "passage"]) -> list[list[float]]:
        return [[float(len(text)), 0.5 if kind == "query" else -0.5] for text in texts]

    def _of(self, only: RowFilter | None) -> tuple[Row, ...]:
        part = Parts(ROWS).part(only) if only else None
        return tuple(row for place, row in enumerate(ROWS) if part is None or part.mask[place])

    def ground(self, messages: Sequence[Mapping[str, Any]], only: RowFilter | None = None) -> Grounding:
        rows = self._of(only)
        if "断线" in messages[-1]["content"]:
            raise EmbeddingServerError("http://embedder/v1: cannot be reached")
        refusal = REFUSAL if "天气" in messages[-1]["content"] else None
        return Grounding(
            rows=rows,
            scores=(0.9, 0.8, 0.7)[: len(rows)],
            messages=({"role": "system", "content": "rows"}, dict(messages[-1])),
            timings_ms={"embed": 1.0, "retrieve": 2.0},
            kb_version=self.version,
            searched=str(messages[-1]["content"]),
            refusal=refusal,
            led_to=1 if refusal and "高血压" in messages[-1]["content"] else None,
            quotable=1 if "水果" in messages[-1]["content"] else None,
            verbatim=len(rows) - 1 if "喝水" in messages[-1]["content"] else None,
            rival=2 if "水果" in messages[-1]["content"] else None,
        )
