"""Documents as plain text with headings and places: text, Markdown, HTML, .docx and PDF. Knows nothing of models.

A heading becomes a line of its own that begins with `#`, as in Markdown, whatever the format. A file beyond a limit
is refused with its reason.
"""

from __future__ import annotations

import bisect
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from xml.etree.ElementTree import Element

from data.errors import InputError
from data.sheets import limits
from data.sheets.archive import local_name, opened_archive, small_part

MAX_FILE_BYTES = 256 << 20
MAX_TEXT_BYTES = 64 << 20
MAX_PAGES = 5000
_MARKS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
_ENDS = "。！？；：.!?;:”）)"
_CJK = re.compile("[\u3000-\u9fff\uff00-\uffef]")
_FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)


@dataclass(frozen=True)
class Document:
    """A document's text; `marks` are (offset, place) in order, as in (0, "page=1")."""

    name: str
    text: str
    marks: tuple[tuple[int, str], ...]

    def place(self, offset: int) -> str:
        """Return where an offset stands, as in `指南.pdf#page=3`."""
        found = bisect.bisect_right(self.marks, offset, key=lambda mark: mark[0]) - 1
        return f"{self.name}#{self.marks[found][1]}" if found >= 0 else self.name


def find_documents(sources: Sequence[Path]) -> list[Path]:
    """Return the files among `sources`, and those of a known kind in its folders, in order, each once.

    Raises:
        InputError: a source is not there, is of no known kind, or a folder has none.
    """
    found: dict[Path, None] = {}
    for source in sources:
        if source.is_dir():
            inside = sorted(p for p in source.rglob("*") if p.is_file() and p.suffix.lower() in _READERS)
            if not inside:
                raise InputError(f"{source}: no document in this folder; kinds: {', '.join(_READERS)}")
            found.update(dict.fromkeys(inside))
        elif not source.is_file():
            raise InputError(f"{source}: no such file")
        elif source.suffix.lower() not in _READERS:
            raise InputError(f"{source}: not a kind of document that is read here: {', '.join(_READERS)}")
        else:
            found[source] = None
    return list(found)


def read_document(path: Path) -> Document:
    """Return the text of a document.

    Raises:
        InputError: it cannot be read, holds no text, or is beyond a limit.
    """
    if path.stat().st_size > MAX_FILE_BYTES:
        raise _beyond(path, f"{path.stat().st_size:,} bytes")
    document = _READERS[path.suffix.lower()](path)
    if not document.text.strip():
        raise InputError(f"{path}: no text in it; a scanned document needs text recognition (OCR) first")
    return document


def _beyond(path: Path, what: str) -> InputError:
    return limits.beyond(path, what, "split the document")


def _decoded(path: Path) -> str:
    if path.stat().st_size > MAX_TEXT_BYTES:
        raise _beyond(path, f"{path.stat().st_size:,} bytes of text")
    content = path.read_bytes()
    encodings = [name for mark, name in _MARKS if content.startswith(mark)] or ["utf-8", "gb18030"]
    for encoding in encodings:
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\x00" not in text:
            return text.replace("\r\n", "\n").replace("\r", "\n")
    raise InputError(f"{path}: neither UTF-8 nor GB18030 text; save it as text in UTF-8")


def _by_lines(path: Path, text: str) -> Document:
    marks, offset = [], 0
    for number, line in enumerate(text.split("\n"), start=1):
        marks.append((offset, f"L{number}"))
        offset += len(line) + 1
    return Document(path.name, text, tuple(marks))


def _read_text(path: Path) -> Document:
    return _by_lines(path, _decoded(path))


def _read_markdown(path: Path) -> Document:
    # Front matter is blanked, not cut, so that line numbers stay.
    return _by_lines(path, _FRONT_MATTER.sub(lambda found: "\n" * found[0].count("\n"), _decoded(path)))


def _by_blocks(path: Path, blocks: Iterator[str]) -> Document:
    parts, marks, offset = [], [], 0
    for number, block in enumerate(blocks, start=1):
        marks.append((offset, f"paragraph={number}"))
        parts.append(block)
        offset += len(block) + 2
        if offset > MAX_TEXT_BYTES:
            raise _beyond(path, f"more than {MAX_TEXT_BYTES:,} characters of text")
    return Document(path.name, "\n\n".join(parts), tuple(marks))


