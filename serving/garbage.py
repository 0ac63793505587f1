"""Keeps Python's garbage collector from stopping every stream at once.

A full collection looks at everything that the process holds: modules, routes, models and an index of rows make that
tens of milliseconds in which no event is passed on. They live as long as the service, so they are set aside, and a
collection looks only at what requests have left since then.
"""

from __future__ import annotations

import gc


def settle() -> None:
    """Collect once and set aside whatever is alive: when a service is up, and after its parts were replaced.

    What an earlier call set aside is looked at again, so that parts no longer in use are given back.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
