"""One process of a training that several share: `python -m training.worker RUN_FOLDER BASE CONFIG`.

Started by training.launch through training.ranks, with its place in the environment.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path
from typing import NoReturn

from data.errors import GroundTuneError
from data.workspace import Run
from training.config import TrainSection
from training.launch import FACTS


def main(arguments: list[str]) -> NoReturn:
    """Train, and end at once: a process that is taken down slowly lets the others fail first, for no good reason."""
    from training.adapter import train_adapter

    folder, base, config = arguments
    place = Path(folder)
    status = 0
    try:
        run = Run(place.name, place, place / "index")
        manifest, _ = train_adapter(run, Path(base), TrainSection.model_validate_json(config))
        if os.environ["LOCAL_RANK"] == "0":
            print(FACTS + json.dumps(manifest.facts))
    except GroundTuneError as error:
        print(f"error: {error}", file=sys.stderr)
        status = error.exit_status
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main(sys.argv[1:])