class _Html(HTMLParser):
    """Collects the visible text, a block at a time."""

    _UNSEEN = frozenset(("script", "style", "template", "noscript", "svg", "head", "nav", "select"))
    _BLOCKS = frozenset(
        re.findall(
            r"\w+",
            "address article aside blockquote body br dd div dl dt footer h1 h2 h3 h4 h5 h6 header hr li main ol p pre "
            "section table tbody td th tr ul",
        )
    )
    _HEADING = re.compile("h([1-6])")

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.blocks: list[str] = []
        self._open: list[str] = []
        self._unseen: list[str] = []
        self._prefix = ""

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag == "body":
            self._unseen.clear()
        if tag in self._UNSEEN:
            self._unseen.append(tag)
        if tag in self._BLOCKS:
            self.end_block()
            heading = self._HEADING.fullmatch(tag)
            self._prefix = "#" * int(heading[1]) + " " if heading else ""

    def handle_endtag(self, tag: str) -> None:
        if tag in self._unseen:
            del self._unseen[self._unseen.index(tag) :]
        if tag in self._BLOCKS:
            self.end_block()
            self._prefix = ""

    def handle_data(self, data: str) -> None:
        if not self._unseen:
            self._open.append(data)

    def end_block(self) -> None:
        """Close the block that is open, if it says anything."""
        text = " ".join("".join(self._open).split())
        self._open.clear()
        if text:
            self.blocks.append(self._prefix + text)


def _read_html(path: Path) -> Document:
    parser = _Html()
    parser.feed(_decoded(path))
    parser.close()
    parser.end_block()
    return _by_blocks(path, iter(parser.blocks))


def _read_docx(path: Path) -> Document:
    with opened_archive(path) as archive:
        body = small_part(path, archive, "word/document.xml")
        styles = small_part(path, archive, "word/styles.xml")
    if body is None:
        raise InputError(f"{path}: not a Word document (it has no word/document.xml); save it as .docx")
    return _by_blocks(path, _docx_blocks(body, _heading_levels(styles)))


def _heading_levels(styles: Element | None) -> Mapping[str, int]:
    """Return the style ids that are headings, by their English names, which Word keeps in every language."""
    levels = {f"Heading{level}": level for level in range(1, 7)} | {"Title": 1}
    for style in styles if styles is not None else ():
        identifier = _attribute(style, "styleId")
        for item in style:
            named = re.fullmatch(r"heading ([1-6])", _attribute(item, "val").lower())
            if local_name(item.tag) == "name" and named:
                levels[identifier] = int(named[1])
    return levels


def _attribute(element: Element, name: str) -> str:
    return next((value for key, value in element.attrib.items() if local_name(key) == name), "")


def _docx_blocks(body: Element, levels: Mapping[str, int]) -> Iterator[str]:
    for paragraph in body.iter():
        if local_name(paragraph.tag) != "p":
            continue
        texts, level = [], 0
        for item in paragraph.iter():
            kind = local_name(item.tag)
            if kind == "t":
                texts.append(item.text or "")
            elif kind in ("tab", "br", "cr"):
                texts.append(" ")
            elif kind == "pStyle":
                level = levels.get(_attribute(item, "val"), 0)
        text = " ".join("".join(texts).split())
        if text:
            yield "#" * level + " " * bool(level) + text


def _read_pdf(path: Path) -> Document:
    from pypdf import PdfReader
    from pypdf.errors import PyPdfError

    # What it says of odd files helps nobody here.
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    parts, marks, offset = [], [], 0
    try:
        reader = PdfReader(path)
        if reader.is_encrypted and not reader.decrypt(""):
            raise InputError(f"{path}: encrypted; save a copy without a password and give that")
        if len(reader.pages) > MAX_PAGES:
            raise _beyond(path, f"{len(reader.pages):,} pages")
        for number, page in enumerate(reader.pages, start=1):
            text = reflowed(page.extract_text())
            marks.append((offset, f"page={number}"))
            parts.append(text)
            offset += len(text) + 2
            if offset > MAX_TEXT_BYTES:
                raise _beyond(path, f"more than {MAX_TEXT_BYTES:,} characters of text")
    # pypdf meets a damaged file with whatever the damage leads to.
    except (PyPdfError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise InputError(f"{path}: not a readable PDF ({error}); print it to PDF again") from error
    return Document(path.name, "\n\n".join(parts), tuple(marks))


def reflowed(text: str) -> str:
    """Return a page's text with the lines of a paragraph joined: a line that ends a sentence ends a block."""
    lines = [line.strip() for line in text.replace("\x00", "").split("\n")]
    width = max(map(len, lines), default=0)
    joined = ""
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        joined += line
        if not line or not following or line[-1] in _ENDS or len(line) < width * 0.7:
            joined += "\n"
        elif line.endswith("-") and following[0].islower():
            joined = joined[:-1]
        elif not (_CJK.match(line[-1]) or _CJK.match(following[0])):
            joined += " "
    return re.sub(r"\n{3,}", "\n\n", joined).strip()


_READERS: Mapping[str, Callable[[Path], Document]] = {
    ".txt": _read_text, ".md": _read_markdown, ".markdown": _read_markdown, ".html": _read_html, ".htm": _read_html,
    ".docx": _read_docx, ".pdf": _read_pdf,
}  # fmt: skip
