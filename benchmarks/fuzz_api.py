"""Property-based requests to everything that /openapi.json of a gateway tells, with and without a key.

    python -m benchmarks.fuzz_api --schemathesis ENV/bin/schemathesis

schemathesis lives in an environment of its own (`python -m venv ENV && ENV/bin/pip install schemathesis==4.32.5`). It
runs its standard checks: no 5xx, answers as the document says, keys asked for where it says so; and what it counts
goes to benchmarks/results/fuzz-api.json. The gateway is a process in front of a scripted engine and three rows
(tests.serving.gateway_process), so that 5xx can only be the gateway's own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.local_services import engine_process, gateway_process
from benchmarks.machine import describe_machine
from data.artefacts import write_json
from serving.access.keys import add_key

RESULT = Path(__file__).parent / "results" / "fuzz-api.json"
# A request that the document allows may still name a field that this engine does not take, which is refused with 400
# by design; whether fields are refused rightly is tested in tests/serving/gateway/test_errors.py.
_NOT_CHECKED = "positive_data_acceptance"


def fuzz(schemathesis: Path, url: str, *, examples: int, seed: int, key: str | None = None) -> dict[str, Any]:
    """Return counts of one run: cases, failures by check, and the statuses that were answered."""
    with tempfile.TemporaryDirectory() as folder:
        events = Path(folder) / "events.ndjson"
        # A row that there is: the document cannot list them.
        (Path(folder) / "schemathesis.toml").write_text(
            f'[[operations]]\ninclude-path = "/kb/rows/{{row_id}}"\nparameters = {{ row_id = "{_a_row()}" }}\n'
        )
        argv = [
            *(str(schemathesis), "run", f"{url}/openapi.json", "--max-examples", str(examples)),
            *("--seed", str(seed), "--continue-on-failure", "--no-color", "--exclude-checks", _NOT_CHECKED),
            *("--report", "ndjson", "--report-ndjson-path", str(events), "--request-timeout", "20"),
            *(("-H", f"Authorization: Bearer {key}") if key else ()),
        ]
        done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False)
        if not events.is_file():
            sys.exit(f"schemathesis did not run: {done.stdout}{done.stderr}")
        counts = counts_of(events.read_text(encoding="utf-8").splitlines())
    if done.returncode:
        print(done.stdout, file=sys.stderr)
    return {"exit_status": done.returncode, **counts}


def counts_of(lines: Sequence[str]) -> dict[str, Any]:
    """Return what a run's events tell: each case once, each failed check."""
    statuses: Counter[str] = Counter()
    failures: Counter[str] = Counter()
    for line in lines:
        for scenario in _recorders(json.loads(line)):
            for interaction in scenario.get("interactions", {}).values():
                response = interaction.get("response") or {}
                statuses[str(response.get("status_code", "none"))] += 1
            for checks in scenario.get("checks", {}).values():
                failures.update(check["name"] for check in checks if check["status"] == "failure")
    return {
        "cases": sum(statuses.values()),
        "statuses": dict(sorted(statuses.items())),
        "server_errors": sum(number for status, number in statuses.items() if status.startswith("5")),
        "failed_checks": dict(sorted(failures.items())),
    }


def _recorders(event: Any) -> list[dict[str, Any]]:
    """Return every recording of a scenario within an event."""
    if not isinstance(event, dict):
        return []
    found = [event["recorder"]] if isinstance(event.get("recorder"), dict) else []
    return found + [recorder for value in event.values() for recorder in _recorders(value)]


def _a_row() -> str:
    from tests.serving.knowledge import ROWS

    return ROWS[0].row_id


def main() -> None:
    """Fuzz without keys, with one, and without the key where one is asked for; write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--schemathesis", type=Path, required=True, help="its program")
    parser.add_argument("--examples", type=int, default=300, help="per operation and phase")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    program, examples, seed = options.schemathesis.absolute(), options.examples, options.seed
    runs = {}
    with tempfile.TemporaryDirectory() as folder, engine_process() as engine:
        with gateway_process(engine, "--rows") as url:
            runs["no keys configured"] = fuzz(program, url, examples=examples, seed=seed)
        keys = Path(folder) / "keys.json"
        secret = add_key(keys, "fuzz")
        with gateway_process(engine, "--rows", "--keys", str(keys)) as url:
            runs["with a key"] = fuzz(program, url, examples=examples, seed=seed + 1, key=secret)
    version = subprocess.run([str(program), "--version"], capture_output=True, text=True, check=True).stdout
    result = {
        "benchmark": "fuzz-api",
        **describe_machine(("fastapi", "starlette", "uvicorn", "pydantic")),
        "schemathesis": version.split()[-1],
        "command": f"python -m benchmarks.fuzz_api --schemathesis ENV/bin/schemathesis --examples {examples} "
        f"--seed {seed}",
        "not_checked": _NOT_CHECKED,
        "runs": runs,
        "cases": sum(run["cases"] for run in runs.values()),
        "server_errors": sum(run["server_errors"] for run in runs.values()),
        "failures": sum(sum(run["failed_checks"].values()) for run in runs.values()),
    }
    write_json(options.out, result)
    print(json.dumps(result, indent=2, ensure_ascii=False))
    if result["server_errors"] or result["failures"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
