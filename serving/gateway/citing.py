"""Puts a grounded answer's citations where clients look for them.

OpenAI's clients read `annotations` of the message, Azure's read `context`, others top-level `citations` and
`search_results`. `[n]` in the text is the n-th of all of them but `annotations`, which lists the marks.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from data.prompts import wording_for
from data.records import Row
from rag.answers import GroundedAnswer
from rag.citations import Citation
from serving.gateway.relay import End, Extra, Pieces, Text

if TYPE_CHECKING:
    from rag.grounding import Grounding
    from rag.stale import Stale


_NO_USAGE = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


def row_url(base_url: str, row_id: str) -> str:
    """Return the address of a row's page."""
    return f"{base_url}/kb/rows/{row_id}"


async def cited(
    pieces: Pieces,
    grounding: Grounding,
    question: str,
    base_url: str,
    *,
    may_add: bool = True,
    stale: Stale | None = None,
    on_declined: Callable[[], None] = lambda: None,
) -> Pieces:
    """Yield `pieces` with checked markers, and the citations before the end.

    `may_add`: a row may take the place of an answer that none supports, and a second one be led to. `stale`: why
    the rows were searched though the model is a plain one. `on_declined` is called where the model says that it has
    no answer.
    """
    answer = GroundedAnswer(
        grounding.rows,
        wording_for(question),
        quotable=grounding.quotable if may_add else None,
        strangers=grounding.strangers,
        see_also=grounding.rival if may_add else None,
    )
    async with aclosing(pieces):
        async for piece in pieces:
            if isinstance(piece, Text):
                if text := answer.feed(piece.text):
                    yield Text(text)
            elif isinstance(piece, End):
                if rest := answer.finish(is_cut=piece.finish_reason == "length"):
                    yield Text(rest)
                if answer.is_declined:
                    on_declined()
                yield _citations(
                    grounding,
                    answer.citations,
                    base_url,
                    no_answer=answer.is_declined,
                    quoted=answer.is_quoted,
                    stale=stale,
                )
                yield piece
            else:
                yield piece


async def word_for_word(
    grounding: Grounding, place: int, base_url: str, stale: Stale | None = None
) -> Pieces:
    """Yield the answer of the row at `place` as its cell has it, and its marker; no engine is asked."""
    row = grounding.rows[place]
    text, mark = row.answer, f"[{place + 1}]"
    yield Text(text + mark)
    cited_at = Citation(place + 1, row, len(text), len(text) + len(mark), attributed=True)
    yield _citations(grounding, [cited_at], base_url, no_answer=False, quoted=True, stale=stale)
    yield End("stop", _NO_USAGE)


async def refused(grounding: Grounding, refusal: str, base_url: str, stale: Stale | None = None) -> Pieces:
    """Yield the answer to a question that the knowledge base does not answer; no engine is asked.

    `context.nearest` is the row that the refusal names, in the shape of a citation; it is none.
    """
    yield Text(refusal)
    nearest = {}
    if grounding.led_to is not None:
        row = grounding.rows[grounding.led_to]
        nearest["nearest"] = _passage(row, row_url(base_url, row.row_id), grounding.scores[grounding.led_to])
    context = {
        "citations": [],
        "intent": _intent(grounding.searched),
        "no_answer": True,
        "quoted": False,
        **nearest,
        **_forced(stale),
    }
    yield Extra({"annotations": [], "context": context}, {"citations": [], "search_results": []})
    yield End("stop", _NO_USAGE)


def _citations(
    grounding: Grounding,
    marks: Sequence[Citation],
    base_url: str,
    *,
    no_answer: bool,
    quoted: bool,
    stale: Stale | None = None,
) -> Extra:
    urls = [row_url(base_url, row.row_id) for row in grounding.rows]
    annotations = [
        {
            "type": "url_citation",
            "url_citation": {
                "start_index": mark.start,
                "end_index": mark.end,
                "title": mark.row.title,
                "url": row_url(base_url, mark.row.row_id),
            },
        }
        for mark in marks
    ]
    passages = [
        _passage(row, url, score)
        for row, url, score in zip(grounding.rows, urls, grounding.scores, strict=True)
    ]
    context = {
        "citations": passages,
        "intent": _intent(grounding.searched),
        "no_answer": no_answer,
        "quoted": quoted,
        **_forced(stale),
    }
    results = [{"title": row.title, "url": url} for row, url in zip(grounding.rows, urls, strict=True)]
    return Extra(
        {"annotations": annotations, "context": context}, {"citations": urls, "search_results": results}
    )


def _forced(stale: Stale | None) -> Mapping[str, Any]:
    """Return what `context` says of an answer from rows that a plain model was asked for."""
    if stale is None:
        return {}
    return {"retrieval_forced": {"reason": "stale", "row_id": stale.row_id, "change": stale.change}}


def _passage(row: Row, url: str, score: float) -> Mapping[str, Any]:
    """Return a row in the shape of Azure's `context.citations`."""
    return {
        "content": row.answer,
        "title": row.title,
        "url": url,
        "filepath": row.source,
        "chunk_id": row.row_id,
        "original_search_score": score,
    }


def _intent(searched: str) -> str:
    """Azure's form: the queries that were searched for, a JSON list in a string."""
    return json.dumps([searched], ensure_ascii=False)
