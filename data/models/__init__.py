"""Models on disk: fetched, unpacked, checked. Imports neither torch nor transformers."""
