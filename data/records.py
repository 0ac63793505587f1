"""The records that the whole project passes around: a knowledge row and an evaluation question.

Also their JSON Lines form. Knows nothing of workbooks.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from data.artefacts import write_text
from data.errors import InputError

_SPACES = re.compile(r"\s+")
_ID_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the knowledge base.

    `row_id` names the question (info_1, info_2, Q) and stays when the answer is edited; `revision` names the
    answer; `source` is where a person finds it, as in `知识库内容.xlsx#知识库!A17`.
    """

    row_id: str
    revision: str
    info_1: str
    info_2: str
    question: str
    answer: str
    source: str

    @property
    def title(self) -> str:
        """What a citation shows: `高血压 · 饮食 · question`, without the parts that are blank."""
        return " · ".join(part for part in (self.info_1, self.info_2, self.question) if part)


@dataclass(frozen=True, slots=True)
class HeldOutQuestion:
    """A question kept for evaluation; `row_id` is the row that answers it, or "" where none does."""

    question: str
    row_id: str
    answer: str
    source: str


def normalised(text: str) -> str:
    """Return `text` as it is hashed and compared: NFKC, one space for any white space, case folded."""
    return _SPACES.sub(" ", unicodedata.normalize("NFKC", text)).strip().casefold()


def row_id_of(info_1: str, info_2: str, question: str) -> str:
    """Return the id of a question: 12 hex digits of the SHA-256 of its three normalised cells."""
    return _short_hash("\x1f".join(normalised(part) for part in (info_1, info_2, question)))


def revision_of(answer: str) -> str:
    """Return the id of an answer's wording: 12 hex digits of the SHA-256 of the normalised cell."""
    return _short_hash(normalised(answer))


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_ID_DIGITS]


Record = TypeVar("Record", Row, HeldOutQuestion)


def write_records(path: Path, records: Iterable[Row | HeldOutQuestion]) -> None:
    """Write records as JSON Lines, atomically."""
    write_text(path, "".join(json.dumps(asdict(record), ensure_ascii=False) + "\n" for record in records))


def read_records(path: Path, kind: type[Record], known: dict[str, Record] | None = None) -> list[Record]:
    """Read back what `write_records` wrote.

    `known` maps lines that were read before to their records, and gets those of this file: of two files that share
    most lines, the second is read in a tenth of the time.

    Raises:
        InputError: the file is missing, or a line of it is not a record of `kind`; names the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: not there; run `groundtune data prepare` first") from None
    known = {} if known is None else known
    records = []
    for number, line in enumerate(text.split("\n"), start=1):
        if (record := known.get(line)) is None:
            if not line.strip():
                continue
            try:
                known[line] = record = kind(**json.loads(line))
            except (ValueError, TypeError) as error:
                raise InputError(f"{path}:{number}: not a {kind.__name__} record ({error})") from error
        records.append(record)
    return records
