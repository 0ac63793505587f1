"""GroundTune's gateway as `groundtune serve` runs it, in front of an engine that runs already, on a port of its own.

python -m benchmarks.gateway.served PORT UPSTREAM
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from serving.engines.external import external_engine
from serving.gateway.models import ModelTable, ServedModel
from serving.gateway.parts import GatewaySettings
from serving.lineup import Lineup
from serving.service import Service, run_service


def main() -> None:
    """Serve until terminated."""
    port, upstream = int(sys.argv[1]), sys.argv[2]
    models = ModelTable([ServedModel("base", external_engine("base", (upstream,), "m"))])
    with TemporaryDirectory() as folder:
        service = Service(
            lineup=Lineup(models, ()),
            settings=GatewaySettings(max_running=1024, max_requests=1024),
            host="127.0.0.1",
            port=port,
            start_timeout_s=30.0,
            run_folder=Path(folder),
            open_knowledge=None,
        )
        run_service(service, lambda _: None)


if __name__ == "__main__":
    main()
