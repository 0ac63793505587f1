"""README's measured table and docs/benchmarks.md, made from benchmarks/results/*.json so that they cannot drift."""
