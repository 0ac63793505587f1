"""Adapts the default embedding to how people ask: what it learns from, the model, the learning."""
