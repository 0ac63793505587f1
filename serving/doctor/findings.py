"""What a check says. Knows no check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "note", "fault"]


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report.

    Attributes:
        subject: What was looked at: "memory", "model multilingual-e5-small".
        state: `note`: works, but something is slower or missing that may be wanted; `fault`: a command will fail.
        detail: What was found.
        fix: What to do about it; "" where there is nothing to do.
    """

    subject: str
    state: State
    detail: str
    fix: str = ""
