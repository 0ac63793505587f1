"""The same load on each engine that this machine can run."""
