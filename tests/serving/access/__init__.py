"""Tests of keys and budgets."""
