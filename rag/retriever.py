"""The knowledge base as a LangChain retriever: the public way into people's own chains.

index = open_index(Path("var/index/quickstart"), Path("var/models/multilingual-e5-small-asked"))
chain = {"context": KnowledgeRetriever(index=index), "question": RunnablePassthrough()} | prompt | model
"""

from __future__ import annotations

from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from pydantic import ConfigDict

from rag.knowledge import KnowledgeIndex
from rag.stages import Hit

__all__ = ["Hit", "KnowledgeRetriever", "document_of"]


class KnowledgeRetriever(BaseRetriever):
    """Finds rows by every stage of the index, fused; a row is one document."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    index: KnowledgeIndex
    top_k: int = 3

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        return [document_of(hit) for hit in self.index.search(query, self.top_k).hits]


def document_of(hit: Hit) -> Document:
    """Return a hit as LangChain's document: title and answer as its content, the rest as metadata."""
    row = hit.row
    return Document(
        id=row.row_id,
        page_content=f"{row.title}\n{row.answer}",
        metadata={
            "row_id": row.row_id,
            "revision": row.revision,
            "info_1": row.info_1,
            "info_2": row.info_2,
            "question": row.question,
            "answer": row.answer,
            "source": row.source,
            "score": hit.score,
        },
    )
