"""Runs llama.cpp's server out of the Python package xllamacpp, which has no command of its own.

    PYTHON -I llamacpp_host.py JSON

JSON: model, alias, port, context, parallel, threads, gpu_layers, cache_type_k, cache_type_v. Runs as a script of
its own, perhaps in another environment, so: standard library and xllamacpp only, nothing of this project.
"""

from __future__ import annotations

import json
import signal
import sys


def main(text: str) -> None:
    """Serve until killed."""
    try:
        import xllamacpp  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        sys.exit("xllamacpp is not installed here; `pip install xllamacpp`, or set serve.llamacpp.binary")
    told = json.loads(text)
    params = xllamacpp.CommonParams()
    params.model.path = told["model"]
    params.model_alias = {told["alias"]}
    params.hostnames = ["127.0.0.1"]
    params.port = told["port"]
    params.n_ctx = told["context"]
    params.n_parallel = told["parallel"]
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = told["threads"]
    params.n_gpu_layers = told["gpu_layers"]
    for side in ("cache_type_k", "cache_type_v"):
        setattr(params, side, getattr(xllamacpp.ggml_type, f"GGML_TYPE_{told[side].upper()}"))
    params.offline = params.use_jinja = params.endpoint_metrics = True
    params.ui = False
    server = xllamacpp.Server(params)
    print(f"listening at {server.listening_address}", flush=True)
    signal.pause()


if __name__ == "__main__":
    main(sys.argv[1])
