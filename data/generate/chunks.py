"""A document cut into pieces that a small model can ask about, and a piece into sentences. Offsets are kept."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from data.generate.sources import Document

_HEADING = re.compile(r"^(#{1,6})[ \t]+(.+?)[ \t]*#*[ \t]*$", re.MULTILINE)
_SEPARATORS = ["\n\n", "\n", "。", "！", "？", "；", ". ", "! ", "? ", "; ", "，", ", ", " ", ""]
# A sentence ends at its mark, with the quotes and brackets behind it, or at the line's end.
_SENTENCE = re.compile(
    r"[^\n。！？!?；.]*(?:\.(?!\s|$)[^\n。！？!?；.]*)*(?:[。！？!?；]+[”’\"』」）)]*|\.(?=\s|$)|\n|$)"
)
# English text wrapped by hand goes on in lower case.
_SOFT_BREAK = re.compile(r"(?<=[a-z,;])\n(?=[a-z])")
_LEAST_CHARS = 12


@dataclass(frozen=True)
class Chunk:
    """A piece of a document.

    Attributes:
        document: Where it is from.
        start: Its offset in the document's text.
        text: `document.text[start : start + len(text)]`.
        headings: The headings that it stands under, the outermost first.
    """

    document: Document
    start: int
    text: str
    headings: tuple[str, ...]


@dataclass(frozen=True)
class Sentence:
    """A sentence of a chunk, by its offsets in the chunk's text."""

    start: int
    end: int


def cut(document: Document, size_chars: int) -> Iterator[Chunk]:
    """Yield the pieces of a document in order, none across a heading, none of a heading only."""
    from langchain_text_splitters import RecursiveCharacterTextSplitter

    splitter = RecursiveCharacterTextSplitter(
        _SEPARATORS, keep_separator="end", chunk_size=size_chars, chunk_overlap=0, add_start_index=True
    )
    for start, end, headings in _sections(document.text):
        for piece in splitter.create_documents([document.text[start:end]]):
            if len(piece.page_content.strip()) >= _LEAST_CHARS:
                place = start + piece.metadata["start_index"]
                yield Chunk(document, place, piece.page_content, headings)


def _sections(text: str) -> Iterator[tuple[int, int, tuple[str, ...]]]:
    above: list[tuple[int, str]] = []
    start = 0
    for found in _HEADING.finditer(text):
        yield start, found.start(), tuple(title for _, title in above)
        level = len(found[1])
        above = [item for item in above if item[0] < level] + [(level, found[2])]
        start = found.end()
    yield start, len(text), tuple(title for _, title in above)


def sentences(text: str) -> list[Sentence]:
    """Return the sentences of a text, without the white space around them."""
    found = []
    for match in _SENTENCE.finditer(_SOFT_BREAK.sub(" ", text)):
        body = match[0]
        start = match.start() + len(body) - len(body.lstrip())
        end = match.start() + len(body.rstrip())
        if end > start:
            found.append(Sentence(start, end))
    return found
