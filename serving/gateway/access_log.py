"""One line of JSON for each request: who, what, how long, how many tokens. Questions and answers only where asked."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from typing import Any

from serving.gateway.record import RequestRecord


class AccessLog:
    """An observer of requests that writes a line for each; health checks and metrics are left out."""

    def __init__(self, write: Callable[[str], None]) -> None:
        """`write` gets a line without its end."""
        self._write = write

    def __call__(self, record: RequestRecord) -> None:
        """Write the request's line."""
        if record.path.startswith("/health/") or record.path == "/metrics":
            return
        self._write(json.dumps(log_entry(record), ensure_ascii=False))


def log_entry(record: RequestRecord) -> dict[str, Any]:
    """Return what the log says of a request; what is not known of it is left out."""
    now = datetime.datetime.fromtimestamp(record.clock.now_s(), datetime.UTC)
    duration_ms = ((record.ended_s or record.clock.elapsed_s()) - record.started_s) * 1000
    stages = {f"{name}_ms": round(value, 1) for name, value in record.marks.items() if name != "total"}
    entry = {
        "time": now.isoformat(timespec="milliseconds"),
        "request_id": record.request_id,
        "client": record.client,
        "key": record.key.name if record.key else None,
        "method": record.method,
        "path": record.path,
        "status": record.status,
        "error": record.error,
        "model": record.model or None,
        "duration_ms": round(duration_ms, 1),
        **stages,
        "prompt_tokens": record.tokens("prompt_tokens"),
        "completion_tokens": record.tokens("completion_tokens"),
        "refusal": record.is_refusal or None,
        "retries": record.num_retries or None,
        "prompt": record.prompt,
    }
    return {name: value for name, value in entry.items() if value is not None}
