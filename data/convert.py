"""A workbook straight to one file for a training tool, as a stream: memory does not grow with the rows.

Nothing is judged or left out but rows with a blank Q or A: a row that stands twice is written twice. A dataset with
ids, held-out questions and a split is `data.prepare`'s work.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from json.encoder import encode_basestring
from pathlib import Path
from typing import BinaryIO, Literal, get_args

from data.artefacts import partial_file
from data.conversations import QuestionStyle, conversation_line, conversations, messages
from data.errors import InputError
from data.knowledge_sheet import KnowledgeSheet, Line, WorkbookChoice, open_knowledge
from data.records import Row
from data.workbook import row_of, usable_lines

ConvertFormat = Literal["json-array", "conversation", "messages", "rows"]
FORMATS: tuple[ConvertFormat, ...] = get_args(ConvertFormat)
# Pieces of a few hundred characters, as a rule.
_WRITTEN_AT_ONCE = 512
_BLOCKS_BEHIND = 2

Placed = tuple[KnowledgeSheet, Line]


@dataclass(frozen=True)
class Converted:
    """What was written, and notes from reading."""

    num_rows: int
    notes: tuple[str, ...]


def convert_workbook(
    choice: WorkbookChoice,
    out: Path,
    format_name: ConvertFormat,
    styles: Sequence[QuestionStyle],
    system: str,
) -> Converted:
    """Write the rows of a workbook to `out`, atomically.

    `json-array` is, byte for byte, what the seed's xlsx2jsonl.py writes of the same texts: the seed style whatever
    `styles` says.

    Raises:
        InputError: the workbook cannot be read, or a Q or A is blank and `choice.skip_empty` is not set.
    """
    notes: list[str] = []
    taken = _Taken()
    placed = _placed(choice, taken, notes)
    with partial_file(out) as beside, beside.open("wb") as file:
        if format_name == "json-array":
            _write_in_blocks(file, _json_array(placed, system))
        else:
            _write_in_blocks(file, _lines(placed, _line_maker(format_name, styles, system)))
        if not taken.num_rows:
            raise InputError(
                f"{choice.path}: no rows to take below the header; add or approve rows, or pass --sheet"
            )
    return Converted(taken.num_rows, tuple(notes))


@dataclass
class _Taken:
    num_rows: int = 0


def _placed(choice: WorkbookChoice, taken: _Taken, notes: list[str]) -> Iterator[Placed]:
    with open_knowledge(choice) as book:
        notes += book.notes
        for sheet in book.sheets:
            left = None if choice.max_rows is None else choice.max_rows - taken.num_rows
            for line in usable_lines(choice, sheet, notes, left):
                taken.num_rows += 1
                yield sheet, line


def _json_array(placed: Iterable[Placed], system: str) -> Iterator[str]:
    """Yield the pieces of json.dump(..., indent=4, ensure_ascii=False) of the seed's conversations."""
    head = (
        '    {\n        "conversation": [\n            {\n                "system": '
        f'{encode_basestring(system)},\n                "input": '
    )
    middle = ',\n                "output": '
    tail = "\n            }\n        ]\n    }"
    before = "[\n" + head
    for _, line in placed:
        cells = line.cells
        asked = f"关于`{cells.get('info_1', '')}`的`{cells.get('info_2', '')}`问题,{cells['Q']}?"
        yield f"{before}{encode_basestring(asked)}{middle}{encode_basestring(cells['A'])}{tail}"
        before = ",\n" + head
    yield "\n]"


def _line_maker(
    format_name: ConvertFormat, styles: Sequence[QuestionStyle], system: str
) -> Callable[[Row], Iterable[object]]:
    if format_name == "rows":
        return lambda row: [asdict(row)]
    if format_name == "messages":
        return lambda row: [
            {"messages": messages(item), "row_id": item.row_id}
            for item in conversations([row], styles, system)
        ]
    return lambda row: [conversation_line(item) for item in conversations([row], styles, system)]


def _lines(placed: Iterable[Placed], objects: Callable[[Row], Iterable[object]]) -> Iterator[str]:
    encode = json.JSONEncoder(ensure_ascii=False).encode
    for sheet, line in placed:
        source = f"{sheet.where}!{sheet.cell(line.number, 'Q')}"
        for made in objects(row_of(line.cells, source)):
            yield encode(made) + "\n"


def _write_in_blocks(file: BinaryIO, pieces: Iterator[str]) -> None:
    """Write in a thread, a block behind: the disk and the reading of rows do not wait for one another."""
    with ThreadPoolExecutor(1, "writing") as thread:
        written: deque[Future[int]] = deque()
        while block := "".join(islice(pieces, _WRITTEN_AT_ONCE)):
            if len(written) > _BLOCKS_BEHIND:
                written.popleft().result()
            written.append(thread.submit(file.write, block.encode()))
        for writing in written:
            writing.result()
