"""A scripted engine as a process of its own, to be killed: `python -m tests.serving.engine_process PORT ...`."""

from __future__ import annotations

import argparse
import os
import time

import uvicorn

from tests.serving.scripted_engine import ScriptedEngine


def main() -> None:
    """Serve until killed; GET /state tells the process id and what was asked."""
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--texts", type=int, default=3, help="pieces of an answer")
    parser.add_argument("--delay-s", type=float, default=0.0, help="before each piece")
    parser.add_argument("--load-s", type=float, default=0.0, help="before it listens")
    options = parser.parse_args()
    time.sleep(options.load_s)
    engine = ScriptedEngine()
    engine.texts, engine.delay_s = ["字"] * options.texts, options.delay_s
    app = engine.app

    @app.get("/state")
    def state() -> dict[str, int]:
        return {
            "pid": os.getpid(),
            "num_open": engine.num_open,
            "num_cancelled": engine.num_cancelled,
            "num_requests": sum(bool(request.get("stream")) for request in engine.requests),
        }

    uvicorn.run(app, host="127.0.0.1", port=options.port, log_level="warning")


if __name__ == "__main__":
    main()
