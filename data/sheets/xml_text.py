"""Finding the elements of one name in a large XML part, fast where the part is as spreadsheet programs write it.

Such a part is plain: UTF-8, no namespace prefix, no comments. Its elements are cut out of the text by their end
tags, without an event for each tag. From the first character that is not plain, expat reads on and writes each
element anew in the plain form, so that there is one form to understand.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from data.errors import InputError
from data.sheets import limits
from data.sheets.archive import declares, local_name

_DECLARATION = re.compile(rb"\s*<\?xml\s[^>]*?\?>")
_UTF8 = re.compile(rb"encoding\s*=\s*[\"']utf-?8[\"']", re.IGNORECASE)
_REFERENCE = re.compile(r"&(?:#x([0-9a-fA-F]{1,6})|#([0-9]{1,7})|(amp|lt|gt|quot|apos));|&")
_NAMED = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}
# How Excel writes what XML cannot hold, and a text that looks like that.
_ESCAPED = re.compile(r"_x([0-9A-Fa-f]{4})_")
_SURROGATES = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_ATTRIBUTE = re.compile(r"\s*([\w:.-]+)\s*=\s*(?:\"([^\"<]*)\"|'([^'<]*)')")
_RUN_TEXT = re.compile(r"<t(?:\s[^>]*)?>([^<]*)</t>")
_PHONETIC = re.compile(r"<rPh\b.*?</rPh>", re.DOTALL)
_DAMAGED = "open it in Excel and save it again"


class TextScanner:
    """Cuts the elements named `tag` out of a part; none holds another of that name."""

    def __init__(self, path: Path, part: str, tag: str, container: str) -> None:
        self._path = path
        self._part = part
        self._tag = tag
        self._container = container

    def elements(self, content: Iterable[bytes]) -> Iterator[tuple[str, str]]:
        """Yield (attributes, inner XML) of each element, in order.

        Raises:
            InputError: the part is not XML, ends early, declares entities, or an element is beyond a limit.
        """
        for text in self.chunks(content):
            yield from self.split(text)

    def split(self, text: str) -> Iterator[tuple[str, str]]:
        """Yield (attributes, inner XML) of each element of a chunk.

        Raises:
            InputError: the tags do not match.
        """
        start_tag = f"<{self._tag}"
        *whole, behind = text.split(f"</{self._tag}>")
        for piece in whole:
            place = piece.rfind(start_tag)
            close = piece.find(">", place)
            if place < 0 or close < 0:
                raise self._damaged(f"<{self._tag}> ends where none began")
            if place and start_tag in piece[:place]:
                yield from self._empty_ones(piece[:place])
            yield piece[place + len(start_tag) : close], piece[close + 1 :]
        if start_tag in behind:
            yield from self._empty_ones(behind)

    def chunks(self, content: Iterable[bytes]) -> Iterator[str]:
        """Yield the part in the plain form, cut behind elements: each chunk has whole ones, and what is between.

        Raises:
            InputError: as for `elements`.
        """
        for chunk in self.raw_chunks(content):
            yield self.decoded(chunk)

    def raw_chunks(self, content: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the chunks of `chunks` as UTF-8, not yet looked at: `decoded` refuses one that is not.

        Raises:
            InputError: as for `elements`.
        """
        remaining = iter(content)
        first = next(remaining, b"")
        if not self._is_plain_start(first):
            yield from self._by_expat([first], remaining)
            return
        raw = _DECLARATION.sub(b"", first.removeprefix(codecs.BOM_UTF8), count=1)
        start, end_tag, end = (
            text.encode() for text in (f"<{self._container}", f"</{self._tag}>", f"</{self._container}>")
        )
        while True:
            # One character is looked for many times faster than two.
            if (b"!" in raw and b"<!" in raw) or (b"?" in raw and b"<?" in raw):
                opening = b"" if start in raw else start + b">"
                yield from self._by_expat([opening + raw], remaining)
                return
            if (place := raw.rfind(end_tag)) >= 0:
                place += len(end_tag)
                yield raw[:place]
                raw = raw[place:]
            if end in raw:
                yield raw[: raw.find(end)]
                return
            # A block may end within a character.
            if (
                len(raw) > limits.MAX_ROW_CHARS
                and (size := len(raw.decode(errors="ignore"))) > limits.MAX_ROW_CHARS
            ):
                raise limits.beyond(
                    self._path, f"{self._part} has a <{self._tag}> of over {size:,} characters"
                )
            block = next(remaining, None)
            if block is None:
                if re.search(rb"%b(?:\s[^>]*)?/>" % start, raw):
                    return
                raise self._damaged("it ends early")
            raw += block

    def decoded(self, raw: bytes) -> str:
        """Return a chunk's text, line ends as XML has them.

        Raises:
            InputError: it is not UTF-8.
        """
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            raise self._damaged(str(error)) from error
        return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text

    def _is_plain_start(self, block: bytes) -> bool:
        head = block[:2000].removeprefix(codecs.BOM_UTF8)
        declaration = _DECLARATION.match(head)
        if declaration and b"encoding" in declaration[0] and not _UTF8.search(declaration[0]):
            return False
        root = head[declaration.end() if declaration else 0 :].lstrip()
        return re.match(rb"<[A-Za-z]+[\s>]", root) is not None and b"\x00" not in head

    def _empty_ones(self, text: str) -> Iterator[tuple[str, str]]:
        found = re.findall(rf"<{self._tag}((?:\s[^>]*)?)/>", text)
        if len(found) != text.count(f"<{self._tag}"):
            raise self._damaged(f"a <{self._tag}> has no end")
        for attributes in found:
            yield attributes, ""

    def _by_expat(self, first: list[bytes], remaining: Iterator[bytes]) -> Iterator[bytes]:
        rewriter = _Rewriter(self._path, self._part, self._tag, self._container)
        for blocks in (first, remaining):
            for block in blocks:
                for attributes, inner in rewriter.feed(block):
                    yield f"<{self._tag}{attributes}>{inner}</{self._tag}>".encode()
                if rewriter.ended:
                    return
        raise self._damaged("it ends early")

    def _damaged(self, why: str) -> InputError:
        return InputError(f"{self._path}: {self._part} is damaged ({why}); {_DAMAGED}")


