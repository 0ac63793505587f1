"""A request and what came back, as bytes with the times at which they came. Nothing is parsed while load runs."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Exchange:
    """One request; filled in while it runs. Times are seconds of the system's monotonic clock.

    Attributes:
        request: Head and body, ready to be written.
        due_s: When it should be sent.
        sent_s: When it was written to the connection; None: never.
        status: HTTP status; 0 before the head has come.
        headers: Names in lower case.
        chunks: Parts of the body, each with the time at which it came.
        ended_s: When it was over, in whichever way; None while it runs.
        error: Why there is no whole response; "" where there is one.
    """

    request: bytes
    due_s: float = 0.0
    sent_s: float | None = None
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    chunks: list[tuple[float, bytes]] = field(default_factory=list)
    ended_s: float | None = None
    error: str = ""
