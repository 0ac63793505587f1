from __future__ import annotations

from langchain_core.embeddings import Embeddings
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda, RunnablePassthrough
from langchain_core.vectorstores import VectorStore

from rag.knowledge import KnowledgeIndex
from rag.retriever import KnowledgeRetriever
from tests.rag.rows import COLD, SALT


def test_rows_come_as_langchain_documents(knowledge: KnowledgeIndex) -> None:
    retriever = KnowledgeRetriever(index=knowledge, top_k=2)
    assert isinstance(retriever, BaseRetriever)
    documents = retriever.invoke(COLD.question)
    assert len(documents) == 2
    assert documents[0].id == COLD.row_id
    assert COLD.answer in documents[0].page_content
    assert documents[0].metadata["source"] == COLD.source
    assert documents[0].metadata["score"] > documents[1].metadata["score"]


def test_it_works_in_a_chain(knowledge: KnowledgeIndex) -> None:
    prompt = ChatPromptTemplate.from_template("{context}\n\n{question}")
    context = KnowledgeRetriever(index=knowledge, top_k=1) | RunnableLambda(
        lambda documents: "\n".join(document.page_content for document in documents)
    )
    chain = {"context": context, "question": RunnablePassthrough()} | prompt
    text = chain.invoke(SALT.question).to_string()
    assert SALT.answer in text


def test_the_vector_store_is_langchains(knowledge: KnowledgeIndex) -> None:
    store = knowledge.vector_store()
    assert isinstance(store, VectorStore)
    assert isinstance(store.embeddings, Embeddings)
    found = store.as_retriever(search_kwargs={"k": 1}).invoke(f"{COLD.title}{COLD.answer}")
    assert found[0].metadata["answer"]
    assert set(found[0].metadata) == {"revision", "info_1", "info_2", "question", "answer"}