class _Rewriter:
    """Reads XML of any form and gives back its elements of one name in the plain form."""

    def __init__(self, path: Path, part: str, tag: str, container: str) -> None:
        self._where = (path, part)
        self._tag = tag
        self._container = container
        self._parts: list[str] | None = None
        self._size = 0
        self._head = ""
        self._done: list[tuple[str, str]] = []
        self.ended = False
        self._parser = expat.ParserCreate()
        self._parser.ordered_attributes = True
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text
        self._parser.StartDoctypeDeclHandler = self._refuse

    def feed(self, block: bytes) -> list[tuple[str, str]]:
        """Return the elements that end in this block."""
        self._done = []
        try:
            self._parser.Parse(block)
        except expat.ExpatError as error:
            if not self.ended:
                path, part = self._where
                raise InputError(f"{path}: {part} is damaged ({error}); {_DAMAGED}") from error
        return self._done

    def _refuse(self, *_: Any) -> None:
        raise declares(*self._where)

    def _start(self, name: str, attributes: list[str]) -> None:
        pairs = zip(attributes[::2], attributes[1::2], strict=True)
        head = " " + " ".join(f"{key}={quoteattr(value)}" for key, value in pairs)
        if self._parts is not None:
            self._add(f"<{local_name(name)}{head}>")
        elif local_name(name) == self._tag and not self.ended:
            self._parts, self._size, self._head = [], 0, head

    def _end(self, name: str) -> None:
        local = local_name(name)
        if self._parts is None:
            self.ended = self.ended or local == self._container
        elif local == self._tag:
            self._done.append((self._head, "".join(self._parts)))
            self._parts = None
        else:
            self._add(f"</{local}>")

    def _text(self, text: str) -> None:
        if self._parts is not None:
            self._add(escape(text))

    def _add(self, text: str) -> None:
        assert self._parts is not None, "inside an element"
        self._parts.append(text)
        self._size += len(text)
        if self._size > limits.MAX_ROW_CHARS:
            path, part = self._where
            raise limits.beyond(path, f"{part} has a <{self._tag}> of over {self._size:,} characters")


def rewritten(path: Path, part: str, tag: str, attributes: str, inner: str) -> tuple[str, str]:
    """Return one element's (attributes, inner XML) in the plain form.

    Raises:
        InputError: it is not well-formed.
    """
    rewriter = _Rewriter(path, part, tag, "part")
    elements = rewriter.feed(
        f"<part><{tag}{attributes}>{inner}</{tag}></part>".encode("utf-8", "surrogatepass")
    )
    if len(elements) != 1:
        raise InputError(f"{path}: {part} is damaged (<{tag}> in <{tag}>); {_DAMAGED}")
    return elements[0]


def attributes_of(text: str) -> dict[str, str]:
    """Return the attributes of a start tag; empty for what is not a list of attributes."""
    found: dict[str, str] = {}
    place = 0
    while match := _ATTRIBUTE.match(text, place):
        found[match[1]] = plain_text(match[2] if match[2] is not None else match[3])
        place = match.end()
    return found if not text[place:].strip() else {}


def plain_text(raw: str) -> str:
    """Return character data as text: references resolved, and Excel's `_x000D_` as the character it stands for."""
    if "&" in raw:
        raw = _REFERENCE.sub(_character, raw)
    if "_x" in raw:
        raw = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), raw)
        raw = _SURROGATES.sub(lambda found: found[0].encode("utf-16", "surrogatepass").decode("utf-16"), raw)
    return raw


def _character(found: re.Match[str]) -> str:
    hexadecimal, decimal, name = found.groups()
    if name:
        return _NAMED[name]
    if hexadecimal or decimal:
        code = int(hexadecimal, 16) if hexadecimal else int(decimal)
        return chr(code) if code < 0x110000 else "\ufffd"
    # A bare ampersand, or an entity that nothing declares: not XML, and shown as it stands.
    return found[0]


def element_text(inner: str) -> str:
    """Return the text of `<si>` or `<is>`: its runs joined, reading aids (`<rPh>`) left out."""
    if "<rPh" in inner:
        inner = _PHONETIC.sub("", inner)
    return "".join(plain_text(run) for run in _RUN_TEXT.findall(inner))
