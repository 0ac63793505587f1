"""From rows to an index to grounded context."""
