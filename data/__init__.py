"""The bottom layer: records, workbooks, model folders on disk, configuration. Imports no torch and no Chroma."""
